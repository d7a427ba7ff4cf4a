#!/usr/bin/env bash
# tree.sh COMMAND...: runs COMMAND in a Debian sid of its own that has what no build machine has: a camera (libcamera's
# virtual one, through the real picamera2) and a microphone (a PulseAudio null sink, through the real PortAudio).
# The first call makes the tree, which takes about three minutes and 2 GB; a change of this file or of the packages named
# in pyproject.toml makes it again. Without COMMAND it only does that. Needs root and debootstrap.
#   AVDRIFT_TREE=FOLDER   where the tree lies; default: ~/.cache/avdrift/sid
# Inside, the repository lies at /avdrift (read-only), `python` is the one with all packages, /run/avdrift is empty.
set -Eeuo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(dirname "$(dirname "$here")")
tree=${AVDRIFT_TREE:-$HOME/.cache/avdrift/sid}
wanted=$(sed -n '/^dependencies = /,/^]/p' "$repository/pyproject.toml")
stamp=$({ echo "$wanted"; cat "$here/dma_shim.c"; sed '/^ *#/d' "${BASH_SOURCE[0]}"; } | sha256sum | cut -c1-16)

# libcamera and its Python come from sid: older ones have a virtual camera without usable metadata.
packages=(
    python3 python3-dev python3-venv python3-libcamera libcamera-ipa libcamera-tools # camera
    gcc libc6-dev libcap-dev                                                        # to build python-prctl and the shim
    portaudio19-dev libasound2-plugins pulseaudio pulseaudio-utils alsa-utils       # microphone
    ca-certificates procps
)

if [[ $(id -u) != 0 ]]; then
    echo "$0: needs root, for a root folder of its own: sudo make test-devices" >&2; exit 77
fi
command -v debootstrap >/dev/null || { echo "$0: needs debootstrap: apt-get install debootstrap" >&2; exit 77; }
# In a mount namespace of its own nothing stays mounted, so that the tree can be removed without harm.
[[ -n ${AVDRIFT_TREE_UNSHARED:-} ]] || AVDRIFT_TREE_UNSHARED=1 exec unshare --mount --propagation private -- "${BASH_SOURCE[0]}" "$@"

inside() { # runs a command in the tree with this machine's way to the network
    local wanted='^(PIP_(CERT|INDEX_URL|EXTRA_INDEX_URL|TRUSTED_HOST|DEFAULT_TIMEOUT)=|SSL_CERT|REQUESTS_CA|CURL_CA|https?_proxy=|HTTPS?_PROXY=|no_proxy=|NO_PROXY=|OMP_|AVDRIFT_|PYTEST_)' line
    local -a kept=()
    while IFS= read -r -d '' line; do [[ $line =~ $wanted ]] && kept+=("$line"); done < <(env -0)
    chroot "$tree" env -i HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive PYTHONDONTWRITEBYTECODE=1 \
        PATH=/opt/avdrift/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin ${kept[@]+"${kept[@]}"} "$@"
}

mount_into() {
    local folder
    for folder in proc sys dev; do mount --rbind "/$folder" "$tree/$folder"; done
    mkdir -p "$tree/avdrift" "$tree/run/avdrift"
    mount --bind "$repository" "$tree/avdrift"
    mount -o remount,bind,ro "$tree/avdrift"
    mount -t tmpfs tmpfs "$tree/run/avdrift"
    local file
    for file in resolv.conf hosts pip.conf ssl/certs/ca-certificates.crt; do
        [[ ! -e /etc/$file ]] || { mkdir -p "$(dirname "$tree/etc/$file")"; cp -fL "/etc/$file" "$tree/etc/$file"; }
    done
    # sid's list of packages may be past its date, and a machine's own certificates may be needed to fetch it.
    echo 'Acquire::Check-Valid-Until "false"; Acquire::Check-Date "false";' >"$tree/etc/apt/apt.conf.d/99avdrift"
}

build() {
    if [[ -e $tree && ! -e $tree/.avdrift-tree ]]; then
        echo "$0: $tree exists and is not one of these trees: set AVDRIFT_TREE to a folder that may be filled" >&2; exit 1
    fi
    echo "making $tree: about three minutes" >&2
    rm -rf --one-file-system "$tree"
    mkdir -p "$tree"
    touch "$tree/.avdrift-tree"
    local log=$tree/.avdrift-tree.log
    trap 'echo "$0: it did not work; the end of $log:" >&2; tail -20 "$log" >&2' ERR
    debootstrap --variant=minbase --include=ca-certificates sid "$tree" >>"$log" 2>&1
    mount_into
    inside apt-get update -qq >>"$log" 2>&1
    inside apt-get install -y -qq --no-install-recommends "${packages[@]}" >>"$log" 2>&1
    inside gcc -O1 -shared -fPIC -o /opt/dma_shim.so /avdrift/tests/devices/dma_shim.c -ldl
    inside python3 -m venv --system-site-packages /opt/avdrift
    # sid's Python is newer than the ones that avdrift promises, so its dependencies are installed, not itself.
    inside python -c 'import tomllib; print(*tomllib.load(open("/avdrift/pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' >"$tree/opt/requirements"
    inside python -m pip install --no-input -r /opt/requirements picamera2 pyaudio pytest >>"$log" 2>&1
    trap - ERR
    echo "$stamp" >"$tree/opt/stamp"
}

if [[ $(cat "$tree/opt/stamp" 2>/dev/null) == "$stamp" ]]; then mount_into; else build; fi
[[ $# -gt 0 ]] || exit 0
inside bash -c 'cd /avdrift && exec "$@"' _ "$@"
