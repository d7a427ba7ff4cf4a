"""A folder that one process at a time changes, and whose links change atomically.

What a change builds has a name that begins with a dot until it is renamed. A killed process may leave such names
behind; the next change removes them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from device.state.disk import Disk

_LOCK = ".lock"


class LockedFolder:
    """All methods raise OSError. Those that change something are for use within `changing`."""

    def __init__(self, path: Path, disk: Disk) -> None:
        self._path, self._disk = path, disk

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the lock, and remove leftovers before the change and after a failure.

        Raises BlockingIOError if another process holds it.
        """
        import fcntl  # POSIX only, like the store

        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(self._path / _LOCK, flags, 0o644), "rb") as lock:
            fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.sweep()
            try:
                yield
            except Exception:
                with contextlib.suppress(OSError):  # keep the first failure; the next change cleans up
                    self.sweep()
                raise

    def sweep(self) -> None:
        """Remove leftovers."""
        for path in sorted(self._path.iterdir()):
            if path.name.startswith(".") and path.name != _LOCK:
                self._disk.remove(path)

    def point(self, link: str, target: str) -> None:
        """Make or change a link, durably."""
        made = self._path / f".{link}"
        self._disk.symlink(made, target)
        self._disk.replace(made, self._path / link)
        self._disk.sync_folder(self._path)

    def unlink(self, link: str) -> None:
        """Remove a link, durably."""
        self._disk.remove(self._path / link)
        self._disk.sync_folder(self._path)
