#!/usr/bin/env bash
# Stands in for sudo, apt-get, Python with pip, nvpmodel and jetson_clocks: writes down the call, leaves what the real one leaves.
set -eu
name=$(basename "$0")
[ "$name" = id ] || [ "${1:-}" = -c ] || echo "$name $*" >>"$STUB_LOG"
case $name in
  id) echo 1000 ;;
  sudo) "$@" ;;
  apt-get)
    [ "$1" = install ] || exit 0
    for package in "${@:4}"; do
      printf 'Package: %s\nStatus: install ok installed\nArchitecture: all\nVersion: 1\nMaintainer: nobody\nDescription: stub\n\n' "$package"
    done >>"$STUB_ROOT/var/lib/dpkg/status"
    ;;
  nvpmodel) printf 'pmode:%04d fmode:quiet\n' "$2" >"$STUB_ROOT/var/lib/nvpmodel/status" ;;
  jetson_clocks) [ "${1:-}" != --store ] || echo stored >"$2" ;;
  python*)
    case "$*" in
      -c*) echo "${STUB_PYTHON:-3.8}" ;;
      "-m venv --system-site-packages "*)
        mkdir -p "$4/bin"
        printf 'include-system-site-packages = true\nversion = %s.1\n' "${STUB_PYTHON:-3.8}" >"$4/pyvenv.cfg"
        cp "$0" "$4/bin/python"
        cp "${STUB_EDGESEG:-$0}" "$4/bin/edgeseg"
        ;;
      *" wheel "*)
        folder=${*: -2:1}
        mkdir -p "$folder"
        touch "$folder/pycuda-2026.1-cp38-cp38-linux_aarch64.whl"
        ;;
      *check_imports.py*) exit "${STUB_IMPORTS:-0}" ;;
    esac
    ;;
esac
