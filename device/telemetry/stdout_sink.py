"""Reports on standard output, as lines of JSON or of text, and what they amount to."""

from __future__ import annotations

from collections.abc import Callable
from typing import TextIO

from device.records import Event, Health, Info, Report
from device.telemetry.report_text import Summary, as_json, as_text


class Lines:
    """Reports as lines of JSON or of text, and what they amount to at the end."""

    def __init__(self, out: TextIO, *, as_json: bool) -> None:
        self.summary = Summary()
        self.position_s: Callable[[], float | None] = lambda: None  # of the report that is given, in a recording
        self._out, self._as_json = out, as_json

    def report(self, report: Report) -> None:
        t_s = self.position_s()
        print(as_json(report) if self._as_json else as_text(report, t_s), file=self._out, flush=True)
        self.summary.add(report, t_s)

    def event(self, event: Event) -> None:
        """Reports say it already."""

    def health(self, health: Health) -> None: ...

    def info(self, info: Info) -> None: ...

    def close(self) -> None: ...
