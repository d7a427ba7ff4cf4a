"""Files that a command writes where its user says: never in place of a file of another kind."""

from __future__ import annotations

import stat
from pathlib import Path

from device.errors import UsageError


def check_output(path: Path, beginnings: tuple[bytes, ...], *, force: bool = False) -> None:
    """Nothing, where a file may be written: it is new, empty, a device or pipe, or begins as one of its kind does.

    Raises UsageError for a folder, and unless `force` for any other file: most likely another one was meant.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise UsageError("is a folder", where=str(path), remedy="Give the name of a file")
        if force or not stat.S_ISREG(status.st_mode) or status.st_size == 0:
            return
        with path.open("rb") as file:
            begins = file.read(max(map(len, beginnings)))
    except FileNotFoundError:
        return
    except OSError as error:
        what = f"cannot be looked at ({error.strerror})"
        raise UsageError(what, where=str(path), remedy="Give another name, or delete it") from error
    if not begins.startswith(beginnings):
        remedy = "Give another name, or delete it, or overwrite it with --force"
        raise UsageError("exists already, and is a file of another kind", where=str(path), remedy=remedy)
