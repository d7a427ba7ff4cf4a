#!/usr/bin/env bash
# tree.sh SUITE COMMAND...: runs COMMAND in an arm64 Debian of its own (bookworm: Python 3.11, trixie: 3.13) under qemu,
# with the device's packages as a Raspberry Pi would install them. QEMU_CPU=cortex-a72 is a Pi 4, cortex-a76 a Pi 5.
# The first call makes the tree, which takes about ten minutes and 1.3 GB; a change of this file or of the packages
# named in pyproject.toml makes it again. Without COMMAND it only does that. Needs root, debootstrap and binfmt_misc.
#   AVDRIFT_AARCH64=FOLDER   where trees and qemu lie; default: ~/.cache/avdrift/aarch64
# Inside, the repository lies at /avdrift (read-only), `python` is the one with all packages, /run/avdrift is empty.
set -Eeuo pipefail
suite=${1:?which suite: bookworm or trixie}; shift
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(dirname "$(dirname "$here")")
folder=${AVDRIFT_AARCH64:-$HOME/.cache/avdrift/aarch64}
tree=$folder/$suite
qemu=$folder/qemu/usr/bin/qemu-aarch64
mirror=http://deb.debian.org/debian
wanted=$(sed -n '/^dependencies = /,/^]/p' "$repository/pyproject.toml")
stamp=$({ echo "$wanted"; sed '/^ *#/d' "${BASH_SOURCE[0]}"; } | sha256sum | cut -c1-16)
handler=/proc/sys/fs/binfmt_misc/avdrift-aarch64

if [[ $(id -u) != 0 ]]; then
    echo "$0: needs root, for a root folder of its own: sudo make test-aarch64" >&2; exit 77
fi
command -v debootstrap >/dev/null || { echo "$0: needs debootstrap: apt-get install debootstrap" >&2; exit 77; }
# In a mount namespace of its own nothing stays mounted, so that the tree can be removed without harm.
[[ -n ${AVDRIFT_TREE_UNSHARED:-} ]] || AVDRIFT_TREE_UNSHARED=1 exec unshare --mount --propagation private -- "${BASH_SOURCE[0]}" "$suite" "$@"

# Debian 12's qemu crashes LiteRT; trixie's binary is static and runs on any Debian.
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

inside() { # runs a command in the tree with this machine's way to the network
    local wanted='^(PIP_(CERT|INDEX_URL|EXTRA_INDEX_URL|TRUSTED_HOST|DEFAULT_TIMEOUT)=|SSL_CERT|REQUESTS_CA|CURL_CA|https?_proxy=|HTTPS?_PROXY=|no_proxy=|NO_PROXY=|OMP_|AVDRIFT_|PYTEST_|QEMU_)' line
    local -a kept=()
    while IFS= read -r -d '' line; do [[ $line =~ $wanted ]] && kept+=("$line"); done < <(env -0)
    chroot "$tree" env -i HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive PYTHONDONTWRITEBYTECODE=1 \
        PATH=/opt/avdrift/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin ${kept[@]+"${kept[@]}"} "$@"
}

mount_into() {
    local each
    for each in proc dev; do mount --rbind "/$each" "$tree/$each"; done
    mkdir -p "$tree/avdrift" "$tree/run/avdrift"
    mount --bind "$repository" "$tree/avdrift"
    mount -o remount,bind,ro "$tree/avdrift"
    mount -t tmpfs tmpfs "$tree/run/avdrift"
    for each in resolv.conf hosts pip.conf ssl/certs/ca-certificates.crt; do
        [[ ! -e /etc/$each ]] || { mkdir -p "$(dirname "$tree/etc/$each")"; cp -fL "/etc/$each" "$tree/etc/$each"; }
    done
}

build() {
    if [[ -e $tree && ! -e $tree/.avdrift-tree ]]; then
        echo "$0: $tree exists and is not one of these trees: set AVDRIFT_AARCH64 to a folder that may be filled" >&2; exit 1
    fi
    echo "making $tree: about ten minutes" >&2
    rm -rf --one-file-system "$tree"
    mkdir -p "$tree"
    touch "$tree/.avdrift-tree"
    local log=$tree/.avdrift-tree.log
    trap 'echo "$0: it did not work; the end of $log:" >&2; tail -20 "$log" >&2' ERR
    debootstrap --arch=arm64 --foreign --variant=minbase \
        --include=ca-certificates,python3,python3-venv,openssh-client "$suite" "$tree" "$mirror" >>"$log" 2>&1
    chroot "$tree" /debootstrap/debootstrap --second-stage >>"$log" 2>&1
    mount_into
    inside python3 -m venv /opt/avdrift
    inside python -c 'import tomllib; print(*tomllib.load(open("/avdrift/pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' >"$tree/opt/requirements"
    inside python -m pip install --no-input --no-compile -r /opt/requirements pytest hypothesis psutil >>"$log" 2>&1
    inside bash -c 'mkdir /run/avdrift/source && cd /avdrift && cp -r pyproject.toml README.md LICENSE NOTICE device train convert /run/avdrift/source'
    inside python -m pip install --no-input --no-deps --no-compile /run/avdrift/source >>"$log" 2>&1
    trap - ERR
    echo "$stamp" >"$tree/opt/stamp"
}

mkdir -p "$folder"
fetch_qemu
register
if [[ $(cat "$tree/opt/stamp" 2>/dev/null) == "$stamp" ]]; then mount_into; else build; fi
[[ $# -gt 0 ]] || exit 0
inside bash -c 'cd /avdrift && exec "$@"' _ "$@"
