#!/bin/sh
# What 'edgeseg deploy' does on a board. It is sent with every command, and nothing is installed there:
#   sh -c THIS edgeseg-deploy look ARGUMENT...
#   sh -c THIS edgeseg-deploy locked ROOT TOKEN STEP ARGUMENT...
# ROOT/models/DIGEST.edgeseg   models, by their SHA-256
# LINK                         to the one that the service runs
# ROOT/previous.edgeseg        to the one before it
# ROOT/pending                 "OLD NEW deploy|back" from before the link is switched until NEW was seen to be well: what a run that
#                              was killed leaves, and the next one takes up
# ROOT/lock                    link to "TOKEN WHO" while a deployment is at work
# ROOT/lock.TOKEN              "BOOT MOMENT PID START": when its latest step began or ended, and the process of it
set -u
export LC_ALL=C
umask 022

# Tried by: the health address of a run. A proxy would not reach the board itself.
ASK='
import sys, urllib.request
try:
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(sys.argv[1], timeout=5).close()
except Exception as error:
    sys.exit("%s: %s" % (sys.argv[1], error))
'

fail() {
  echo "$*" >&2
  exit 1
}

digest_of() { # FILE
  if [ -f "$1" ]; then
    found=$(sha256sum < "$1") || exit 1
    echo "${found%% *}"
  else
    echo none
  fi
}

kept() { # PATH...: survives a power cut
  sync -- "$@" 2> /dev/null || sync
}

note() { # FILE TEXT
  printf '%s\n' "$2" > "$1.new" || exit 1
  kept "$1.new"
  mv -f -- "$1.new" "$1" || exit 1
}

point() { # TARGET LINK: one rename, so that the link leads somewhere at any moment
  rm -f -- "$2.new"
  ln -s -- "$1" "$2.new" && mv -f -- "$2.new" "$2" || exit 1
  kept "${2%/*}"
}

since_boot() { # hundredths of a second that no clock setting changes
  read -r up _ < /proc/uptime
  echo "${up%.*}${up#*.}"
}

started() { # PID: when it was, so that another process of that number is none
  { read -r line < "/proc/$1/stat"; } 2> /dev/null || return 0
  # shellcheck disable=SC2086
  set -- ${line##*) }
  echo "${20}"
}

seen() { # FILE PID; a full disk is what the step itself says
  read -r boot < /proc/sys/kernel/random/boot_id
  { printf '%s %s %s %s\n' "$boot" "$(since_boot)" "$2" "$(started "$2")" > "$1"; } 2> /dev/null
}

at_work() { # FILE: the process of its step runs
  { read -r boot moment pid start < "$1"; } 2> /dev/null || return 1
  read -r this < /proc/sys/kernel/random/boot_id
  [ "$boot" = "$this" ] && [ -n "$start" ] && [ "$(started "$pid")" = "$start" ]
}

left() { # FILE: nobody has been there for 30 s, or the board has started since
  ! at_work "$1" || return 1
  { read -r boot moment _ < "$1"; } 2> /dev/null || return 0
  read -r this < /proc/sys/kernel/random/boot_id
  [ "$boot" != "$this" ] || [ $(($(since_boot) - moment)) -gt 3000 ]
}

taken() { # ROOT TOKEN WHO GONE: take the lock; where somebody else has it, say who
  lock=$(readlink "$1/lock") || lock=''
  owner=${lock%% *}
  [ "$owner" != "$2" ] || return 0
  if [ -n "$lock" ]; then
    tries=120 # a program has 10 s to end
    while [ "$owner" = "$4" ] && at_work "$1/lock.$owner" && [ "$tries" -gt 0 ]; do # its step notices, and ends
      tries=$((tries - 1))
      sleep 0.1
    done
    # A program of another user, which sudo started, nobody ends here.
    if at_work "$1/lock.$owner" || { [ "$owner" != "$4" ] && ! left "$1/lock.$owner"; }; then
      echo "busy $lock"
      return 1
    fi
    rm -f -- "$1/lock"
  fi
  rm -f -- "$1"/lock.*
  seen "$1/lock.$2" 0
  ln -s -- "$2 $3" "$1/lock" || fail "$1/lock cannot be made"
}

locked() { # ROOT TOKEN STEP ARGUMENT...: a step of the deployment that has the lock; it ends with the connection
  root=$1 token=$2
  shift 2
  lock=$(readlink "$root/lock") || lock=''
  [ "${lock%% *}" = "$token" ] || fail "somebody else took the deployment over; run it again"
  seen "$root/lock.$token" $$
  case $1 in
    copy | key) ("$@") ;;
    *)
      exec 3<&0
      ("$@") < /dev/null 3<&- &
      work=$!
      { cat && kill "$work"; } <&3 > /dev/null 2>&1 &
      watching=$!
      wait "$work"
      ;;
  esac
  code=$?
  kill "${watching:-}" 2> /dev/null
  [ "$1" = unlock ] || seen "$root/lock.$token" 0
  exit "$code"
}

unlock() { # ROOT TOKEN
  rm -f -- "$1/lock" "$1/lock.$2"
}

program() { # SECONDS WORD...
  unset LC_ALL
  if command -v timeout > /dev/null; then
    exec timeout -k 10 "$@"
  fi
  shift
  exec "$@"
}

look() { # ROOT LINK WANTED TOKEN WHO GONE
  root=$1 link=${2:-$1/current.edgeseg}
  case $root in /*) ;; *) root=$PWD/$root ;; esac
  case $link in /*) ;; *) link=$PWD/$link ;; esac
  mkdir -p -- "$root/models" 2> /dev/null && [ -w "$root" ] && [ -w "$root/models" ] \
    || fail "$root cannot be written by $(id -un) there; make it once: sudo install -d -o $(id -un) $root"
  [ ! -d "$link" ] || fail "$link is a folder there, and should be the model that the service runs"
  [ -w "${link%/*}" ] || fail "${link%/*} cannot be written by $(id -un) there, so $link cannot be switched"
  exec 9< "$root"
  flock 9 2> /dev/null # of two that take it in the same moment one waits, where there is such a program
  taken "$root" "$4" "$5" "$6" || exit 0
  exec 9<&-
  echo "root $root"
  echo "link $link"
  live=$(digest_of "$link") || exit 1
  held=$(digest_of "$root/models/$3.edgeseg") || exit 1
  echo "live $live"
  echo "held $held"
  if [ -h "$root/previous.edgeseg" ]; then
    previous=$(digest_of "$root/previous.edgeseg") || exit 1
    echo "previous $previous"
  fi
  if [ -f "$root/pending" ]; then
    echo "pending $(cat "$root/pending")"
  fi
}

serves() { # LINK SERVICE SYSTEMCTL...
  link=$1 service=$2 seen=no
  shift 2
  shown=$("$@" show --property=LoadState,ExecStart "$service") || exit 1
  case $shown in *LoadState=not-found*) fail "there is no $service there; 'edgeseg service install' makes one" ;; esac
  case $shown in *"$link"*) return ;; esac
  set -f
  for word in $shown; do
    case $word in
      /*.toml | /*.json)
        [ -r "$word" ] || return 0 # secrets in it: it cannot be known
        seen=$word
        ! grep -qF -- "$link" "$word" || return 0
        ;;
    esac
  done
  if [ "$seen" = no ]; then
    # A program of the user's own may name the link wherever it likes; one that names another bundle does not.
    case $shown in *.edgeseg*) ;; *) return 0 ;; esac
  else
    service="$service ($seen)"
  fi
  fail "$service does not name $link, so it would go on with another model; give it that path, or name its own as \`link\`"
}

copy() { # ROOT DIGEST TOKEN; the file comes on standard input
  cd -- "$1/models" || exit 1
  rm -f -- "$2".part.*
  part=$2.part.$3
  trap 'rm -f -- "$part"' EXIT
  trap 'exit 1' HUP INT TERM PIPE
  cat > "$part" || exit 1
  arrived=$(digest_of "$part") || exit 1
  [ "$arrived" = "$2" ] || fail "what arrived is not what was sent: SHA-256 $arrived"
  kept "$part"
  mv -f -- "$part" "$2.edgeseg" || exit 1
  kept .
}

key() { # ROOT DIGEST; the public keys come on standard input
  mkdir -p -- "$1/keys" && cd -- "$1/keys" || exit 1
  cat > "$2.new" || exit 1
  mv -f -- "$2.new" "$2.pem" || exit 1
}

drop() { # ROOT LINK DIGEST: a model that was copied for nothing
  [ "$(digest_of "$2")" = "$3" ] || [ "$(digest_of "$1/previous.edgeseg")" = "$3" ] \
    || rm -f -- "$1/models/$3.edgeseg"
}

switch() { # ROOT LINK OLD NEW deploy|back
  live=$(digest_of "$2") || exit 1
  [ "$live" = "$3" ] || fail "$2 was switched by somebody else meanwhile; run it again"
  if [ "$3" != none ] && [ "$(digest_of "$1/models/$3.edgeseg")" != "$3" ]; then
    cp -- "$2" "$1/models/$3.part.own" && mv -f -- "$1/models/$3.part.own" "$1/models/$3.edgeseg" || exit 1
    kept "$1/models/$3.edgeseg" "$1/models"
  fi
  note "$1/pending" "$3 $4 $5"
  kept "$1"
  point "$1/models/$4.edgeseg" "$2"
}

back() { # ROOT LINK: to what was live before the switch
  read -r old new _ < "$1/pending" || fail "$1/pending cannot be read"
  if [ "$old" = none ]; then
    [ ! -h "$2" ] || rm -f -- "$2"
    return
  fi
  [ "$(digest_of "$1/models/$old.edgeseg")" = "$old" ] || fail "$1/models/$old.edgeseg is gone or damaged"
  point "$1/models/$old.edgeseg" "$2"
}

forget() { # ROOT: the board is as it was before the switch
  rm -f -- "$1/pending"
  kept "$1"
}

settle() { # ROOT LINK NEW: it is well
  read -r old new _ < "$1/pending" || fail "somebody else took the deployment over; run it again"
  [ "$new" = "$3" ] && [ "$(digest_of "$2")" = "$3" ] || fail "$2 was switched by somebody else meanwhile; run it again"
  [ "$old" = none ] || [ "$old" = "$new" ] || point "$1/models/$old.edgeseg" "$1/previous.edgeseg"
  before=$(readlink "$1/previous.edgeseg") || before=
  for file in "$1"/models/*.edgeseg; do
    name=${file##*/}
    case ${name%.edgeseg} in *[!0-9a-f]*) continue ;; esac # somebody's own
    [ ${#name} -ne 72 ] || [ "$name" = "$new.edgeseg" ] || [ "$name" = "${before##*/}" ] || rm -f -- "$file"
  done
  forget "$1"
}

restart() { # SERVICE SYSTEMCTL...
  service=$1
  shift
  "$@" reset-failed "$service" 2> /dev/null # so that one that failed often is started all the same
  said=$("$@" restart "$service" 2>&1) || fail "$(echo "$said" | tr '\n' ' ')"
}

halt() { # SERVICE SYSTEMCTL...
  service=$1
  shift
  "$@" stop "$service" || exit 1
}

watch() { # SERVICE HEALTH NEEDED PATIENCE INTERVAL SYSTEMCTL...: well for NEEDED on end, within PATIENCE
  service=$1 health=$2 needed=$3 patience=$4 interval=$5 since='' first='' began=$(since_boot)
  shift 5
  while :; do
    shown=$("$@" show --property=ActiveState,NRestarts "$service") || exit 1
    active='' restarts=0
    while IFS='=' read -r key value; do
      case $key in ActiveState) active=$value ;; NRestarts) restarts=$value ;; esac
    done << END
$shown
END
    first=${first:-$restarts}
    [ "$restarts" = "$first" ] || fail "$service ended by itself and was started again"
    why=''
    case $active in
      active) [ -z "$health" ] || why=$(python3 -c "$ASK" "$health" 2>&1) || why=${why:-$health does not answer} ;;
      failed | inactive) fail "$service is $active" ;;
      *) why="$service is $active" ;;
    esac
    moment=$(since_boot)
    if [ -n "$why" ]; then
      since=''
    else
      since=${since:-$moment}
      [ $((moment - since)) -lt "$needed" ] || return 0
    fi
    [ $((moment - began)) -lt "$patience" ] || fail "not well for long enough: ${why:-it came and went}"
    sleep "$interval"
  done
}

"$@"
