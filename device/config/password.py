"""Reads a password from a file of its own, so that it need not be in a configuration or on a command line."""

from __future__ import annotations

import os
from pathlib import Path

from device.errors import UsageError

_CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"  # of systemd's LoadCredential
_MAX_BYTES = 4096


def password_file(configured: str, folder: Path, credential: str) -> Path | None:
    """The configured file, relative to `folder`; otherwise the service's credential of this name, if there is one."""
    if configured:
        return folder / configured
    credentials = os.environ.get(_CREDENTIALS_VARIABLE)
    file = Path(credentials) / credential if credentials else None
    return file if file is not None and file.exists() else None


def read_password(file: Path) -> str:
    """Its content, without the end of the line. Raises UsageError."""
    remedy = "Put the password there and nothing else, readable for avdrift only"
    try:
        with file.open("rb") as stream:
            text = stream.read(_MAX_BYTES + 1).decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UsageError(f"no password ({reason})", where=str(file), remedy=remedy) from None
    password = text.rstrip("\r\n")
    if not password or len(text) > _MAX_BYTES or not password.isprintable():
        raise UsageError("empty, endless or with control characters, so no password", where=str(file), remedy=remedy)
    return password
