"""A progress bar with the remaining time for long work: on a terminal only, on standard error."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from device.printable import printable

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

_SHOWN_AFTER_S = 2.0  # shorter work needs no bar
_RATE_WINDOW_S = 600.0  # the remaining time is estimated from the pace of so many seconds


class Progress:
    """Shows how much of `total` is done; a context manager that always removes the bar at the end."""

    def __init__(self, label: str, total: float, *, shown_after_s: float = _SHOWN_AFTER_S) -> None:
        """`total` is in any unit, such as seconds of a recording or files; `label` is what a user reads."""
        self._label, self._total, self._done = label, total, 0.0
        self._shown_from_s = time.monotonic() + shown_after_s
        self._wanted = sys.stderr.isatty() and total > 0
        self._bar: RichProgress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def set(self, done: float) -> None:
        """Set how much of the total is done."""
        self._done = done
        if self._bar is None:
            if not self._wanted or time.monotonic() < self._shown_from_s:
                return
            self._bar = self._new_bar()
        self._bar.update(self._bar.task_ids[0], completed=done)

    def advance(self, by: float = 1.0) -> None:
        """Add to what is done."""
        self.set(self._done + by)

    def print(self, line: str) -> None:
        """Print a line on standard output, above the bar if both are on the terminal."""
        if self._bar is not None and sys.stdout.isatty():
            self._bar.console.print(printable(line), markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, flush=True)

    def _new_bar(self) -> RichProgress:
        from rich.console import Console  # a third of a second that pipes and services do not need
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(),
                   TextColumn("time left"), TimeRemainingColumn())  # fmt: skip
        # bypasses the stream that makes text printable, which would escape the bar's codes
        terminal = Console(file=sys.__stderr__)
        bar = RichProgress(
            *columns, console=terminal, transient=True, redirect_stdout=False, redirect_stderr=False,
            speed_estimate_period=_RATE_WINDOW_S,
        )  # fmt: skip
        bar.add_task(self._label, total=self._total, completed=round(self._done))
        bar.start()
        return bar
