"""Secrets in files of their own, so that none is in the configuration or on a command line."""

from __future__ import annotations

import os
from pathlib import Path

from device.errors import UsageError

_CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"  # of systemd's LoadCredential


def secret_file(configured: str, folder: Path, credential: str) -> Path | None:
    """The configured file, relative to `folder`; otherwise the service's credential of this name, if there is one."""
    if configured:
        return folder / configured
    credentials = os.environ.get(_CREDENTIALS_VARIABLE)
    file = Path(credentials) / credential if credentials else None
    return file if file is not None and file.exists() else None


def read_secret(file: Path, max_bytes: int, what: str, remedy: str) -> str:
    """Read a file that contains only a secret, named `what` in messages; the end of its line is no part of it.

    Raises UsageError.
    """
    try:
        with file.open("rb") as stream:
            text = stream.read(max_bytes + 1).decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UsageError(f"no {what} ({reason})", where=str(file), remedy=remedy) from None
    secret = text.rstrip("\r\n")
    if not secret or len(text) > max_bytes:
        raise UsageError(f"empty or endless, so no {what}", where=str(file), remedy=remedy)
    return secret
