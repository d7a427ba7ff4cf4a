"""Runs one avdrift command in a process of its own, which ends with this one; errors quote its output."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from device.errors import AvdriftError, InputFormatError, ModelCorruptError, UsageError
from train.progress import FILE_VARIABLE

PROGRESS = "progress.json"
_WATCH_S = 1.0
_STOP_S = 20.0  # before a command that does not end is killed
_ERRORS: dict[int, type[AvdriftError]] = {2: UsageError, 3: InputFormatError, 4: ModelCorruptError}


def run_command(
    words: Sequence[str], log_file: Path, lock: int, name: str, watch: Callable[[], None] = lambda: None
) -> None:
    """Run a module with its arguments, which keeps `lock` open. Raises AvdriftError with the command's own last
    message.

    Raises OSError if the log cannot be written. `name` is for the error message; `watch` is called every second, and
    once at the end.
    """
    log_file.with_name(PROGRESS).unlink(missing_ok=True)  # left by an earlier call
    log = log_file.open("ab")
    # Our own modules, wherever they are, and not a train.py in the current folder.
    path = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH"))))
    with log, _ended_by_signals():
        start = log.tell()
        command = subprocess.Popen(
            [sys.executable, "-P", "-m", *words],
            env=os.environ | {"PYTHONPATH": path, FILE_VARIABLE: str(log_file.with_name(PROGRESS))},
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, pass_fds=(lock,), start_new_session=True,
        )  # fmt: skip
        try:
            code = _waited(command, watch)
        except BaseException:
            _stop(command)
            raise
    if code:
        words = _last_lines(log_file, start)
        what = f"{name} was ended by {signal.Signals(-code).name}" if code < 0 else f"{name} failed: {words}"
        first = "Check whether memory ran out" if code == -signal.SIGKILL else "Correct that"
        remedy = f"{first}, and give the same command again: what is done is kept"
        raise _ERRORS.get(code, UsageError)(what, where=str(log_file), remedy=remedy)


def _waited(command: subprocess.Popen[bytes], watch: Callable[[], None]) -> int:
    """The exit code."""
    while True:
        try:
            code = command.wait(_WATCH_S)
        except subprocess.TimeoutExpired:
            watch()
        else:
            watch()
            return code


def _stop(command: subprocess.Popen[bytes]) -> None:
    """End a command and all its children."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        if command.poll() is None:
            os.killpg(command.pid, sign)
            try:
                command.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                continue


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Within the block, SIGTERM and SIGHUP raise SystemExit, so that a command ends with this process."""

    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _last_lines(log: Path, start: int) -> str:
    """The command's error message, or its last line."""
    lines = [line.rstrip() for line in log.read_bytes()[start:].decode(errors="replace").splitlines() if line.strip()]
    ours = [number for number, line in enumerate(lines) if line.startswith("avdrift-")]
    return "\n".join(lines[(ours or [-1])[-1] :]).strip().removesuffix(".") if lines else "it printed nothing"
