#!/usr/bin/env bash
# Sets up edgeseg on a Jetson: a virtual environment that sees JetPack's tensorrt and cv2, pycuda built once, edgeseg itself.
# Run it again at any time: what is done is left alone. See jetson/README.md.
set -euo pipefail

usage() {
  cat <<'END'
usage: jetson/setup.sh [options]

  --dry-run          print every command that would run; change nothing
  --venv DIR         the virtual environment (default ~/edgeseg-env)
  --source DIR       install edgeseg from this clone (default: the one this script is in)
  --wheel FILE       install edgeseg from this wheel instead
  --extras LIST      edgeseg's extras (default tensorrt; tensorrt,preview for the live page)
  --no-apt           install no Debian package; stop and name those that are missing
  --cuda DIR         the CUDA toolkit (default /usr/local/cuda)
  --jetpack 5|6|7    take this JetPack's facts, whatever the system says it is
  --root DIR         look at the system under DIR instead of / (for tests)

Only apt runs as root, through sudo. PYTHON names JetPack's Python (default /usr/bin/python3).
END
}

die() {
  echo "setup: $*" >&2
  exit 1
}

say() { echo "setup: $*"; }

# Prints a command, and runs it unless this is a dry run.
run() {
  printf '+'
  printf ' %q' "$@"
  printf '\n'
  [ -n "$DRY_RUN" ] || "$@"
}

HERE=$(cd "$(dirname "$0")" && pwd)
GSTREAMER=$(dirname "$HERE")/edgeseg/device/gstreamer.txt
PYTHON=${PYTHON:-/usr/bin/python3}
VENV=$HOME/edgeseg-env
SOURCE=$(dirname "$HERE")
WHEEL='' EXTRAS=tensorrt JETPACK='' ROOT='' CUDA='' DRY_RUN='' APT=yes

while [ $# -gt 0 ]; do
  case $1 in
    --dry-run) DRY_RUN=yes ;;
    --no-apt) APT='' ;;
    -h | --help)
      usage
      exit 0
      ;;
    --venv | --source | --wheel | --extras | --cuda | --jetpack | --root)
      [ $# -ge 2 ] || {
        echo "setup: $1 needs a value" >&2
        exit 2
      }
      case $1 in
        --venv) VENV=$2 ;;
        --source) SOURCE=$2 ;;
        --wheel) WHEEL=$2 ;;
        --extras) EXTRAS=$2 ;;
        --cuda) CUDA=$2 ;;
        --jetpack) JETPACK=$2 ;;
        --root) ROOT=${2%/} ;;
      esac
      shift
      ;;
    *)
      echo "setup: unknown option $1" >&2
      usage >&2
      exit 2
      ;;
  esac
  shift
done
CUDA=${CUDA:-$ROOT/usr/local/cuda}
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/edgeseg/wheels

# 35.4.1, from NVIDIA's release file, else from its core package; empty where there is neither.
l4t_version() {
  local release=$ROOT/etc/nv_tegra_release found=''
  if [ -r "$release" ]; then
    found=$(sed -nE 's/^# R([0-9]+) \(release\), REVISION: ([0-9.]+).*/\1.\2/p' "$release" | head -n 1)
  fi
  [ -n "$found" ] || found=$(package_field Version nvidia-l4t-core | sed 's/-.*//')
  echo "$found"
}

# package_field FIELD PACKAGE; empty when it is not installed.
package_field() {
  [ -e "$ROOT/var/lib/dpkg/status" ] || return 0
  dpkg-query --admindir="$ROOT/var/lib/dpkg" -W -f="\${db:Status-Status} \${$1}\n" "$2" 2>/dev/null | sed -n 's/^installed //p' || true
}

choose_jetpack() {
  local l4t facts
  l4t=$(l4t_version)
  if [ -z "$JETPACK" ]; then
    [ -n "$l4t" ] || die "this is no Jetson: neither /etc/nv_tegra_release nor the package nvidia-l4t-core is there; on a board without them pass --jetpack 5, 6 or 7"
    for facts in "$HERE"/jetpack*.env; do
      case " $(sed -nE 's/^L4T_MAJORS="(.*)"/\1/p' "$facts") " in
        *" ${l4t%%.*} "*) JETPACK=$(basename "$facts" | tr -cd '0-9') ;;
      esac
    done
    [[ $l4t != 35.[01].* ]] || die "L4T $l4t is JetPack 5.0, whose TensorRT 8.4 is too old; update to JetPack 5.1 (L4T 35.2) or newer"
    [ -n "$JETPACK" ] || die "L4T $l4t belongs to no JetPack known here (5: 35.x, 6: 36.x, 7: 38.x and 39.x); if its Python is 3.8, 3.10 or 3.12, pass --jetpack 5, 6 or 7"
  fi
  [ -r "$HERE/jetpack$JETPACK.env" ] || die "--jetpack takes 5, 6 or 7, got $JETPACK"
  # shellcheck source=jetson/jetpack5.env
  . "$HERE/jetpack$JETPACK.env"
  CONSTRAINTS=$HERE/constraints-jp$JETPACK.txt
  case " $L4T_RELEASES " in
    *" ${l4t:-none}="*) ;;
    *) say "JetPack unknown (L4T ${l4t:-unknown}): not a release that this version knows; taken as a JetPack $JETPACK" ;;
  esac
  [ -r "$GSTREAMER" ] || die "no $GSTREAMER, which names GStreamer's packages; run this script inside a whole clone"
  APT_PACKAGES="$APT_PACKAGES $(cut -d' ' -f1 "$GSTREAMER" | tr '\n' ' ')"
  say "JetPack $JETPACK (L4T ${l4t:-unknown}), Python $PYTHON_VERSION, environment $VENV"
}

check_python() {
  local version
  version=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || die "no Python at $PYTHON; set PYTHON to JetPack's"
  [ "$version" = "$PYTHON_VERSION" ] || die "$PYTHON is Python $version, but JetPack $JETPACK's tensorrt and cv2 are for $PYTHON_VERSION; set PYTHON to that one"
}

# What pip would install, checked before anything else takes its time.
check_edgeseg() {
  if [ -n "$WHEEL" ]; then
    [ -r "$WHEEL" ] || die "no wheel at $WHEEL"
    TARGET=$(cd "$(dirname "$WHEEL")" && pwd)/$(basename "$WHEEL")
    DIGEST=$(cat "$WHEEL" "$CONSTRAINTS" | sha256sum)
  else
    [ -r "$SOURCE/pyproject.toml" ] || die "no pyproject.toml in $SOURCE; name a clone with --source or a wheel with --wheel"
    TARGET=$(cd "$SOURCE" && pwd)
    DIGEST=$(cd "$SOURCE" && find edgeseg pyproject.toml -type f ! -name '*.pyc' -print0 | LC_ALL=C sort -z | xargs -0 cat "$CONSTRAINTS" | sha256sum)
  fi
  DIGEST="${DIGEST%% *} [$EXTRAS]"
}

install_packages() {
  local choice name sudo=sudo missing=()
  for choice in $APT_PACKAGES; do
    for name in ${choice//|/ }; do
      [ -z "$(package_field Package "$name")" ] || continue 2
    done
    missing+=("${choice%%|*}")
  done
  [ ${#missing[@]} -gt 0 ] || {
    say "Debian packages: all there"
    return
  }
  [ -n "$APT" ] || die "missing Debian packages: ${missing[*]}; run: sudo apt-get install ${missing[*]}"
  [ "$(id -u)" != 0 ] || sudo=''
  say "apt needs root${sudo:+, so sudo may ask for your password}"
  run ${sudo:+"$sudo"} apt-get update
  run ${sudo:+"$sudo"} apt-get install -y --no-install-recommends "${missing[@]}" ||
    die "apt could not install ${missing[*]}; NVIDIA's packages come from the source in /etc/apt/sources.list.d/nvidia-l4t-apt-source.list: is it there? Then: sudo apt install nvidia-jetpack"
}

wants_tensorrt() { [[ ,$EXTRAS, == *,tensorrt,* ]]; }

check_cuda() {
  local missing
  wants_tensorrt || return 0
  for missing in include/cuda.h bin/nvcc; do
    [ -e "$CUDA/$missing" ] || die "no $missing in $CUDA, which pycuda is built against; run: sudo apt install nvidia-jetpack, or name the toolkit with --cuda"
  done
  CUDA_VERSION=$(sed -nE 's/^#define CUDA_VERSION +([0-9]+).*/\1/p' "$CUDA/include/cuda.h")
  [ -n "$CUDA_VERSION" ] || die "$CUDA/include/cuda.h states no CUDA_VERSION; name the toolkit with --cuda"
}

make_venv() {
  if [ -e "$VENV/pyvenv.cfg" ]; then
    grep -qi '^include-system-site-packages *= *true' "$VENV/pyvenv.cfg" ||
      die "$VENV does not see the system's packages, so neither tensorrt nor cv2; remove it or name another with --venv"
    grep -q "^version *= *${PYTHON_VERSION//./\\.}\\." "$VENV/pyvenv.cfg" ||
      die "$VENV is not of Python $PYTHON_VERSION; remove it or name another with --venv"
    say "environment: there"
  else
    [ ! -e "$VENV" ] || [ -z "$(ls -A "$VENV")" ] || die "$VENV exists and is no virtual environment; name another with --venv"
    run "$PYTHON" -m venv --system-site-packages "$VENV"
  fi
}

pip() { run "$VENV/bin/python" -m pip --disable-pip-version-check "$@"; }

# The pip that comes with Python 3.8 is too old for today's wheels; NumPy goes in before anything is compiled against it.
install_basics() {
  pip install -q --upgrade pip setuptools wheel
  pip install -q --upgrade --constraint "$CONSTRAINTS" numpy
}

# The newest pycuda wheel in a folder; empty when there is none.
built_pycuda() { find "$1" -name 'pycuda-*.whl' 2>/dev/null | sort | tail -n 1 || true; }

build_pycuda() {
  local wheels=$CACHE/jp$JETPACK-cuda$CUDA_VERSION
  PYCUDA=$(built_pycuda "$wheels")
  if [ -n "$PYCUDA" ]; then
    say "pycuda: built before, $PYCUDA"
    return
  fi
  say "building pycuda against $CUDA; takes minutes, once"
  run rm -rf "$wheels.partial"
  # No build isolation: compiled against the NumPy that it will meet.
  run env PATH="$CUDA/bin:$PATH" CUDA_ROOT="$CUDA" LDFLAGS="-L$CUDA/lib64 -L$CUDA/lib64/stubs ${LDFLAGS:-}" \
    "$VENV/bin/python" -m pip --disable-pip-version-check wheel -q --no-deps --no-build-isolation --wheel-dir "$wheels.partial" pycuda ||
    die "pycuda did not build; the compiler's words are above. Wanted: g++, python3-dev and a CUDA toolkit in $CUDA"
  run mv "$wheels.partial" "$wheels"
  PYCUDA=$(built_pycuda "$wheels")
  PYCUDA=${PYCUDA:-$wheels/pycuda-VERSION.whl} # in a dry run
}

check_imports() {
  run "$VENV/bin/python" "$HERE/check_imports.py" "$CONSTRAINTS" || die "the environment is not usable; the lines above say what to do"
}

install_edgeseg() {
  local stamp=$VENV/edgeseg-setup.txt
  if [ -r "$stamp" ] && [ "$(cat "$stamp")" = "$DIGEST" ]; then
    say "edgeseg: there, as it is in $TARGET"
    check_imports
    return
  fi
  install_basics
  check_imports
  if wants_tensorrt; then
    build_pycuda
    pip install -q --constraint "$CONSTRAINTS" "$PYCUDA"
  fi
  pip install -q --constraint "$CONSTRAINTS" "$TARGET${EXTRAS:+[$EXTRAS]}"
  # The version may be the same while the code is not.
  pip install -q --no-deps --force-reinstall "$TARGET"
  check_imports
  ! wants_tensorrt || run "$VENV/bin/python" -c 'import pycuda.driver' ||
    die "pycuda is built but does not import, the reason is above; if libcuda or libcurand is not found: echo $CUDA/lib64 | sudo tee /etc/ld.so.conf.d/edgeseg-cuda.conf; sudo ldconfig"
  [ -n "$DRY_RUN" ] || {
    echo "$DIGEST" >"$stamp.new"
    mv "$stamp.new" "$stamp"
  }
}

choose_jetpack
check_python
check_edgeseg
check_cuda
install_packages
make_venv
install_edgeseg
run "$VENV/bin/edgeseg" doctor || die "edgeseg doctor found problems; its lines say what to do"
[ -z "$DRY_RUN" ] || {
  say "dry run: nothing was changed"
  exit 0
}
say "done. Next: $VENV/bin/edgeseg compile --int8   (builds, tests and caches the TensorRT engine of this board)"
