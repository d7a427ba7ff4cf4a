"""Bytes for PyAV to read as they arrive: from a pipe, or from a file that is still growing.

PyAV's own timeouts do not apply to these. So each wait has a limit here, and `close` ends it from any thread.
"""

from __future__ import annotations

import os
import select
import threading
import time
from pathlib import Path
from typing import BinaryIO

_POLL_S = 0.05


class Pipe:
    """An open descriptor that cannot seek, such as standard input. Raises TimeoutError if nothing comes."""

    def __init__(self, descriptor: int, within_s: float) -> None:
        self._descriptor, self._within_s = descriptor, within_s
        self._closing = threading.Event()
        self.ended = False  # whether the other end has been closed

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, as soon as there are any; empty at the end."""
        until = time.monotonic() + self._within_s
        while not self._closing.is_set():
            if select.select([self._descriptor], [], [], _POLL_S)[0]:
                block = os.read(self._descriptor, size)
                self.ended = not block
                return block
            if time.monotonic() > until:
                raise TimeoutError("nothing came")
        return b""

    def close(self) -> None:
        """Stop reading soon. The descriptor belongs to the caller and stays open."""
        self._closing.set()


class GrowingFile:
    """A file that another program is still writing: waits for more at its end. Raises TimeoutError."""

    def __init__(self, path: Path, within_s: float) -> None:
        self._file: BinaryIO = path.open("rb")
        self._within_s = within_s
        self._closing = threading.Event()
        self.at_end = False  # whether the content from before has been read

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, as soon as there are any; empty once closed."""
        until = time.monotonic() + self._within_s
        while not self._closing.is_set():
            if block := self._file.read(size):
                return block
            self.at_end = True
            if time.monotonic() > until:
                raise TimeoutError("the file does not grow any more")
            self._closing.wait(_POLL_S)
        return b""

    def close(self) -> None:
        """Stop reading soon; safe from any thread."""
        self._closing.set()

    def __del__(self) -> None:
        self._file.close()
