"""A file that gets its name only when it is whole. What a killed run leaves is removed by the next one."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ModuleNotFoundError:  # not POSIX: what a killed run leaves stays
    fcntl = None  # type: ignore[assignment]

_STEM_CHARACTERS = 100
_RANDOM_BYTES = 8


@contextmanager
def unfinished(target: Path) -> Iterator[Path]:
    """Create an empty file beside the target; it is removed at the end, unless it was renamed.

    Its name is unpredictable, so that nobody can plant a link there, and ends as the target's, which tells the
    container. A lock says that this run still needs it. Raises OSError, ValueError.
    """
    _remove_left(target)
    made = target.with_name(f"{_prefix(target)}{secrets.token_hex(_RANDOM_BYTES)}{target.suffix}")
    descriptor = os.open(made, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666)
    try:
        _lock(descriptor)
        yield made
    finally:
        made.unlink(missing_ok=True)
        os.close(descriptor)


def _prefix(target: Path) -> str:
    return f".{target.stem[:_STEM_CHARACTERS]}."


def _lock(descriptor: int) -> bool:
    """Whether nobody else has it. Where a file system has no locks, nothing counts as left."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove_left(target: Path) -> None:
    """Remove the files of earlier runs onto this target that no process has locked."""
    left = re.compile(
        rf"{re.escape(_prefix(target))}[0-9a-f]{{{2 * _RANDOM_BYTES}}}{re.escape(target.suffix)}", re.DOTALL
    )
    for path in target.parent.iterdir():
        if left.fullmatch(path.name):
            with suppress(OSError):  # another user's, or no longer there
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
                try:
                    if _lock(descriptor):
                        path.unlink()
                finally:
                    os.close(descriptor)
