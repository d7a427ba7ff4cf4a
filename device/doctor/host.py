"""The computer as the checks see it: files under a root that tests can replace, programs, and the user."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_MAX_BYTES = 65_536
_PROGRAM_S = 5.0

Run = Callable[[Sequence[str]], str | None]


def run_program(command: Sequence[str]) -> str | None:
    """The output of a program; None if it is missing, fails or takes too long."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=_PROGRAM_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def own_name() -> str:
    import pwd  # POSIX only

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


@dataclass(frozen=True, slots=True)
class Host:
    """`root` stands for /. `user` is the one that avdrift runs as; `own` says whether that is the current user."""

    root: Path = Path("/")
    run: Run = run_program
    user: str = ""
    own_groups: frozenset[int] | None = None  # of this process; None for another user

    def text(self, path: str) -> str | None:
        """Content of a small file; None if it cannot be read."""
        try:
            with (self.root / path).open("rb") as file:
                return file.read(_MAX_BYTES).decode("utf-8", "replace").strip()
        except OSError:
            return None

    def number(self, path: str) -> int | None:
        try:
            return int(self.text(path) or "")
        except ValueError:
            return None

    def paths(self, pattern: str) -> list[str]:
        """Sorted paths under the root that match the pattern."""
        return sorted(str(path.relative_to(self.root)) for path in self.root.glob(pattern))

    def fields(self, path: str) -> dict[str, int]:
        """The numbers in `Name: 123 kB` lines, as in /proc, by name."""
        found = {}
        for line in (self.text(path) or "").splitlines():
            name, _, value = line.partition(":")
            if (first := value.split()[:1]) and first[0].isdecimal():
                found[name.strip()] = int(first[0])
        return found

    def groups(self) -> dict[str, tuple[int, frozenset[str]]]:
        """Number and listed members of each group."""
        found = {}
        for line in (self.text("etc/group") or "").splitlines():
            parts = line.split(":")
            if len(parts) == 4 and parts[2].isdecimal():
                found[parts[0]] = int(parts[2]), frozenset(name for name in parts[3].split(",") if name)
        return found

    def is_in(self, group: str) -> bool:
        """Whether the user is in a group now: one that was joined after login does not count yet."""
        number, members = self.groups().get(group, (-1, frozenset()))
        return number in self.own_groups if self.own_groups is not None else self.user in members


def this_host(user: str | None = None) -> Host:
    """This computer, as seen by the given or the current user."""
    own = own_name()
    if user is None or user == own:
        return Host(user=own, own_groups=frozenset({os.getgid(), *os.getgroups()}))
    return Host(user=user)
