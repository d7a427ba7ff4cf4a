"""The service in a real, booted Debian: installed, broken in every way that can be arranged, upgraded, removed.

    debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,udev,ca-certificates,python3 SUITE TREE
    python -m tests.booted.run TREE...      # as root; see tests.booted.nspawn

SUITE is bookworm or trixie. The tree must reach the archive of Debian and the registry of Python packages. No container
has a camera or a microphone, so that a recording stands in for them. Prints one line per check, with the times
measured; the exit code is the number of failures.
"""

from __future__ import annotations

import re
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.booted import breaking, deploying, installing, sandbox
from tests.booted.nspawn import Machine
from tests.booted.service import CLONE, CONFIG, NUMBER, RECORDING, SETTINGS, journal, measuring, pid, settle, shown
from tests.scenes import looped


def check_running(m: Machine) -> str:
    measuring(m)
    assert shown(m, "ActiveState") == "active" and shown(m, "SubState") == "running"
    said = journal(m)
    assert '"state":"measuring"' in said or NUMBER.search(said), said
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


CHECKS: tuple[Callable[[Machine], str], ...] = (
    installing.check_install, check_running, installing.check_instance, sandbox.check_hardened, sandbox.check_sandbox,
    breaking.check_killed, breaking.check_stopped, breaking.check_memory, breaking.check_full_disk,
    breaking.check_read_only, breaking.check_permissions, breaking.check_configuration, breaking.check_reload,
    breaking.check_models, deploying.check_deploy, breaking.check_without_devices, breaking.check_reboot,
    installing.check_upgrade, installing.check_failed_upgrades, installing.check_removed,
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
                if check is not CHECKS[0]:
                    settle(m)
                said = f"ok    {name}: {check(m)}"
            except Exception:
                failures += 1
                said = f"FAIL  {name}\n{traceback.format_exc()}\n{journal(m)[-2000:]}"
            print(f"{tree.name} {said} [{time.monotonic() - began_s:.0f} s]", flush=True)
    return failures


if __name__ == "__main__":
    sys.exit(sum(check_tree(Path(tree)) for tree in sys.argv[1:]))
