"""The model store's steps of reading and changing a disk, each small enough for a test to make it fail."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from pathlib import Path

from device.errors import ModelCorruptError


def read_plain(path: Path, limit_bytes: int) -> bytes:
    """Content of a plain file, without following links, waiting for pipes or opening devices.

    Raises OSError, and ModelCorruptError for anything but a plain file of at most `limit_bytes`.
    """
    if not stat.S_ISREG(path.lstat().st_mode):
        raise ModelCorruptError("not a plain file", where=str(path), remedy="Build or copy the bundle again")
    # The flags cover the moment between the two checks.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(limit_bytes + 1)
    if len(content) > limit_bytes:
        raise ModelCorruptError(f"larger than {limit_bytes} bytes", where=str(path), remedy="Build the bundle again")
    return content


class Disk:
    """Operations that change a disk; each raises OSError.

    Created or replaced names survive a power cut once the folder above them was synced.
    """

    def make_folder(self, path: Path) -> None:
        path.mkdir(0o755)  # not for its group to write, although Debian 13 has an umask of 002

    def write_file(self, path: Path, content: bytes) -> None:
        """Write a new file; its content is on disk when this returns."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(path, flags, 0o644), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def sync_folder(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def make_folders(self, path: Path) -> None:
        """Create a folder and its missing parents."""
        for each in reversed([each for each in (path, *path.parents) if not each.exists()]):
            with contextlib.suppress(FileExistsError):  # another process was faster
                self.make_folder(each)
            self.sync_folder(each.parent)

    def write_atomically(self, path: Path, content: bytes) -> None:
        """Replace a file: a power cut leaves the complete old one or the complete new one."""
        made = path.with_name(f".{path.name}.new")
        if os.path.lexists(made):  # left by a killed process
            self.remove(made)
        self.write_file(made, content)
        self.replace(made, path)
        self.sync_folder(path.parent)

    def symlink(self, path: Path, target: str) -> None:
        path.symlink_to(target)

    def replace(self, source: Path, target: Path) -> None:
        """Rename `source` to `target` atomically."""
        source.replace(target)

    def remove(self, path: Path) -> None:
        """Remove a file, a link (never its target), or a folder with its content."""
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
