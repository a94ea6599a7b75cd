#!/usr/bin/env bash
# Shows and sets a Jetson's power mode. Without an option it only shows. Numbers mean nothing across boards, so modes go by name.
set -euo pipefail

usage() {
  cat <<'END'
usage: jetson/power-mode.sh [options]

  (none)           show the modes and which one is set
  --max            the fastest mode: MAXN_SUPER, else MAXN, else most watts, then most cores
  --mode NAME      this mode
  --lock-clocks    hold the clocks at their highest (jetson_clocks); they are remembered first
  --restore        back to the mode and the clocks from before
  --yes            do not ask
  --dry-run        print the commands; change nothing
  --root DIR       read the files under DIR instead of / (for tests)

Changing needs root: the commands go through sudo. Some changes need a reboot; nvpmodel then asks by itself.
END
}

die() {
  echo "power-mode: $*" >&2
  exit 1
}

run() {
  printf '+'
  printf ' %q' "$@"
  printf '\n'
  [ -n "$DRY_RUN" ] || "$@"
}

WANT='' LOCK='' RESTORE='' YES='' DRY_RUN='' ROOT=''
while [ $# -gt 0 ]; do
  case $1 in
    --max) WANT=max ;;
    --lock-clocks) LOCK=yes ;;
    --restore) RESTORE=yes ;;
    --yes) YES=yes ;;
    --dry-run) DRY_RUN=yes ;;
    --mode | --root)
      [ $# -ge 2 ] || {
        echo "power-mode: $1 needs a value" >&2
        exit 2
      }
      if [ "$1" = --mode ]; then WANT=name:$2; else ROOT=${2%/}; fi
      shift
      ;;
    -h | --help)
      usage
      exit 0
      ;;
    *)
      echo "power-mode: unknown option $1" >&2
      usage >&2
      exit 2
      ;;
  esac
  shift
done
[ -z "$RESTORE" ] || [ -z "$WANT$LOCK" ] || {
  echo "power-mode: --restore goes alone" >&2
  exit 2
}

STATE=${XDG_STATE_HOME:-$HOME/.local/state}/edgeseg
SUDO=sudo
[ "$(id -u)" != 0 ] || SUDO=''

# "ID NAME" per line.
modes() { sed -nE 's/^[[:space:]]*<[[:space:]]*POWER_MODEL[[:space:]]+ID=([0-9]+)[[:space:]]+NAME=([^[:space:]>]+).*/\1 \2/p' "$ROOT/etc/nvpmodel.conf"; }
mode_id() { modes | awk -v name="$1" '$2 == name { print $1; exit }'; }
current() {
  local id
  id=$(sed -nE 's/.*pmode:0*([0-9]+).*/\1/p' "$ROOT/var/lib/nvpmodel/status" 2>/dev/null | head -n 1) || true
  [ -z "$id" ] || modes | awk -v id="$id" '$1 == id { print $2; exit }'
}

# MAXN_SUPER, else MAXN, else the most watts in the name, then the most cores.
fastest() {
  modes | awk '
    { watts = 0; cores = 0; rank = 0
      if (match($2, /[0-9]+W/)) watts = substr($2, RSTART, RLENGTH - 1) + 0
      if (match($2, /[0-9]+CORE/)) cores = substr($2, RSTART, RLENGTH - 4) + 0
      if ($2 ~ /MAXN$/) rank = 1
      if ($2 ~ /MAXN_SUPER$/) rank = 2
      key = rank * 1000000 + watts * 100 + cores
      if (key > best) { best = key; name = $2 } }
    END { print name }'
}

show() {
  local id name now
  now=$(current)
  modes | while read -r id name; do
    if [ "$name" = "$now" ]; then echo "* $name ($id)"; else echo "  $name ($id)"; fi
  done
  [ -n "$now" ] || echo "which one is set is not recorded in /var/lib/nvpmodel/status; ask: sudo nvpmodel -q"
}

confirm() {
  [ -z "$YES$DRY_RUN" ] || return 0
  [ -t 0 ] || die "$1: asks first, and there is no terminal; pass --yes"
  local answer
  read -rp "$1 [y/N] " answer
  [[ $answer == [yY] ]] || die "left as it was"
}

# set_mode NAME [remember]: only the first change is remembered, so that --restore goes back to what the user had.
set_mode() {
  local id now
  id=$(mode_id "$1")
  [ -n "$id" ] || die "no mode $1 on this board; there are: $(modes | awk '{ printf "%s ", $2 }')"
  now=$(current)
  if [ "$now" = "$1" ]; then
    echo "already in $1"
    return
  fi
  confirm "switch from ${now:-an unknown mode} to $1?"
  if [ "${2:-}" = remember ] && [ -z "$DRY_RUN" ] && [ -n "$now" ] && [ ! -e "$STATE/power-mode" ]; then
    mkdir -p "$STATE"
    echo "$now" >"$STATE/power-mode"
  fi
  run ${SUDO:+"$SUDO"} nvpmodel -m "$id"
  [ -n "$DRY_RUN" ] || [ "$(current)" = "$1" ] || echo "$1 is not in force yet; it takes a reboot"
}

lock_clocks() {
  confirm "hold all clocks at their highest?"
  run mkdir -p "$STATE"
  [ -e "$STATE/clocks" ] || run ${SUDO:+"$SUDO"} jetson_clocks --store "$STATE/clocks"
  run ${SUDO:+"$SUDO"} jetson_clocks
}

restore() {
  [ -e "$STATE/clocks" ] || [ -e "$STATE/power-mode" ] || die "nothing to restore: this script has changed nothing since the last --restore"
  if [ -e "$STATE/clocks" ]; then
    confirm "let the clocks go?"
    run ${SUDO:+"$SUDO"} jetson_clocks --restore "$STATE/clocks"
    run rm -f "$STATE/clocks"
  fi
  if [ -e "$STATE/power-mode" ]; then
    set_mode "$(cat "$STATE/power-mode")"
    run rm -f "$STATE/power-mode"
  fi
}

[ -r "$ROOT/etc/nvpmodel.conf" ] || die "no /etc/nvpmodel.conf: this is no Jetson, or a container without the mount"
[ -n "$(modes)" ] || die "/etc/nvpmodel.conf lists no POWER_MODEL"
if [ -n "$RESTORE" ]; then
  restore
elif [ -z "$WANT$LOCK" ]; then
  show
  exit 0
else
  if [ -n "$WANT" ]; then
    [ "$WANT" != max ] || WANT=name:$(fastest)
    set_mode "${WANT#name:}" remember
  fi
  [ -z "$LOCK" ] || lock_clocks
fi
show
