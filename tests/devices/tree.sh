#!/usr/bin/env bash
# tree.sh COMMAND...: runs COMMAND in a Debian sid of its own that has what no build machine has: a camera (libcamera's
# virtual one, through the real picamera2) and a microphone (a PulseAudio null sink, through the real PortAudio).
# The first call makes the tree, which takes about three minutes and 2 GB; a change of these scripts or of the packages
# named in pyproject.toml makes it again. Without COMMAND it only does that. Needs root and debootstrap.
#   AVDRIFT_TREE=FOLDER   where the tree lies; default: ~/.cache/avdrift/sid
set -Eeuo pipefail
tests=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tree=${AVDRIFT_TREE:-$HOME/.cache/avdrift/sid} variable=AVDRIFT_TREE target=test-devices takes='three minutes'
mounts=(proc sys dev) made_of=("$tests/devices/dma_shim.c")
source "$tests/debian_tree.sh"

# libcamera and its Python come from sid: older ones have a virtual camera without usable metadata.
packages=(
    python3 python3-dev python3-venv python3-libcamera libcamera-ipa libcamera-tools # camera
    gcc libc6-dev libcap-dev                                                        # to build python-prctl and the shim
    portaudio19-dev libasound2-plugins pulseaudio pulseaudio-utils alsa-utils       # microphone
    ca-certificates procps
)

fill() {
    debootstrap --variant=minbase --include=ca-certificates sid "$tree"
    mount_into
    # sid's list of packages may be past its date, and a machine's own certificates may be needed to fetch it.
    echo 'Acquire::Check-Valid-Until "false"; Acquire::Check-Date "false";' >"$tree/etc/apt/apt.conf.d/99avdrift"
    inside apt-get update -qq
    inside apt-get install -y -qq --no-install-recommends "${packages[@]}"
    inside gcc -O1 -shared -fPIC -o /opt/dma_shim.so /avdrift/tests/devices/dma_shim.c -ldl
    inside python3 -m venv --system-site-packages /opt/avdrift
    # sid's Python is newer than the ones that avdrift promises, so its dependencies are installed, not itself.
    install_packages picamera2 pyaudio pytest hypothesis
}

enter "$@"
