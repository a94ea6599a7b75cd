#!/usr/bin/env bash
# The package on an emulated arm64 machine, end to end: a Debian bookworm root under qemu-user, the wheels that arm64 takes,
# edgeseg run on the rendered street, edgeseg doctor and the engine tests. `make test-arm64` calls this.
# It proves the CPU path on arm64. There is no GPU, no TensorRT and no JetPack in it.
set -euo pipefail

usage() {
  cat <<'END'
usage: jetson/arm64/test.sh [--cache DIR]

  --cache DIR   keeps the root and the wheels (default .venvs/arm64, about 1 GB)

Needs root (chroot, mounts) and, on Debian or Ubuntu: apt install debootstrap qemu-user-static binfmt-support
PYTHON names the Python that fetches the wheels (default python3; it needs the module venv).
END
}

die() {
  echo "arm64: $*" >&2
  exit 1
}

cd "$(dirname "$0")/../.."
CACHE=.venvs/arm64
while [ $# -gt 0 ]; do
  case $1 in
    --cache)
      CACHE=${2:?--cache needs a folder}
      shift 2
      ;;
    -h | --help)
      usage
      exit 0
      ;;
    *)
      usage >&2
      exit 2
      ;;
  esac
done

PYTHON=${PYTHON:-python3}
BOARD_PYTHON=3.11.2 # bookworm's
BOARD_GLIBC=36
MIRROR=${MIRROR:-http://deb.debian.org/debian}
# libgl1 and libglib2.0-0: the OpenCV wheel links to them.
PACKAGES=ca-certificates,python3,python3-venv,libgl1,libglib2.0-0

say() { printf '[%4ds] %s\n' "$SECONDS" "$*"; }

check_host() {
  [ "$(id -u)" = 0 ] || die "needs root for chroot and mounts; run: sudo make test-arm64"
  command -v debootstrap >/dev/null || die "debootstrap is not installed; run: apt install debootstrap qemu-user-static binfmt-support"
  [ "$(uname -m)" = aarch64 ] && return
  local registered=/proc/sys/fs/binfmt_misc/qemu-aarch64
  [ -e /proc/sys/fs/binfmt_misc/register ] || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc ||
    die "binfmt_misc cannot be mounted; load the kernel module: modprobe binfmt_misc"
  [ -e $registered ] || update-binfmts --enable qemu-aarch64 || true
  [ -e $registered ] || die "no handler for arm64 programs; run: apt install qemu-user-static binfmt-support"
  grep -q '^flags:.*F' $registered || die "the arm64 handler lacks flag F (it would not work in a chroot); install qemu-user-static"
}

# A pip of our own: Debian's lacks parts that cross_pip.py uses.
make_host_venv() {
  [ -e "$CACHE/host/bin/pip" ] || "$PYTHON" -m venv "$CACHE/host" || die "$PYTHON cannot make a virtual environment; run: apt install python3-venv"
  PYTHON=$CACHE/host/bin/python
}

make_root() {
  [ -e "$CACHE/root.ready" ] && return
  say "building the root in $CACHE/root (once)"
  rm -rf "$CACHE/root"
  debootstrap --arch=arm64 --variant=minbase --include="$PACKAGES" bookworm "$CACHE/root" "$MIRROR" >"$CACHE/debootstrap.log" 2>&1 ||
    die "debootstrap failed; its log is $CACHE/debootstrap.log, the last line: $(tail -n 1 "$CACHE/debootstrap.log")"
  touch "$CACHE/root.ready"
}

# Wheels are fetched out here, where pip runs at full speed, and copied in.
fetch_wheels() {
  rm -rf "$CACHE/dist"
  "$PYTHON" -m pip wheel -q --no-deps --wheel-dir "$CACHE/dist" .
  local wheel digest
  wheel=$(echo "$CACHE"/dist/edgeseg-*.whl)
  digest=$(sha256sum pyproject.toml jetson/arm64/cross_pip.py | sha256sum)
  if [ ! -e "$CACHE/wheels.ready" ] || [ "$(cat "$CACHE/wheels.ready")" != "$digest" ]; then
    say "fetching wheels for arm64"
    rm -rf "$CACHE/wheels"
    "$PYTHON" jetson/arm64/cross_pip.py --python $BOARD_PYTHON --glibc $BOARD_GLIBC --extra opencv --extra preview --extra test \
      "$wheel" -- download -qq --dest "$CACHE/wheels"
    rm -rf "$CACHE/root/opt/edgeseg"
    echo "$digest" >"$CACHE/wheels.ready"
  fi
  mkdir -p "$CACHE/root/wheels" "$CACHE/root/work"
  rm -rf "$CACHE/root/wheels/"* "$CACHE/root/work/"*
  cp "$CACHE"/wheels/*.whl "$wheel" "$CACHE/root/wheels/"
  cp -r tests "$CACHE/root/work/tests"
  rm -rf "$CACHE"/root/work/tests/{builder,compiler}
  printf '[pytest]\naddopts = -ra\n' >"$CACHE/root/work/pytest.ini"
}

# qemu hands through the host's /proc/cpuinfo, on which onnxruntime for arm64 crashes (it must fit the emulated CPU).
make_cpuinfo() {
  local core
  for core in $(seq 0 $(($(nproc) - 1))); do
    printf 'processor\t: %d\nBogoMIPS\t: 62.50\n' "$core"
    printf 'Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp\n'
    printf 'CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x4\nCPU part\t: 0xd0b\nCPU revision\t: 1\n\n'
  done >"$CACHE/cpuinfo"
}

# Mounts live in a namespace of their own and end with the command.
inside() {
  # shellcheck disable=SC2016  # expanded by the inner shell
  unshare --mount --fork -- sh -euc '
    cache=$1; root=$1/root; shift
    mount -t proc proc "$root/proc"; mount --rbind /sys "$root/sys"; mount --rbind /dev "$root/dev"
    [ "$(uname -m)" = aarch64 ] || mount --bind "$cache/cpuinfo" "$root/proc/cpuinfo"
    exec chroot "$root" /usr/bin/env -i QEMU_CPU=cortex-a76 HOME=/root LC_ALL=C.UTF-8 \
      PATH=/opt/edgeseg/bin:/usr/sbin:/usr/bin:/sbin:/bin sh -euc "cd /work; $*"
  ' inside "$CACHE" "$@"
}

check_host
mkdir -p "$CACHE"
make_root
make_cpuinfo
make_host_venv
fetch_wheels
say "installing inside"
[ -e "$CACHE/root/opt/edgeseg/ready" ] || inside 'rm -rf /opt/edgeseg && python3 -m venv /opt/edgeseg &&
  pip install -q --disable-pip-version-check --root-user-action=ignore --no-index --find-links /wheels "edgeseg[opencv,preview,test]" && touch /opt/edgeseg/ready'
inside 'pip install -q --disable-pip-version-check --root-user-action=ignore --no-index --no-deps --force-reinstall /wheels/edgeseg-*.whl'
say "architecture: $(inside 'python -c "import platform; print(platform.machine(), platform.python_version())"')"
say "edgeseg run"
inside "edgeseg run --source 'demo://street?frames=5' --policy every --sink out.mp4 --json > run.json"
[ -s "$CACHE/root/work/out.mp4" ] || die "edgeseg run left no out.mp4"
inside 'python -c "
import json
run = json.load(open(\"run.json\"))
print(\"  engine:\", run[\"engine\"])
print(\"  frames:\", run[\"frames\"])
assert run[\"device\"][\"architecture\"] == \"aarch64\" and run[\"frames\"] == 5, run
"'
say "edgeseg doctor"
inside 'edgeseg doctor'
say "engine tests"
# Without the faults injected into fakes: minutes under emulation, and nothing in them depends on the machine.
inside 'python -m pytest -q -p no:cacheprovider tests/engines --ignore=tests/engines/tensorrt/test_faults.py'
say "passed: edgeseg runs on $(inside 'uname -m')"
