"""Where the daemon's words go: each receiver is a Sink, and the daemon knows only one, the Hub."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from device.records import Event, Health, Info, Report


class Sink(Protocol):
    """Takes what the daemon says. Never blocks and never raises: measuring goes on whatever happens to a receiver."""

    def report(self, report: Report) -> None: ...

    def event(self, event: Event) -> None: ...

    def health(self, health: Health) -> None: ...

    def info(self, info: Info) -> None: ...

    def close(self) -> None:
        """Say goodbye and let go, within a second."""
        ...


class Hub:
    """Gives everything to each of its sinks, in their order; is a Sink itself."""

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
