"""Receivers of the daemon's output: each is a Sink, and the daemon knows only one of them, the Hub."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from device.records import Event, Health, Info, Report


class Sink(Protocol):
    """Receives the daemon's records. Never blocks and never raises: no receiver may disturb measuring."""

    def report(self, report: Report) -> None: ...

    def event(self, event: Event) -> None: ...

    def health(self, health: Health) -> None: ...

    def info(self, info: Info) -> None: ...

    def close(self) -> None:
        """Finish and release all resources within a second."""
        ...


class Hub:
    """Passes everything to each of its sinks in order; is a Sink itself."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = tuple(sinks)

    def report(self, report: Report) -> None:
        for sink in self._sinks:
            sink.report(report)

    def event(self, event: Event) -> None:
        for sink in self._sinks:
            sink.event(event)

    def health(self, health: Health) -> None:
        for sink in self._sinks:
            sink.health(health)

    def info(self, info: Info) -> None:
        for sink in self._sinks:
            sink.info(info)

    def close(self) -> None:
        for sink in self._sinks:
            sink.close()
