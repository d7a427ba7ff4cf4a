#!/usr/bin/env bash
# Installs avdrift as a service on Debian 12 or 13 or Raspberry Pi OS, or upgrades it, from the clone that this file lies in.
#
#   sudo ./systemd/install.sh [--no-start]           install or upgrade; --no-start: it starts with the next boot
#   sudo ./systemd/install.sh --uninstall [--purge]  remove it; --purge: configuration, models and user as well
#   sudo ./systemd/install.sh --instance NAME        another one beside it, avdrift@NAME, with /etc/avdrift/NAME.toml
#   sudo ./systemd/install.sh --remove-instance NAME
#
# Each version gets a virtual environment of its own, /opt/avdrift/releases/N, and /opt/avdrift/venv points to the one in use.
# It changes over only when the new one is complete, and back again when the service does not start with it.
set -Eeuo pipefail
umask 022
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

clone=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
home=/opt/avdrift
venv=$home/venv
config=/etc/avdrift/avdrift.toml
state=/var/lib/avdrift
units=/usr/local/lib/systemd/system
command=/usr/local/bin/avdrift
user=avdrift
packages=(python3-venv openssh-client libportaudio2 python3-pyaudio)
camera_package=python3-picamera2 # Raspberry Pi OS has it. Elsewhere USB cameras are read without it.
need_mb=1500

say() { printf 'avdrift: %s\n' "$*"; }
fail() { # WHAT REMEDY
    printf 'avdrift: %s. %s\n' "$1" "$2" >&2
    exit 1
}
quietly() { # WHAT REMEDY COMMAND...: its output is shown only where it fails
    local what=$1 remedy=$2 said
    shift 2
    if ! said=$("$@" </dev/null 2>&1); then
        tail -n 15 <<<"$said" | sed 's/^/    /' >&2
        fail "$what ($*)" "$remedy"
    fi
}
trap 'fail "stopped at line $LINENO of $0" "Nothing was switched over if this was an upgrade; run it again"' ERR

check_machine() {
    ((EUID == 0)) || fail "this needs root" "Run: sudo $0"
    [[ -d /run/systemd/system ]] || fail "systemd does not run here" "Use avdrift without a service: make run"
    command -v apt-get >/dev/null || fail "there is no apt-get" "This installer is for Debian and Raspberry Pi OS"
    python3 -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null ||
        fail "python3 is missing or not 3.11 to 3.13" "Debian 12 and 13 and Raspberry Pi OS of the same names have it"
    [[ $(getconf LONG_BIT) == 64 ]] || fail "this system has 32 bits" "Use a 64-bit one: LiteRT, which runs the models, has no other"
    local free_mb
    free_mb=$(df --output=avail -BM /opt | tail -n 1 | tr -dc 0-9)
    ((free_mb >= need_mb)) || fail "/opt has $free_mb MB free and $need_mb MB are needed" "Make room and run it again"
    exec 9>/run/avdrift-install.lock
    flock --nonblock 9 || fail "another installation is running" "Wait until it has ended"
}

installed() { [[ $(dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null) == ii* ]]; }

install_packages() {
    local wanted=() package
    for package in "${packages[@]}"; do installed "$package" || wanted+=("$package"); done
    if ((${#wanted[@]})) || [[ ! -e $venv ]]; then
        quietly "the lists of packages cannot be fetched" "Check the network and the time of this machine" apt-get update -qq
    fi
    if ! installed "$camera_package"; then
        if [[ -n $(apt-cache madison "$camera_package") ]]; then wanted+=("$camera_package"); else
            say "$camera_package is not in this system's archive: USB cameras only"
        fi
    fi
    ((${#wanted[@]})) || return 0
    say "installing Debian packages: ${wanted[*]}"
    quietly "packages cannot be installed" "Run the same command by hand to see why" \
        apt-get install -y -qq --no-install-recommends "${wanted[@]}"
}

make_user() {
    id "$user" &>/dev/null || useradd --system --user-group --home-dir "$state" --no-create-home --shell /usr/sbin/nologin "$user"
    usermod --append --groups video,audio "$user"
}

make_release() { # FOLDER: a complete environment, beside the one in use
    local release=$1 pip=("$1/bin/python" -m pip --disable-pip-version-check --no-input --no-cache-dir) sources=$home/building
    local locked=(install --quiet --no-warn-script-location --require-hashes --only-binary :all:) lock
    rm -rf "$sources" && mkdir -p "$release" "$sources/tmp"
    # A copy, so that building leaves nothing behind in the clone; and its own folder for temporary files, because /tmp may be small.
    cp -r "$clone"/{pyproject.toml,README.md,LICENSE,NOTICE,avdrift,device,train,convert} "$sources/"
    export TMPDIR=$sources/tmp
    say "installing avdrift and what it needs into $release: some minutes"
    quietly "the virtual environment cannot be made" "Check that python3-venv is whole" \
        python3 -m venv --clear --system-site-packages "$release"
    lock=$clone/requirements/run/$(python3 "$clone/tools/lock_file.py") # a venv has the Python of the system
    quietly "pip could not install what builds avdrift" "Check the network, then run it again" \
        "${pip[@]}" "${locked[@]}" -r "$clone/requirements/build.txt"
    quietly "pip could not install what avdrift needs" "Check the network, then run it again" \
        "${pip[@]}" "${locked[@]}" -r "$lock"
    quietly "pip could not install avdrift" "Report this, with these lines" \
        "${pip[@]}" install --quiet --no-warn-script-location --no-deps --no-build-isolation "$sources"
    if installed "$camera_package"; then
        # Debian 12 built its own against NumPy 1; avdrift brings NumPy 2, which does not take it.
        quietly "pip could not install simplejpeg, which the camera needs" "Check the network, then run it again" \
            "${pip[@]}" "${locked[@]}" --ignore-installed --no-deps -r "$clone/requirements/camera.txt"
        "$release/bin/python" -c 'import picamera2' 2>/dev/null ||
            say "picamera2 cannot be imported: only USB cameras will work. See why: $release/bin/python -c 'import picamera2'"
    fi
    quietly "what was installed does not run" "Report this, with these lines" "$release/bin/avdrift" --version
    mkdir -p "$release/share/avdrift"
    cp -f "$clone"/systemd/avdrift.{toml,service,sh} "$clone"/systemd/{backoff,instance}.conf "$clone/README.md" "$release/share/avdrift/"
    cp -rf "$clone/docs" "$release/share/avdrift/"
    cp -f "$venv"/share/avdrift/*.tflite "$release/share/avdrift/" 2>/dev/null || : # the face model of the version before
    quietly "the face detector's model is missing" "Check the network, then run it again" "$release/bin/avdrift" fetch-face
    rm -rf "$sources"
    unset TMPDIR
}

same_meaning() { # FILE OTHER
    python3 -c 'import sys, tomllib; a, b = (tomllib.load(open(f, "rb")) for f in sys.argv[1:]); sys.exit(a != b)' "$@" 2>/dev/null
}

configure() { # RELEASE: the user's file stays as it is; defaults that have changed go beside it
    local new=$1/share/avdrift/avdrift.toml old=$venv/share/avdrift/avdrift.toml
    mkdir -p "$(dirname "$config")"
    if [[ ! -e $config ]]; then
        install -m 644 "$new" "$config.tmp" && mv -f "$config.tmp" "$config"
    elif ! same_meaning "$new" "$config" && ! same_meaning "$new" "$old"; then
        install -m 644 "$new" "$config.new"
        say "there are new defaults: compare $config.new with your $config, which was kept"
    fi
    "$1/bin/avdrift" check-config "$config" >&2 ||
        fail "$config does not fit this version" "Correct it and run this again; what was installed before is still in use"
}

keep_signers() { # who may sign models stands where the service cannot write; an older version had it in the state folder
    local signers=/etc/avdrift/allowed_signers old=$state/allowed_signers keys=
    [[ ! -e $signers && ! -L $signers ]] || return 0
    # Read by the service's user: a link there must not lead to what only root may read.
    if [[ -e $old ]] && keys=$(timeout 10 runuser -u "$user" -- head -c 65536 "$old"); then
        say "who may sign models stands in $signers now, and no longer in $old. See that each key there is one of yours"
    fi
    install -m 644 /dev/null "$signers.tmp"
    [[ -z $keys ]] || printf '%s\n' "$keys" >"$signers.tmp"
    mv -f "$signers.tmp" "$signers"
}

use() { # RELEASE: from now on
    ln -sfn "$1" "$venv.tmp" && mv -fT "$venv.tmp" "$venv"
    install -D -m 644 "$1/share/avdrift/avdrift.service" "$units/avdrift.service"
    install -D -m 644 "$1/share/avdrift/avdrift.service" "$units/avdrift@.service"
    rm -rf "$units/avdrift.service.d" "$units/avdrift@.service.d"
    install -D -m 644 "$1/share/avdrift/instance.conf" "$units/avdrift@.service.d/instance.conf"
    if (($(systemctl --version | awk 'NR == 1 { print int($2) }') >= 254)); then
        install -D -m 644 "$1/share/avdrift/backoff.conf" "$units/avdrift.service.d/backoff.conf"
        install -D -m 644 "$1/share/avdrift/backoff.conf" "$units/avdrift@.service.d/backoff.conf"
    fi
    install -D -m 755 "$1/share/avdrift/avdrift.sh" "$command"
    systemctl daemon-reload
}

start() { # BEFORE, the release to go back to, or nothing
    say "starting the service"
    systemctl restart avdrift.service && return
    journalctl -u avdrift.service -n 5 --no-pager -o cat | sed 's/^/    /' >&2
    if [[ -n $1 && -d $1 ]]; then
        use "$1"
        systemctl restart avdrift.service || :
        fail "the new version does not start" "The one before is in use again. See: journalctl -u avdrift"
    fi
    fail "the service does not start" "Do what its last lines say (journalctl -u avdrift), then: systemctl start avdrift"
}

remove_other_releases() { # KEPT
    local release
    for release in "$home"/releases/*; do [[ $release == "$1" ]] || rm -rf "$release"; done
}

install_all() { # yes | no: start it
    local before release
    check_machine
    renice -n 10 -p $$ >/dev/null || : # what measures meanwhile comes first
    before=$(readlink -f "$venv" 2>/dev/null || :)
    [[ -d $before ]] || before=
    mkdir -p "$home/releases"
    remove_other_releases "$before" # what an interrupted run left
    release=$home/releases/$(($(basename "${before:-0}") + 1))
    install_packages
    make_user
    make_release "$release"
    configure "$release"
    keep_signers
    use "$release"
    quietly "the service cannot be enabled" "See: systemctl status avdrift" systemctl enable avdrift.service
    if [[ $1 == yes ]]; then
        start "$before"
        systemctl try-restart 'avdrift@*.service'
        remove_other_releases "$release"
    fi
    tell
}

tell() {
    say "$("$command" --version | tr -dc '0-9.') is installed; service: $(systemctl is-active avdrift.service || :)," \
        "$(systemctl show -p StatusText --value avdrift.service)"
    grep -qw memory /sys/fs/cgroup/cgroup.controllers 2>/dev/null || [[ -d /sys/fs/cgroup/memory ]] ||
        say "this kernel enforces no memory limits: add cgroup_enable=memory to /boot/firmware/cmdline.txt if you want them"
    cat <<END
  what it sees and hears:  sudo -u $user avdrift doctor
  what it says:            journalctl -u avdrift -f
  settings:                $config, then: avdrift check-config && sudo systemctl restart avdrift
  the broker's password:   sudo install -D -m 600 FILE /etc/credstore/avdrift.mqtt-password
  who may sign models:     /etc/avdrift/allowed_signers
  upgrade:                 git pull && sudo $clone/systemd/install.sh
END
}

uninstall() { # yes | no: purge
    ((EUID == 0)) || fail "this needs root" "Run: sudo $0 --uninstall"
    local name
    for name in $(instances); do systemctl disable --now "avdrift@$name.service" &>/dev/null || :; done
    systemctl disable --now avdrift.service &>/dev/null || :
    rm -rf "$units"/avdrift{,@}.service "$units"/avdrift{,@}.service.d "$home" /run/avdrift-install.lock
    rm -f "$command"
    systemctl daemon-reload
    systemctl reset-failed avdrift.service &>/dev/null || :
    if [[ $1 == yes ]]; then
        rm -rf "$(dirname "$config")" "$state" /etc/systemd/system/avdrift{,@}.service.d
        rm -f /etc/credstore/avdrift.*
        userdel "$user" 2>/dev/null || :
        say "removed, with configuration, models and user"
    else
        say "removed. These stay: $(dirname "$config"), $state, /etc/credstore/avdrift.*, the user $user (--purge removes them)"
    fi
    say "the Debian packages stay as well: ${packages[*]} $camera_package; and the journal keeps its lines for its usual time"
}

instances() { # the names of those that are enabled
    local link
    for link in /etc/systemd/system/multi-user.target.wants/avdrift@*.service; do
        [[ ! -L $link ]] || basename "${link#*avdrift@}" .service
    done
}

check_instance() { # NAME
    ((EUID == 0)) || fail "this needs root" "Run: sudo $0 --instance $1"
    [[ $1 =~ ^[a-z0-9][a-z0-9-]{0,30}$ && $1 != avdrift ]] ||
        fail "$1 is no name for an instance" "Give up to 31 of a to z, 0 to 9 and -, such as studio-2"
}

add_instance() { # NAME
    local file others
    check_instance "$1"
    file=$(dirname "$config")/$1.toml
    [[ -e $units/avdrift@.service ]] || fail "avdrift is not installed, or too old" "Install it first: sudo $0"
    if [[ ! -e $file ]]; then
        # Each has a name of its own on the broker and a port of its own for its page; all else is still to be said.
        others=("$(dirname "$config")"/*.toml)
        sed "s/^node = \"\"$/node = \"$1\"/; s/^port = 9754$/port = $((9754 + ${#others[@]}))/" "$venv/share/avdrift/avdrift.toml" >"$file.tmp"
        chmod 644 "$file.tmp" && mv -f "$file.tmp" "$file"
        say "$file is new: say there what it measures ([source] url, or a camera and a microphone of its own)"
    fi
    "$command" check-config "$file" >&2 || fail "$file is not right" "Correct it and run this again"
    quietly "the service cannot be enabled" "See: systemctl status avdrift@$1" systemctl enable "avdrift@$1.service"
    say "start it with: systemctl start avdrift@$1; what it says: journalctl -u avdrift@$1 -f"
}

remove_instance() { # NAME; its configuration and its state stay
    check_instance "$1"
    systemctl disable --now "avdrift@$1.service" &>/dev/null || :
    systemctl reset-failed "avdrift@$1.service" &>/dev/null || :
    say "avdrift@$1 is removed. These stay: $(dirname "$config")/$1.toml, $state/instances/$1"
}

case "$*" in
"") install_all yes ;;
--no-start) install_all no ;;
--uninstall) uninstall no ;;
"--uninstall --purge" | "--purge --uninstall") uninstall yes ;;
"--instance "?*) add_instance "${2-}" ;;
"--remove-instance "?*) remove_instance "${2-}" ;;
--help | -h) sed -n '2,7s/^# \{0,1\}//p' "$0" ;;
*) fail "unknown arguments: $*" "See: $0 --help" ;;
esac
