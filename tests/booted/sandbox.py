"""Checks of the sandbox from inside: what may be opened, written and asked. Each returns what it saw, or raises."""

from __future__ import annotations

import os
import re
import shutil
import stat
from pathlib import Path

from tests.booted.nspawn import Machine
from tests.booted.service import STATE, shown


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
