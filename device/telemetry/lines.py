"""Writes lines of text to a reader that may not be reading: a terminal, a file, a pipe, the journal."""

from __future__ import annotations

import os
import select
from collections.abc import Mapping

CLEAR_LINE = "\r\x1b[K"  # erases the current line of a terminal (ECMA-48, EL)
JOURNAL_VARIABLE = "JOURNAL_STREAM"
ERROR_MARK = "<3>"  # the journal reads it as the priority of a line, see sd-daemon(3)
_PIECE_BYTES = 4096  # PIPE_BUF: the size that a writable pipe accepts at once


class LineWriter:
    """Writes lines to a file descriptor. Never raises, and waits only as long as requested; lines may be lost.

    `error` is why the last line was lost, unless the reader was merely slow: the reader has gone, or the disk is full.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.error: OSError | None = None
        self._torn = False  # the last line was written only in part
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    def write(self, line: str, wait_s: float = 0.0, *, end: str = "\n") -> bool:
        """Write a line, given without its end; return False if it is lost."""
        self.error = None
        data = b"\n" * self._torn + line.encode(errors="backslashreplace") + end.encode()
        for start in range(0, len(data), _PIECE_BYTES):
            piece = data[start : start + _PIECE_BYTES]
            try:
                # A file on a full disk still polls as writable, and then takes only a part.
                written = os.write(self._fd, piece) if self._poll.poll(wait_s * 1000) else 0
            except BlockingIOError:
                written = 0
            except OSError as error:
                self.error, written = error, 0
            if written < len(piece):
                self._torn = self._torn or start + written > 0
                return False
        self._torn = False
        return True


def is_journal(fd: int, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a file descriptor leads directly to systemd's journal; see $JOURNAL_STREAM in systemd.exec(5)."""
    try:
        found = os.fstat(fd)
    except OSError:
        return False
    return environment.get(JOURNAL_VARIABLE) == f"{found.st_dev}:{found.st_ino}"
