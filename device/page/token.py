"""The token that opens the page: 128 bits in a file that only its owner may read.

It opens everything, so it never appears in a log, and in an address only after `#`, which browsers do not send.
"""

from __future__ import annotations

import logging
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from device.config.settings import PageSettings
from device.errors import UsageError

FILE = "page-token"
_TOKEN_BYTES = 16
_MIN_CHARACTERS, _MAX_BYTES = 22, 200  # 128 bits are 22 characters of base64
_OTHERS = stat.S_IRWXG | stat.S_IRWXO

_log = logging.getLogger(__name__)


def token_file(settings: PageSettings, folder: Path, state_dir: Path) -> Path:
    """Its configured path; relative paths start at `folder`."""
    return folder / settings.token_file if settings.token_file else state_dir / FILE


class Token:
    """The current token of the file. Deleting the file creates a new token, which ends all access with the old one."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known: str | None = None
        self._changed_ns = 0  # of the file when it was read
        self._problem: str | None = None

    def current(self) -> str | None:
        """The token; None if there is none, which is logged once."""
        changed_ns = self._last_change_ns()
        if self._known is not None and changed_ns == self._changed_ns:
            return self._known
        previous = self._known
        try:
            self._known, self._changed_ns = read_token(self._file), self._last_change_ns()
        except UsageError as error:
            self._known = None
            if str(error) != self._problem:
                _log.warning("no token for the page: %s", error)
            self._problem = str(error)
            return None
        self._problem = None
        if previous not in (None, self._known):
            _log.warning("the page has another token: `avdrift page` prints its new address")
        return self._known

    def _last_change_ns(self) -> int:
        try:
            return self._file.lstat().st_ctime_ns
        except OSError:
            return -1


def read_token(file: Path) -> str:
    """The token in a file, which is created if missing: 128 bits, mode 0600. Raises UsageError."""
    with suppress(FileNotFoundError):
        return _read(file)
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        file.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        with os.fdopen(os.open(file, flags, 0o600), "w", encoding="ascii") as stream:
            stream.write(f"{token}\n")
    except FileExistsError:  # another process was first
        return _read(file)
    except OSError as error:
        remedy = "Free some space, or run this as the user that owns the folder"
        raise UsageError(f"no token can be stored ({error.strerror})", where=str(file), remedy=remedy) from error
    return token


def _read(file: Path) -> str:
    remedy = "Delete it, and a new one is made"
    try:
        with os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            status = os.fstat(stream.fileno())
            content = stream.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        remedy = "Run this as the user that owns it, for example with sudo"
        raise UsageError(f"the token cannot be read ({error.strerror})", where=str(file), remedy=remedy) from error
    if not stat.S_ISREG(status.st_mode) or status.st_mode & _OTHERS:
        raise UsageError("others may read this token, or it is not a plain file", where=str(file), remedy=remedy)
    token = content.decode("ascii", "replace").strip()
    if not _MIN_CHARACTERS <= len(token) <= _MAX_BYTES or not (token.isascii() and token.isprintable()):
        what = f"no token of {_MIN_CHARACTERS} to {_MAX_BYTES} characters"
        raise UsageError(what, where=str(file), remedy=remedy)
    return token
