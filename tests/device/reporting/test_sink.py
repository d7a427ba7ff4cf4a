"""The hub passes everything to every sink, in order."""

from __future__ import annotations

from typing import Any, cast

from device.records import Event, Health, Info, Report
from device.reporting.sink import Hub


class Listener:
    def __init__(self, name: str, heard: list[tuple[str, str, object]]) -> None:
        self._name, self._heard = name, heard

    def report(self, report: Report) -> None:
        self._heard.append((self._name, "report", report))

    def event(self, event: Event) -> None:
        self._heard.append((self._name, "event", event))

    def health(self, health: Health) -> None:
        self._heard.append((self._name, "health", health))

    def info(self, info: Info) -> None:
        self._heard.append((self._name, "info", info))

    def close(self) -> None:
        self._heard.append((self._name, "close", None))


def test_every_sink_gets_everything_in_its_turn() -> None:
    heard: list[tuple[str, str, object]] = []
    hub = Hub([Listener("log", heard), Listener("mqtt", heard)])
    said: list[tuple[str, Any]] = [(name, object()) for name in ("report", "event", "health", "info")]
    for name, what in said:
        getattr(hub, name)(cast(Any, what))
    hub.close()
    assert heard == [(sink, name, what) for name, what in [*said, ("close", None)] for sink in ("log", "mqtt")]


def test_a_hub_without_sinks_takes_everything() -> None:
    Hub([]).close()
