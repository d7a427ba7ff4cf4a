"""Lines of text for somebody who may not be reading: a terminal, a file, a pipe, the journal."""

from __future__ import annotations

import os
import select
from collections.abc import Mapping

CLEAR_LINE = "\r\x1b[K"  # of a terminal: what stood in its line is gone (ECMA-48, EL)
JOURNAL_VARIABLE = "JOURNAL_STREAM"
ERROR_MARK = "<3>"  # the journal takes it as the priority of a line (sd-daemon(3))
_PIECE_BYTES = 4096  # PIPE_BUF: as much as a pipe takes at once when it says that it takes something


class LineWriter:
    """Writes lines to a file descriptor. Never raises, and waits only as long as it is told: what nobody takes is lost.

    `error` is why the last line was lost, where it was not for want of somebody who takes it: the reader has gone, or
    the disk is full.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.error: OSError | None = None
        self._torn = False  # the last line was not written to its end
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    def write(self, line: str, wait_s: float = 0.0, *, end: str = "\n") -> bool:
        """Write a line, given without its end; False where it is lost."""
        self.error = None
        data = b"\n" * self._torn + line.encode(errors="backslashreplace") + end.encode()
        for start in range(0, len(data), _PIECE_BYTES):
            piece = data[start : start + _PIECE_BYTES]
            try:
                # Of a full disk, a file still says that it takes something, and then takes only a part.
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
    """Whether a file descriptor leads straight to systemd's journal (systemd.exec(5), $JOURNAL_STREAM)."""
    try:
        found = os.fstat(fd)
    except OSError:
        return False
    return environment.get(JOURNAL_VARIABLE) == f"{found.st_dev}:{found.st_ino}"
