"""The installed service on a booted machine, as the checks see it: its state, its journal, and whether it measures."""

from __future__ import annotations

import re
import time

from tests.booted.nspawn import Machine, wait_until

CLONE = "/srv/avdrift"
RECORDING = "/srv/talking.mkv"
CONFIG = "/etc/avdrift/avdrift.toml"
STATE = "/var/lib/avdrift"
RELEASES = "/opt/avdrift/releases"
DROP_IN = "/etc/systemd/system/avdrift.service.d/test.conf"
SETTINGS = f"""config_version = 1
# mine
[source]
file = "{RECORDING}"
[measure]
window_s = 4.0
[log]
reports = "all"
"""
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
