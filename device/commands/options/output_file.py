"""Output files of commands: never written over a file of another kind."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from device.errors import UsageError


def check_output(path: Path, beginnings: tuple[bytes, ...], *, force: bool = False) -> None:
    """Check that a file may be written: it is new, a device or pipe, empty, or begins like this kind of file.

    Raises UsageError for a folder, without write permission and, without `force`, for any other file: most likely
    another one was meant.
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
        if not os.access(path.parent, os.W_OK | os.X_OK):
            what = f"cannot be written: there is no folder {path.parent} in which this user may write"
            raise UsageError(what, where=str(path), remedy="Give a file name in another folder, or make it") from None
        return
    except OSError as error:
        what = f"cannot be checked ({error.strerror})"
        raise UsageError(what, where=str(path), remedy="Give another name, or delete it") from error
    if not begins.startswith(beginnings):
        remedy = "Give another name, or delete it, or overwrite it with --force"
        raise UsageError("exists already, and is a file of another kind", where=str(path), remedy=remedy)
