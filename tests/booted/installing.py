"""Checks of the installer: the first time, upgrades, failed ones, removal. Each returns what it saw, or raises."""

from __future__ import annotations

import hashlib
import re
import time

from tests.booted.nspawn import Machine, wait_until
from tests.booted.service import CLONE, CONFIG, NUMBER, RELEASES, SETTINGS, STATE, measuring, pid, shown, within_limit


def offer_picamera2(m: Machine) -> None:
    """An archive with a python3-picamera2, as Raspberry Pi OS has one, that comes with a simplejpeg too old for us."""
    package = "Package: python3-picamera2\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nDescription: stand-in\n"
    m.write("/srv/deb/DEBIAN/control", package)
    libraries = "/srv/deb/usr/lib/python3/dist-packages"
    m.write(f"{libraries}/picamera2.py", "import simplejpeg\nclass Picamera2:\n    global_camera_info = list\n")
    m.write(f"{libraries}/simplejpeg.py", "")
    about = "Metadata-Version: 2.1\nName: simplejpeg\nVersion: 1.6.6\n"
    m.write(f"{libraries}/simplejpeg-1.6.6.dist-info/METADATA", about)
    m.run("dpkg-deb", "--build", "--root-owner-group", "/srv/deb", "/srv/archive.deb")
    content = m.path("/srv/archive.deb").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    m.write("/srv/Packages", f"{package}Filename: ./archive.deb\nSize: {len(content)}\nSHA256: {digest}\n")
    m.write("/etc/apt/sources.list.d/stand-in.list", "deb [trusted=yes] file:/srv ./\n")


def check_install(m: Machine) -> str:
    # The system's own NumPy, an older one, must not get in the way.
    m.run("apt-get", "update", "-qq")
    m.run("apt-get", "install", "-y", "-qq", "--no-install-recommends", "python3-numpy", timeout_s=600)
    offer_picamera2(m)
    began_s = time.monotonic()
    said = m.run(f"{CLONE}/systemd/install.sh", timeout_s=1500).stdout
    took_s = time.monotonic() - began_s
    libraries = "import cv2, numpy, pyaudio, picamera2 as p; print(numpy.__file__, cv2.__file__, p.simplejpeg.__file__)"
    found = m.run("/opt/avdrift/venv/bin/python", "-c", libraries).stdout.split()
    assert all(file.startswith("/opt/avdrift/") for file in found), found
    assert "journalctl -u avdrift -f" in said, said
    assert m.path(CONFIG).read_text() == SETTINGS
    assert m.run("systemctl", "is-enabled", "avdrift").stdout.strip() == "enabled"
    size_mb = int(m.run("du", "-sm", "/opt/avdrift").stdout.split()[0])
    left = [name for name in ("build", "avdrift.egg-info", ".venv") if (m.path(CLONE) / name).exists()]
    assert not left, f"left in the clone: {left}"
    return f"{took_s:.0f} s, {size_mb} MB"


def check_instance(m: Machine) -> str:
    """Another one beside it, with a configuration, a state folder and a name of its own; and its removal."""
    m.run(f"{CLONE}/systemd/install.sh", "--instance", "studio-2")
    config = "/etc/avdrift/studio-2.toml"
    text = m.path(config).read_text()
    assert 'node = "studio-2"' in text and "port = 9755" in text
    m.write(config, SETTINGS)
    before = pid(m)
    m.run("systemctl", "start", "avdrift@studio-2")

    def status() -> str:
        return m.run("systemctl", "show", "-p", "StatusText", "--value", "avdrift@studio-2").stdout

    took_s = wait_until(lambda: NUMBER.search(status()) is not None, 90, "a number of the instance")
    assert m.path(f"{STATE}/instances/studio-2").is_dir() and pid(m) == before
    m.run(f"{CLONE}/systemd/install.sh", "--remove-instance", "studio-2")
    assert m.run("systemctl", "show", "-p", "ActiveState", "--value", "avdrift@studio-2").stdout.strip() == "inactive"
    assert pid(m) == before
    return f"measuring after {took_s:.0f} s beside the first one, which went on"


def check_upgrade(m: Machine) -> str:
    default = m.path(f"{CLONE}/systemd/avdrift.toml")
    text = default.read_text()
    default.write_text(text.replace("report_every_s = 1.0", "report_every_s = 2.0"))
    before, began_s = pid(m), time.monotonic()
    m.run(f"{CLONE}/systemd/install.sh", timeout_s=1500)
    took_s = time.monotonic() - began_s
    default.write_text(text)
    assert pid(m) != before and m.path(CONFIG).read_text() == SETTINGS
    assert "report_every_s = 2.0" in m.path(f"{CONFIG}.new").read_text()
    assert [release.name for release in m.path(RELEASES).iterdir()] == ["2"]
    return f"{took_s:.0f} s; configuration kept, the new defaults beside it; {within_limit(measuring(m), 'then')}"


BROKEN = """
def broken(*_: object, **__: object) -> None:
    raise SystemExit(70)

Daemon.run = broken
"""


def check_failed_upgrades(m: Machine) -> str:
    """What cannot be installed is not switched to; what does not start is switched back."""
    before = pid(m)
    locked = {file: file.read_text() for file in m.path(f"{CLONE}/requirements/run").glob("*.txt")}
    for file, text in locked.items():
        file.write_text(re.sub(r"sha256:[0-9a-f]{8}", "sha256:00000000", text))  # tampered with
    done = m.run(f"{CLONE}/systemd/install.sh", check=False, timeout_s=1500)
    for file, text in locked.items():
        file.write_text(text)
    assert done.returncode == 1 and "pip could not install what avdrift needs" in done.stderr, done.stderr
    assert pid(m) == before and bool(NUMBER.search(shown(m, "StatusText")))
    program = m.path(f"{CLONE}/device/runtime/daemon.py")
    text = program.read_text()
    program.write_text(text + BROKEN)
    done = m.run(f"{CLONE}/systemd/install.sh", check=False, timeout_s=1500)
    program.write_text(text)
    assert done.returncode == 1 and m.path("/opt/avdrift/venv").readlink().name == "2", done.stderr
    return f"{done.stderr.splitlines()[-1]}; {within_limit(measuring(m, besides=before), 'then')}"


def check_removed(m: Machine) -> str:
    """Nothing stays but what it says, by the overlay: it holds every file that is not as before."""
    said = m.run(f"{CLONE}/systemd/install.sh", "--uninstall").stdout
    kept = _ours(m)
    allowed = ("etc/avdrift", "var/lib/avdrift")
    assert kept and all(path.startswith(allowed) for path in kept), kept
    assert "/etc/avdrift" in said and STATE in said, said
    assert m.run("systemctl", "show", "-p", "LoadState", "--value", "avdrift").stdout.strip() == "not-found"
    m.run(f"{CLONE}/systemd/install.sh", "--uninstall", "--purge")
    left = _ours(m)
    assert not left, left
    assert m.run("id", "avdrift", check=False).returncode != 0
    return f"kept: {', '.join(kept)}; after --purge nothing"


def _ours(m: Machine) -> list[str]:
    """Files that neither Debian's packages nor a running system have made."""
    packaged = set(m.run("bash", "-c", "sort -u /var/lib/dpkg/info/*.list").stdout.splitlines())
    aside = re.compile(  # with what deploying.py installs for its user pi
        r"srv|root|home/pi|etc/(rc[0-6S]\.d/|hosts\.(allow|deny)|sudoers\.d/pi)|run|tmp|var/(tmp|log|cache)|var/lib/(apt|dpkg|systemd|dbus|ucf|private|python|wtmpdb)|.*__pycache__|dev"
        r"|etc/(machine-id|apt/|ld\.so\.cache|resolv\.conf|passwd-?|group-?|shadow-?|gshadow-?|subuid-?|subgid-?|mailcap|\.pwd\.lock"
        r"|\.updated|alternatives|ssl|ssh|ca-certificates.*)|var/\.updated|usr/share/(info|mime|applications)|usr/lib/udev"
    )
    found = []
    for path in m.changed.rglob("*"):
        name = str(path.relative_to(m.changed))
        target = str(path.readlink()) if path.is_symlink() else ""
        names = {target, f"/{name}", f"/{name.removeprefix('usr/')}"}
        of_package = target.startswith("/etc/alternatives/") or names & packaged
        if not (path.is_dir() or aside.match(name) or of_package):
            found.append(name)
    return sorted(found)
