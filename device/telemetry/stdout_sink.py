"""Reports on standard output, as lines of JSON or of text, and what they amount to."""

from __future__ import annotations

import logging
from collections.abc import Callable

from device.errors import TransportError
from device.records import Event, Health, Info, Report
from device.telemetry.lines import LineWriter
from device.telemetry.report_text import Summary, as_json, as_text

_LOOK_S = 0.2  # how soon one that waits for its reader notices that it should not
_SAY_S = 0.5

_log = logging.getLogger(__name__)


class Lines:
    """Reports as lines of JSON or of text, and what they amount to at the end.

    A reader that has stopped reading, such as a pager, does not hold up what measures: its lines are lost, and counted.
    Raises BrokenPipeError where the reader has gone, and TransportError where nothing can be written.
    """

    def __init__(self, fd: int, *, as_json: bool) -> None:
        self.summary = Summary()
        self.position_s: Callable[[], float | None] = lambda: None  # of the report that is given, in a recording
        self.patient: Callable[[], bool] = lambda: False  # whether to wait for the reader instead, so that none is lost
        self._writer, self._as_json = LineWriter(fd), as_json
        self._lost = 0

    def report(self, report: Report) -> None:
        t_s = self.position_s()
        line = as_json(report, t_s) if self._as_json else as_text(report, t_s)
        while not (written := self._writer.write(line, _LOOK_S if self.patient() else 0.0)):
            if isinstance(error := self._writer.error, BrokenPipeError):
                raise error
            if error is not None:
                remedy = "Free some space, or write somewhere else"
                raise TransportError(f"cannot be written ({error.strerror})", where="standard output", remedy=remedy)
            if not self.patient():
                break
        self._lost += not written
        self.summary.add(report, t_s)

    def event(self, event: Event) -> None:
        """Reports say it already."""

    def health(self, health: Health) -> None: ...

    def info(self, info: Info) -> None: ...

    def close(self) -> None:
        if self._lost:
            _log.warning("%d reports were lost, because nobody read them from standard output", self._lost)

    def sum_up(self, fd: int) -> None:
        """The summary as lines, as far as somebody takes them."""
        writer = LineWriter(fd)
        for line in self.summary.lines():
            if not writer.write(line, _SAY_S):
                return
