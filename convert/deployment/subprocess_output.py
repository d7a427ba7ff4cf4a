"""Runs a program with untrusted output, within limits on time and on the amount of output."""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from typing import IO

MAX_OUTPUT_BYTES = 1 << 20  # of each of its two streams
_PIECE_BYTES = 1 << 16


def run_bounded(command: list[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run a program without input, in the C locale; return its output as text.

    Raises OSError if it cannot be started, subprocess.TimeoutExpired, and BufferError if it prints too much. It has
    ended in each case.
    """
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | {"LC_ALL": "C"},
    ) as process:  # fmt: skip
        assert process.stdout and process.stderr
        try:
            out, err = _read([process.stdout, process.stderr], time.monotonic() + timeout_s)
            process.wait(timeout_s)
        except TimeoutError as error:
            raise subprocess.TimeoutExpired(command, timeout_s) from error
        finally:
            process.kill()
    text = [each.decode("utf-8", "replace") for each in (out, err)]
    return subprocess.CompletedProcess(command, process.returncode, *text)


def _read(streams: list[IO[bytes]], until_s: float) -> list[bytes]:
    """Read all streams to their ends. Raises TimeoutError, BufferError."""
    contents = {stream.fileno(): bytearray() for stream in streams}
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(until_s - time.monotonic(), 0))
            if not ready:
                raise TimeoutError
            for key, _ in ready:
                piece = os.read(key.fd, _PIECE_BYTES)
                contents[key.fd] += piece
                if not piece:
                    selector.unregister(key.fileobj)
                if len(contents[key.fd]) > MAX_OUTPUT_BYTES:
                    raise BufferError(f"it prints more than {MAX_OUTPUT_BYTES} bytes")
    return [bytes(content) for content in contents.values()]
