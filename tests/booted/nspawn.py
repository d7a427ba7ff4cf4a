"""A Debian tree booted with its own systemd in a container, over an overlay, so that the tree itself never changes.

Needs root and Debian's systemd-container and bsdutils. Limits of memory and of devices hold as on a real machine where
this one has its control groups in the old form (v1).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.repository.test_house import ROOT, repository_files

CONTROLLERS = ("memory", "devices", "pids", "cpu")
Done = subprocess.CompletedProcess[str]


def wait_until(true: Callable[[], bool], timeout_s: float, what: str) -> float:
    """Seconds until it was true. Raises TimeoutError."""
    began_s = time.monotonic()
    while not true():
        if time.monotonic() - began_s > timeout_s:
            raise TimeoutError(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.2)
    return time.monotonic() - began_s


def _remove_groups() -> None:
    """What the container's systemd has left below our own control groups."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, ours = line.split(":", 2)
        if names not in CONTROLLERS:
            continue
        for made in ("init.scope", "system.slice", "user.slice"):
            top = Path("/sys/fs/cgroup") / names / ours.lstrip("/") / made
            for folder in sorted([*top.rglob("*/"), top], reverse=True):
                with suppress(OSError):  # in use, or never made
                    folder.rmdir()


class Machine:
    """A context: boots, runs commands inside as root, powers off and forgets what has changed. One at a time.

    All of them would have the same control groups.
    """

    def __init__(self, tree: Path) -> None:
        self.tree = tree.resolve()
        self._work = Path(tempfile.mkdtemp(prefix="avdrift-booted-", dir="/var/tmp"))
        self.changed = self._work / "changed"  # what is not as in the tree
        self._merged = self._work / "merged"
        self._leader = 0
        self.booted_s = 0.0  # monotonic time of the last boot

    def __enter__(self) -> Self:
        for folder in (self.changed, self._merged, self._work / "overlay"):
            folder.mkdir()
        options = f"lowerdir={self.tree},upperdir={self.changed},workdir={self._work / 'overlay'}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, self._merged], check=True)
        try:
            self._boot()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _boot(self) -> None:
        nspawn = f"systemd-nspawn --register=no --keep-unit -D {self._merged} -M avdrift-{os.getpid()} --boot"
        nspawn += " --system-call-filter='adjtimex clock_adjtime'"  # else a container may not ask for the time
        # Without a terminal it prints nothing, and systemd inside takes offence.
        self._boot_log = (self._work / "boot.log").open("wb")
        self._process = subprocess.Popen(
            ["script", "-qec", nspawn, "/dev/null"], stdin=subprocess.DEVNULL, stdout=self._boot_log,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self.booted_s = time.monotonic()
        wait_until(self._find_leader, 30, "the container's first process")
        wait_until(lambda: self.run("true", check=False).returncode == 0, 30, "a way into the container")
        state = ("systemctl", "is-system-running")
        wait_until(lambda: self.run(*state, check=False).stdout.strip() in ("running", "degraded"), 60, "systemd")
        for name in CONTROLLERS:
            # The container may only look at them; systemd looks for them once, when it starts.
            self.run("mount", "-o", "remount,bind,rw", f"/sys/fs/cgroup/{name}", check=False)
        self.run("systemctl", "daemon-reexec")

    def _find_leader(self) -> bool:
        """Below `script`: a shell, perhaps; systemd-nspawn; the container's systemd."""
        pid = self._process.pid
        for _ in range(4):
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            if not children:
                return False
            was_nspawn = Path(f"/proc/{pid}/comm").read_text().strip() == "systemd-nspawn"
            pid = int(children[-1] if was_nspawn else children[0])
            if was_nspawn and Path(f"/proc/{pid}/comm").read_text().strip() == "systemd":
                self._leader = pid
                return True
        return False

    def reboot(self) -> None:
        self._shut_down()
        self._boot()

    def _shut_down(self) -> None:
        if self._leader:
            self.run("systemctl", "poweroff", check=False)
        self._leader = 0
        try:
            self._process.wait(timeout=40)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, 9)
            self._process.wait()
        self._boot_log.close()
        _remove_groups()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._shut_down()
        subprocess.run(["umount", "--lazy", self._merged], check=False)
        shutil.rmtree(self._work, ignore_errors=True)

    def run(self, *command: str, check: bool = True, timeout_s: float = 120) -> Done:
        """A command inside, as root, with this process's environment. Raises AssertionError with what it said."""
        inside = ["nsenter", "-t", str(self._leader), "-m", "-u", "-i", "-n", "-p", "-C", *command]
        done = subprocess.run(
            inside, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        if check and done.returncode:
            said = f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
            raise AssertionError(f"{' '.join(command)}: {done.returncode}\n{said}")
        return done

    def path(self, inside: str) -> Path:
        """The same file, seen from outside."""
        return Path(f"/proc/{self._leader}/root") / inside.lstrip("/")

    def write(self, inside: str, content: str) -> None:
        self.path(inside).parent.mkdir(parents=True, exist_ok=True)
        self.path(inside).write_text(content)

    def copy_clone(self, inside: str) -> None:
        """What is committed here or could be, as a clone on the machine."""
        for file in repository_files():
            target = self.path(inside) / file.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, target)
