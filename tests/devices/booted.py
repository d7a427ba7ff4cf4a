"""The service in a real, booted Debian: installed, broken in every way that can be arranged, upgraded, removed.

    debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,udev,ca-certificates,python3 bookworm TREE
    python -m tests.devices.booted TREE...      # as root; see tests.devices.nspawn

The tree must reach Debian's archive and the registry of Python packages. There is no camera and no microphone in a
container, so that a recording stands in for them. Prints one line per check, with the times measured; the exit code is
the number of failures.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import stat
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.devices.nspawn import Machine, wait_until
from tests.scenes import looped

CLONE = "/srv/avdrift"
RECORDING = "/srv/talking.mkv"
CONFIG = "/etc/avdrift/avdrift.toml"
STATE = "/var/lib/avdrift"
RELEASES = "/opt/avdrift/releases"
DROP_IN = "/etc/systemd/system/avdrift.service.d/test.conf"
SETTINGS = f'config_version = 1\n# mine\n[source]\nfile = "{RECORDING}"\n[measure]\nwindow_s = 4.0\n'
NUMBER = re.compile(r"[+-]\d+ ms, ")  # in the status, while measuring
LIMIT_S = 10.0  # from the end of the cause to measuring


def shown(m: Machine, name: str) -> str:
    return m.run("systemctl", "show", "-p", name, "--value", "avdrift").stdout.strip()


def pid(m: Machine) -> int:
    return int(shown(m, "MainPID"))


def journal(m: Machine, since_s: float | None = None) -> str:
    since = [] if since_s is None else [f"--since=@{since_s:.6f}"]
    return m.run("journalctl", "-u", "avdrift", "--no-pager", "-o", "cat", *since).stdout


def measuring(m: Machine, timeout_s: float = 60, besides: int = 0) -> float:
    """Seconds until a process other than `besides` says a number in its status."""

    def now() -> bool:
        # The status text outlives its process; active is only what has said ready.
        found = m.run("systemctl", "show", "-p", "MainPID,StatusText,ActiveState", "avdrift").stdout
        other = f"MainPID={besides}\n" not in found and "ActiveState=active\n" in found
        return other and bool(NUMBER.search(found))

    return wait_until(now, timeout_s, f"measuring; status is {shown(m, 'StatusText')!r}")


def within_limit(found_s: float, what: str) -> str:
    assert found_s <= LIMIT_S, f"{what}: measuring only after {found_s:.1f} s"
    return f"{what}: measuring after {found_s:.1f} s"


def restart(m: Machine) -> float:
    began_s = time.monotonic()
    m.run("systemctl", "restart", "avdrift", check=False)
    measuring(m)
    return time.monotonic() - began_s


def refuses(m: Machine, exit_code: int, *words: str) -> str:
    """It ends with this code, says why, and is not started again."""
    since_s = time.time()
    m.run("systemctl", "restart", "avdrift", check=False)
    wait_until(lambda: shown(m, "ActiveState") == "failed", 30, "refusal")
    time.sleep(2.5)  # more than RestartSec
    assert shown(m, "ExecMainStatus") == str(exit_code) and shown(m, "ActiveState") == "failed", journal(m, since_s)
    said = journal(m, since_s)
    assert all(word in said for word in words), said
    assert "Traceback" not in said and said.count("Starting ") <= 1, said
    lines = [line.strip() for line in said.splitlines() if line.startswith(("avdrift: ", "  "))]
    return f"exit code {exit_code}, not restarted: {' '.join(lines[-2:])}"


def settle(m: Machine) -> None:
    """What a failed check may have left must not make the next one fail."""
    m.run("mount", "-o", "remount,bind,rw", "/")
    m.path(CONFIG).chmod(0o644)
    if shown(m, "ActiveState") != "active" or m.path(CONFIG).read_text() != SETTINGS:
        m.write(CONFIG, SETTINGS)
        restart(m)
    measuring(m)


def offer_picamera2(m: Machine) -> None:
    """An archive with a python3-picamera2, as Raspberry Pi OS has one, that comes with a simplejpeg too old for us."""
    package = "Package: python3-picamera2\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nDescription: stand-in\n"
    m.write("/srv/deb/DEBIAN/control", package)
    libraries = "/srv/deb/usr/lib/python3/dist-packages"
    m.write(f"{libraries}/picamera2.py", "import simplejpeg\n")
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


def check_running(m: Machine) -> str:
    measuring(m)
    assert shown(m, "ActiveState") == "active" and shown(m, "SubState") == "running"
    assert '"state":"measuring"' in journal(m) or " ms  audio " in journal(m), journal(m)
    owner = Path(f"/proc/{_outer_pid(m)}/status").read_text()
    assert "CapEff:\t0000000000000000" in owner and "Seccomp:\t2" in owner and "NoNewPrivs:\t1" in owner, owner
    resident_mb = int(re.findall(r"VmHWM:\s+(\d+)", owner)[0]) // 1024
    return f"STATUS {shown(m, 'StatusText')!r}, {resident_mb} MB resident"


def _outer_pid(m: Machine) -> int:
    """The service's process id on this side."""
    group = shown(m, "ControlGroup")
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            inner = re.findall(r"NSpid:.*\t(\d+)$", status.read_text(), re.MULTILINE)
            ours = group in status.with_name("cgroup").read_text()
        except OSError:
            continue  # it has just ended
        if ours and inner == [str(pid(m))]:
            return int(status.parent.name)
    raise AssertionError("no such process")


def check_hardened(m: Machine) -> str:
    unit = "/usr/local/lib/systemd/system/avdrift.service"
    verified = m.run("systemd-analyze", "verify", unit)
    assert not verified.stderr.strip(), verified.stderr
    scored = m.run("systemd-analyze", "security", "--threshold=25", "--no-pager", "avdrift").stdout
    version = int(m.run("systemctl", "--version").stdout.split()[1])
    assert shown(m, "RestartSteps") == ("5" if version >= 254 else ""), "the back-off, where systemd knows it"
    return f"systemd {version}: {scored.splitlines()[-1].strip()}"


PROBE = """
import ctypes, errno, os, socket, time
def tried(work):
    try:
        work()
        return "ok"
    except OSError as error:
        return errno.errorcode[error.errno]
timex = ctypes.create_string_buffer(512)
def adjtimex():
    if ctypes.CDLL(None, use_errno=True).adjtimex(timex) < 0:
        raise OSError(ctypes.get_errno(), "")
opened = {name: tried(lambda: os.open(f"/dev/probe-{name}", os.O_RDWR)) for name in ("video", "sound", "tty")}
found = opened | {
    "usr": tried(lambda: open("/usr/x", "w")), "var": tried(lambda: open("/var/x", "w")),
    "state": tried(lambda: open("/var/lib/avdrift/x", "w")), "run": tried(lambda: open("/run/avdrift/x", "w")),
    "asked time": tried(adjtimex), "set time": tried(lambda: time.clock_settime(time.CLOCK_REALTIME, 1e9)),
    "udev": tried(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15)),
    "packets": tried(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
    "credential": tried(lambda: open(os.environ["CREDENTIALS_DIRECTORY"] + "/mqtt-password")),
}
print("FOUND", sorted(found.items()))
"""
# No driver is behind these nodes. Where opening is allowed the kernel looks for one: ENXIO. Where not: EPERM.
ALLOWED = {
    "video": "ENXIO", "sound": "ENXIO", "tty": "EPERM", "usr": "EROFS", "var": "EROFS", "state": "ok", "run": "ok",
    "asked time": "ok", "set time": "EPERM", "udev": "ok", "packets": "EAFNOSUPPORT", "credential": "ok",
}  # fmt: skip


def check_sandbox(m: Machine) -> str:
    """What the unit's sandbox allows, tried from inside by another program in a copy of the unit."""
    nodes = (("video", "video", 81, 200), ("sound", "audio", 116, 200), ("tty", "video", 4, 200))
    for name, group, major, minor in nodes:
        m.run("rm", "-f", f"/dev/probe-{name}")
        gid = int(m.run("getent", "group", group).stdout.split(":")[2])
        _mknod(m.path(f"/dev/probe-{name}"), major, minor, gid)
    m.write("/opt/probe.py", PROBE)
    m.write("/etc/credstore/avdrift.mqtt-password", "secret\n")
    unit = m.path("/usr/local/lib/systemd/system/avdrift.service").read_text()
    unit = re.sub(r"ExecStart=.*", "ExecStart=/usr/bin/python3 /opt/probe.py", unit).replace("=notify", "=oneshot")
    unit = re.sub(r"(NotifyAccess|ExecReload|Restart\w*|WatchdogSec)=.*\n", "", unit)
    m.write("/run/systemd/system/probe.service", unit)
    m.run("systemctl", "daemon-reload")
    m.run("systemctl", "start", "probe")
    said = m.run("journalctl", "-b", "-u", "probe", "-o", "cat", "--no-pager").stdout
    shutil.rmtree(m.path("/etc/credstore"))
    for left in ("/opt/probe.py", "/run/systemd/system/probe.service", f"{STATE}/x"):
        m.path(left).unlink()
    assert f"FOUND {sorted(ALLOWED.items())}" in said, said
    return "nodes of camera and microphone open, others not; nothing else writable; the credential is there"


def _mknod(path: Path, major: int, minor: int, gid: int) -> None:
    os.mknod(path, 0o660 | stat.S_IFCHR, os.makedev(major, minor))
    os.chown(path, 0, gid)
    path.chmod(0o660)


def check_killed(m: Machine) -> str:
    times_s = []
    for _ in range(3):
        before = pid(m)
        m.run("systemctl", "kill", "--signal=KILL", "avdrift")
        times_s.append(measuring(m, besides=before))
    return within_limit(max(times_s), f"kill -9 three times, {', '.join(f'{t:.1f}' for t in times_s)} s")


def check_stopped(m: Machine) -> str:
    before, since_s = pid(m), time.time()
    m.run("systemctl", "kill", f"--signal={int(signal.SIGSTOP)}", "avdrift")
    killed_s = wait_until(lambda: pid(m) not in (0, before), 60, "the watchdog")
    assert "Watchdog timeout" in journal(m, since_s), journal(m, since_s)
    return f"SIGSTOP: ended after {killed_s:.1f} s; " + within_limit(measuring(m, besides=before), "then")


def check_memory(m: Machine) -> str:
    m.write(DROP_IN, "[Service]\nMemoryMax=40M\n")
    m.run("systemctl", "daemon-reload")
    m.run("systemctl", "restart", "avdrift", check=False, timeout_s=200)
    wait_until(lambda: int(shown(m, "NRestarts")) >= 2, 120, "the second restart")
    m.path(DROP_IN).unlink()
    m.run("systemctl", "daemon-reload")
    return within_limit(measuring(m), f"restarted {shown(m, 'NRestarts')} times in 40 MB; with the limit back")


def check_full_disk(m: Machine) -> str:
    m.run("systemctl", "stop", "avdrift")
    m.run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", STATE)
    m.run("dd", "if=/dev/zero", f"of={STATE}/full", check=False)
    took_s = restart(m)
    m.run("systemctl", "stop", "avdrift")
    m.run("umount", STATE)
    restart(m)
    return within_limit(took_s, "full state folder")


def check_read_only(m: Machine) -> str:
    before = pid(m)
    m.run("journalctl", "--relinquish-var")
    m.run("mount", "-o", "remount,bind,ro", "/")
    m.run("systemctl", "kill", "--signal=KILL", "avdrift")
    took_s = measuring(m, besides=before)
    m.run("mount", "-o", "remount,bind,rw", "/")
    return within_limit(took_s, "read-only root, kill -9")


def check_permissions(m: Machine) -> str:
    m.run("chmod", "600", CONFIG)
    said = refuses(m, 2, CONFIG, "Permission denied")
    m.run("chmod", "644", CONFIG)
    m.run("chown", "-R", "root:root", STATE)
    m.run("chmod", "700", STATE)
    first_s = restart(m)
    before = pid(m)
    m.run("chmod", "700", "/opt/avdrift")
    m.run("systemctl", "kill", "--signal=KILL", "avdrift")
    time.sleep(8)
    m.run("chmod", "755", "/opt/avdrift")
    second = within_limit(measuring(m, besides=before), "program unreadable for 8 s, then")
    return f"{said}; {within_limit(first_s, 'state folder of root')}; {second}"


def check_configuration(m: Machine) -> str:
    m.write(CONFIG, SETTINGS.replace("4.0", "400"))
    said = refuses(m, 2, CONFIG, "window_s", "0.4 to 60")
    m.write(CONFIG, SETTINGS)
    return f"{said}; {within_limit(restart(m), 'corrected and started')}"


def check_models(m: Machine) -> str:
    release = m.run("readlink", "-f", "/opt/avdrift/venv").stdout.strip()
    face = m.path(f"{release}/share/avdrift/face_detection_short_range.tflite")
    content = face.read_bytes()
    face.write_bytes(content[:-1])
    refused = refuses(m, 4, face.name, "SHA-256")
    face.write_bytes(content)
    built_in = next(m.path(release).glob("lib/python3*/site-packages/device/models/default"))
    store = ("runuser", "-u", "avdrift", "--", "avdrift", "model", "install", "--store", STATE, "--allow-unsigned")
    m.run(*store, "--activate", f"/{built_in.relative_to(m.path('/'))}")
    for tower in m.path(STATE).glob("models/*/*.tflite"):
        tower.chmod(0o644)
        tower.write_bytes(b"not a model")
    since_s = time.time()
    took_s = restart(m)
    assert "measuring with the built-in models instead" in journal(m, since_s), journal(m, since_s)
    m.run("rm", "-rf", f"{STATE}/models")
    return f"{refused}; {within_limit(took_s, 'damaged installed model: the built-in one is used')}"


def check_without_devices(m: Machine) -> str:
    """No camera and no microphone: ready, with the fault's name, and neither watchdog nor restart until they come."""
    m.write(CONFIG, "config_version = 1\n")
    began_s = time.monotonic()
    m.run("systemctl", "restart", "avdrift")
    took_s = time.monotonic() - began_s
    before, status = pid(m), shown(m, "StatusText")
    assert re.search(r"\((camera|microphone) \w+\)", status), status
    time.sleep(30)  # more than WatchdogSec
    assert (pid(m), shown(m, "ActiveState"), shown(m, "NRestarts")) == (before, "active", "0")
    return f"ready after {took_s:.1f} s with STATUS {status!r}, and so for 30 s"


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
    project = m.path(f"{CLONE}/pyproject.toml")
    text = project.read_text()
    project.write_text(text.replace('"numpy>=2.4,<2.5"', '"numpy>=2.4,<2.4"'))
    done = m.run(f"{CLONE}/systemd/install.sh", check=False, timeout_s=1500)
    project.write_text(text)
    assert done.returncode == 1 and "pip could not install avdrift" in done.stderr, done.stderr
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
    aside = re.compile(
        r"srv|root|run|tmp|var/(tmp|log|cache)|var/lib/(apt|dpkg|systemd|dbus|ucf|private|python)|.*__pycache__|dev"
        r"|etc/(machine-id|ld\.so\.cache|resolv\.conf|passwd-?|group-?|shadow-?|gshadow-?|subuid-?|subgid-?|mailcap|\.pwd\.lock"
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


CHECKS: tuple[Callable[[Machine], str], ...] = (
    check_install, check_running, check_hardened, check_sandbox, check_killed, check_stopped, check_memory,
    check_full_disk, check_read_only, check_permissions, check_configuration, check_models,
    check_without_devices, check_upgrade, check_failed_upgrades, check_removed,
)  # fmt: skip


def check_tree(tree: Path) -> int:
    """How many checks failed."""
    failures = 0
    with Machine(tree) as m:
        m.copy_clone(CLONE)
        shutil.copy(looped(300), m.path(RECORDING))
        m.write(CONFIG, SETTINGS)
        for check in CHECKS:
            began_s, name = time.monotonic(), check.__name__.removeprefix("check_")
            try:
                if check is not check_install:
                    settle(m)
                said = f"ok    {name}: {check(m)}"
            except Exception:
                failures += 1
                said = f"FAIL  {name}\n{traceback.format_exc()}\n{journal(m)[-2000:]}"
            print(f"{tree.name} {said} [{time.monotonic() - began_s:.0f} s]", flush=True)
    return failures


if __name__ == "__main__":
    sys.exit(sum(check_tree(Path(tree)) for tree in sys.argv[1:]))
