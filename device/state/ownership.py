"""Ownership of a state folder: what others may write there is not trustworthy, least of all for root."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from device.errors import ModelStoreError

_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


def check_ours(path: Path, *, folder: bool) -> None:
    """Check that only this user or root may change it, if it exists. Raises ModelStoreError.

    Links are not followed, because whoever may write beside one could redirect it.
    """
    where = str(path)
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | (os.O_DIRECTORY if folder else 0)
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        return
    except OSError as error:
        is_other = error.errno in (errno.ELOOP, errno.ENOTDIR)
        what = f"a link, or not a {'folder' if folder else 'plain file'}" if is_other else error.strerror
        remedy = "Check what it is, and who has put it there"
        raise ModelStoreError(f"cannot be opened ({what})", where=where, remedy=remedy) from error
    try:
        status = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if not folder and not stat.S_ISREG(status.st_mode):
        raise ModelStoreError("not a plain file", where=where, remedy="Check what it is, and who has put it there")
    if status.st_uid not in (0, os.geteuid()):
        user = user_name(status.st_uid)
        remedy = f"Run this as that user, for example with: sudo -u {user}"
        raise ModelStoreError(f"belongs to {user}, who could change it meanwhile", where=where, remedy=remedy)
    if status.st_mode & _OTHERS_MAY_WRITE:
        remedy = f"Check that nobody has changed it, then: chmod go-w {path}"
        raise ModelStoreError("others may write to it", where=where, remedy=remedy)


def become_owner(folder: Path) -> None:
    """As root, become the folder's owner for the rest of the process, so that nothing in it can misuse root's rights.

    Raises ModelStoreError if that is not possible.
    """
    if os.geteuid() != 0:
        return
    try:
        owner = folder.stat()
        if owner.st_uid == 0:
            return
        os.initgroups(user_name(owner.st_uid), owner.st_gid)
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)
    except FileNotFoundError:
        return
    except OSError as error:
        what = f"cannot become its owner ({error.strerror})"
        raise ModelStoreError(what, where=str(folder), remedy="Run this as its owner") from error


def user_name(uid: int) -> str:
    import pwd  # POSIX only

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
