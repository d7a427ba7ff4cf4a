# Sourced by devices/tree.sh and aarch64/tree.sh: a Debian in a folder of its own, made once, in which commands run.
# Inside, the repository lies at /avdrift (read-only), `python` is the one with all packages, /run/avdrift is empty.
#
# Who sources it has set
#   tree         the folder                  variable    the environment variable that names another one
#   target       what make calls it          takes       how long making it takes, in words
#   mounts       (proc dev …)                made_of     () files whose change makes it again, besides these scripts
# and given its own first argument; defines `fill`, which makes the tree's content, with `inside` and what follows it;
# and ends with `enter COMMAND...`, which makes the tree where it has not been made and runs the command in it.
here=$(cd "$(dirname "$0")" && pwd)
repository=$(dirname "$(dirname "$here")")
stamp=$({
    sed -n '/^dependencies = /,/^]/p' "$repository/pyproject.toml"
    sed '/^ *#/d' "$0" "${BASH_SOURCE[0]}"
    cat /dev/null "${made_of[@]}"
} | sha256sum | cut -c1-16)

if [[ $(id -u) != 0 ]]; then
    echo "$0: needs root, for a root folder of its own: sudo make $target" >&2; exit 77
fi
command -v debootstrap >/dev/null || { echo "$0: needs debootstrap: apt-get install debootstrap" >&2; exit 77; }
# In a mount namespace of its own nothing stays mounted, so that the tree can be removed without harm.
[[ -n ${AVDRIFT_TREE_UNSHARED:-} ]] || AVDRIFT_TREE_UNSHARED=1 exec unshare --mount --propagation private -- "$0" "$@"

inside() { # runs a command in the tree with this machine's way to the network
    local wanted='^(PIP_(CERT|INDEX_URL|EXTRA_INDEX_URL|TRUSTED_HOST|DEFAULT_TIMEOUT)=|SSL_CERT|REQUESTS_CA|CURL_CA|https?_proxy=|HTTPS?_PROXY=|no_proxy=|NO_PROXY=|OMP_|AVDRIFT_|PYTEST_|QEMU_)' line
    local -a kept=()
    while IFS= read -r -d '' line; do [[ $line =~ $wanted ]] && kept+=("$line"); done < <(env -0)
    chroot "$tree" env -i HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive PYTHONDONTWRITEBYTECODE=1 \
        PATH=/opt/avdrift/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin ${kept[@]+"${kept[@]}"} "$@"
}

mount_into() {
    local each
    for each in "${mounts[@]}"; do mount --rbind "/$each" "$tree/$each"; done
    mkdir -p "$tree/avdrift" "$tree/run/avdrift"
    mount --bind "$repository" "$tree/avdrift"
    mount -o remount,bind,ro "$tree/avdrift"
    mount -t tmpfs tmpfs "$tree/run/avdrift"
    for each in resolv.conf hosts pip.conf ssl/certs/ca-certificates.crt; do
        [[ ! -e /etc/$each ]] || { mkdir -p "$(dirname "$tree/etc/$each")"; cp -fL "/etc/$each" "$tree/etc/$each"; }
    done
}

install_packages() { # what the device needs, and what is named
    inside python -c 'import tomllib; print(*tomllib.load(open("/avdrift/pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' >"$tree/opt/requirements"
    inside python -m pip install --no-input --no-compile -r /opt/requirements "$@"
}

make_tree() {
    if [[ -e $tree && ! -e $tree/.avdrift-tree ]]; then
        echo "$0: $tree exists and is not one of these trees: set $variable to a folder that may be filled" >&2; exit 1
    fi
    echo "making $tree: about $takes" >&2
    rm -rf --one-file-system "$tree"
    mkdir -p "$tree"
    touch "$tree/.avdrift-tree"
    local log=$tree/.avdrift-tree.log said
    exec {said}>&2
    trap 'echo "$0: it did not work; the end of $log:" >&$said; tail -20 "$log" >&$said' ERR
    fill >>"$log" 2>&1
    trap - ERR
    exec {said}>&-
    echo "$stamp" >"$tree/opt/stamp"
}

enter() {
    if [[ $(cat "$tree/opt/stamp" 2>/dev/null) == "$stamp" ]]; then mount_into; else make_tree; fi
    [[ $# -gt 0 ]] || exit 0
    inside bash -c 'cd /avdrift && exec "$@"' _ "$@"
}
