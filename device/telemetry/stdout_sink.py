"""Reports on standard output as lines of JSON or text, and their summary."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from device.errors import TransportError
from device.printable import minutes, printable
from device.records import Event, Health, Info, Report
from device.telemetry.lines import CLEAR_LINE, LineWriter
from device.telemetry.report_text import Summary, as_json, as_text, short_text

_POLL_S = 0.2  # how often a blocked writer checks whether to stop
_SUMMARY_TIMEOUT_S = 0.5
_COLUMNS = 80  # of a terminal of unknown width

_log = logging.getLogger(__name__)


class Lines:
    """Prints reports as lines of JSON or text, and a summary at the end.

    A reader that has stopped reading, such as a pager, does not block measuring: its lines are lost and counted.
    Raises BrokenPipeError if the reader has gone, and TransportError if nothing can be written.
    """

    _end = "\n"

    def __init__(self, fd: int, *, as_json: bool) -> None:
        self.summary = Summary()
        self.position_s: Callable[[], float | None] = lambda: None  # position of the current report in a recording
        # whether to wait for the reader instead, so that no line is lost
        self.waits_for_reader: Callable[[], bool] = lambda: False
        self._writer, self._as_json = LineWriter(fd), as_json
        self._lost = 0

    def report(self, report: Report) -> None:
        t_s = self.position_s()
        line = self._line(report, t_s)
        while not (written := self._writer.write(line, _POLL_S if self.waits_for_reader() else 0.0, end=self._end)):
            if isinstance(error := self._writer.error, BrokenPipeError):
                raise error
            if error is not None:
                remedy = "Free some space, or write somewhere else"
                raise TransportError(f"cannot be written ({error.strerror})", where="standard output", remedy=remedy)
            if not self.waits_for_reader():
                break
        self._lost += not written
        self.summary.add(report, t_s)

    def _line(self, report: Report, t_s: float | None) -> str:
        return as_json(report, t_s) if self._as_json else as_text(report, t_s)

    def event(self, event: Event) -> None:
        """Reports contain it already."""

    def health(self, health: Health) -> None: ...

    def info(self, info: Info) -> None: ...

    def close(self) -> None:
        if self._lost:
            _log.warning("%d reports were lost, because nobody read them from standard output", self._lost)

    def sum_up(self, fd: int) -> None:
        """Print the summary as lines, as far as they are read."""
        writer = LineWriter(fd)
        for line in self.summary.lines():
            if not writer.write(line, _SUMMARY_TIMEOUT_S):
                return


class LiveLine(Lines):
    """For a terminal: one status line with the newest report, and the events above it."""

    _end = ""

    def __init__(self, fd: int, *, events: bool) -> None:
        """events: whether to show them here; not if the log shows them on the same terminal."""
        super().__init__(fd, as_json=False)
        self._fd, self._events = fd, events

    def _line(self, report: Report, t_s: float | None) -> str:
        at = f"{minutes(t_s)}  " if t_s is not None else ""
        why = report.reason.value.replace("_", " ") if report.reason else ""
        words = short_text(report)
        text = f"{at}{words}" + (f" ({why})" if why and why not in words else "")
        return CLEAR_LINE + printable(text)[: self._columns() - 1]

    def event(self, event: Event) -> None:
        if self._events:
            self._writer.write(CLEAR_LINE + printable(event.about))

    def close(self) -> None:
        self._writer.write("")
        super().close()

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self._fd).columns or _COLUMNS
        except OSError:
            return _COLUMNS


def report_lines(fd: int, *, as_json: bool, log_fd: int) -> Lines:
    """JSON if requested or if stdout is not a terminal; otherwise a status line."""
    if as_json or not os.isatty(fd):
        return Lines(fd, as_json=True)
    return LiveLine(fd, events=not os.isatty(log_fd))
