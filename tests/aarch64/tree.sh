#!/usr/bin/env bash
# tree.sh SUITE COMMAND...: runs COMMAND in an arm64 Debian of its own (bookworm: Python 3.11, trixie: 3.13) under qemu,
# with the device's packages as a Raspberry Pi would install them. QEMU_CPU=cortex-a72 is a Pi 4, cortex-a76 a Pi 5.
# The first call makes the tree, which takes about ten minutes and 1.3 GB; a change of these scripts or of the packages
# named in pyproject.toml makes it again. Without COMMAND it only does that. Needs root, debootstrap and binfmt_misc.
#   AVDRIFT_AARCH64=FOLDER   where trees and qemu lie; default: ~/.cache/avdrift/aarch64
set -Eeuo pipefail
tests=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
suite=${1:?which suite: bookworm or trixie}
folder=${AVDRIFT_AARCH64:-$HOME/.cache/avdrift/aarch64}
tree=$folder/$suite variable=AVDRIFT_AARCH64 target=test-aarch64 takes='ten minutes'
mounts=(proc sys dev) made_of=() # without /sys LiteRT knows no processor, and leaves XNNPACK aside
source "$tests/debian_tree.sh"
qemu=$folder/qemu/usr/bin/qemu-aarch64
mirror=http://deb.debian.org/debian
handler=/proc/sys/fs/binfmt_misc/avdrift-aarch64

# Debian 12's qemu crashes LiteRT where it sees /sys; trixie's binary is static and runs on any Debian.
fetch_qemu() {
    [[ ! -x $qemu ]] || return 0
    local apt=$folder/apt
    mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$folder/qemu"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >"$apt/sources.list"
    local -a options=(-qq -o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o "Dir::State::lists=$apt/lists" -o "Dir::Cache=$apt" -o APT::Sandbox::User=root)
    apt-get "${options[@]}" update
    (cd "$apt" && apt-get "${options[@]}" download qemu-user && dpkg-deb -x qemu-user_*.deb "$folder/qemu")
    rm -rf "$apt"
    [[ -x $qemu ]]
}

# The kernel keeps the emulator open (F), so that programs in the tree find it; the newest handler goes first.
register() {
    [[ -e /proc/sys/fs/binfmt_misc/register ]] || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc || {
        echo "$0: needs a kernel with binfmt_misc" >&2; exit 77
    }
    local magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
    local mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
    [[ -e $handler ]] || echo ":avdrift-aarch64:M::$magic:$mask:$qemu:F" >/proc/sys/fs/binfmt_misc/register
}

fill() {
    debootstrap --arch=arm64 --foreign --variant=minbase \
        --include=ca-certificates,python3,python3-venv,openssh-client,libespeak-ng1 "$suite" "$tree" "$mirror"
    chroot "$tree" /debootstrap/debootstrap --second-stage
    mount_into
    inside python3 -m venv /opt/avdrift
    install_packages pytest hypothesis psutil matplotlib
    inside bash -c 'mkdir /run/avdrift/source && cd /avdrift && cp -r pyproject.toml README.md LICENSE NOTICE avdrift device train convert /run/avdrift/source'
    inside python -m pip install --no-input --no-deps --no-compile /run/avdrift/source
}

mkdir -p "$folder"
fetch_qemu
register
enter "${@:2}"
