"""Common to all commands: printable output, and errors as a message and an exit code, never a traceback."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import TextIO, cast

from device.errors import AvdriftError, TransportError
from device.printable import PrintableStream, shown_error
from device.telemetry.lines import ERROR_MARK, is_journal

_STDERR = 2
INTERRUPTED = 130  # as in a shell: 128 + SIGINT
# Errors of writing to an open file: there is no space, or the file takes nothing.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


def guarded(name: str, work: Callable[[], int]) -> int:
    """Run the work of the command `name`; return the exit code.

    Names from devices, bundles and files reach the terminal only as printable text.
    """
    try:
        _open_standard_streams()
    except TransportError as error:
        return _print(name, error)
    stdout, stderr = (cast(TextIO, PrintableStream(stream)) for stream in (sys.stdout, sys.stderr))
    with redirect_stdout(stdout), redirect_stderr(stderr):
        return _guarded(name, work)


def _guarded(name: str, work: Callable[[], int]) -> int:
    try:
        return _written(work)
    except AvdriftError as error:
        return _print(name, error)
    except BrokenPipeError:
        _discard_stdout()  # the reader of our output has gone
        return 0
    except OSError as error:
        if error.errno not in _NO_ROOM or error.filename is not None:
            raise
        what = f"cannot be written ({error.strerror})"
        return _print(name, TransportError(what, where="output", remedy="Free some space, or write somewhere else"))
    except KeyboardInterrupt:
        _flush_or_discard()
        return INTERRUPTED


def _written(work: Callable[[], int]) -> int:
    """Return the exit code once all output is written."""
    try:
        exit_code = work()
    except SystemExit:  # argparse has printed its help
        sys.stdout.flush()
        raise
    sys.stdout.flush()
    return exit_code


def _print(name: str, error: AvdriftError) -> int:
    _flush_or_discard()
    # In the journal, each of its lines is marked as an error.
    mark = ERROR_MARK if is_journal(_STDERR) else ""
    with suppress(OSError):
        print(mark + f"{name}: {shown_error(error)}".replace("\n", f"\n{mark}"), file=sys.stderr, flush=True)
    return error.exit_code


def _open_standard_streams() -> None:
    """Open any of the first three descriptors that is closed. Raises TransportError for standard output.

    Otherwise the next opened file would get its number, and our output.
    """
    closed = [stream for stream in (sys.stdin, sys.stdout, sys.stderr) if stream is None]
    while closed and (fd := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        pass
    if closed:
        os.close(fd)
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - until the process ends
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - until the process ends
        raise TransportError("closed", where="standard output", remedy="Redirect it, for example to /dev/null")


def _flush_or_discard() -> None:
    try:
        sys.stdout.flush()
    except OSError:
        _discard_stdout()


def _discard_stdout() -> None:
    """Otherwise Python would report another error when it closes stdout."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
