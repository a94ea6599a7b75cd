#!/usr/bin/env bash
# What the tests need of Debian or Ubuntu: GStreamer with its RTSP server, mosquitto, sshd, Chromium, a C compiler.
# Does nothing, saying so, where it may not or cannot; the tests then say what they miss and skip.
set -euo pipefail

mapfile -t packages < <(cut -d' ' -f1 "$(dirname "$0")/../../edgeseg/device/gstreamer.txt")
packages+=(mosquitto openssh-server openssh-client openssl gcc libc6-dev pkg-config libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev)
# Ubuntu's chromium is a snap, which a container cannot run.
# shellcheck source=/dev/null
. /etc/os-release 2> /dev/null || ID=unknown
[[ $ID == debian ]] && packages+=(chromium chromium-driver)

if ! command -v apt-get > /dev/null; then
  echo "setup-system: no apt-get here ($ID); the system tests that miss something will skip"
  exit 0
fi
missing=()
for package in "${packages[@]}"; do
  dpkg -s "$package" > /dev/null 2>&1 || missing+=("$package")
done
if ((${#missing[@]} == 0)); then
  echo "setup-system: everything is there"
  exit 0
fi
if ((EUID != 0)); then
  echo "setup-system: not root; sudo make setup-system would install ${missing[*]}"
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq || echo "setup-system: apt-get update failed; trying with the lists that are there"
apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null \
  || echo "setup-system: apt-get could not install ${missing[*]}; the tests that miss them will skip"
# Debian starts the broker; the tests start their own. An sshd is left alone where it was here before.
systemctl disable --now mosquitto > /dev/null 2>&1 || true
if [[ " ${missing[*]} " == *" openssh-server "* ]]; then systemctl disable --now ssh > /dev/null 2>&1 || true; fi
