"""Publishing events: after their report, numbered, with its times."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace

from device.config.settings import EventSettings
from device.records import NS_PER_S, Event, EventKind, Health, Info, Report
from device.reporting.event_publisher import EventPublisher
from device.standards import PROFILES
from tests.device.telemetry.test_report_text import BLIND, MEASURED

RULES = EventSettings(hysteresis_ms=0, min_s=0, absent_s=1)


class Heard:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.all: list[Report | Event | Health | Info | None] = []

    def report(self, report: Report) -> None:
        self.all.append(report)

    def event(self, event: Event) -> None:
        self.all.append(event)

    def health(self, health: Health) -> None:
        self.all.append(health)

    def info(self, info: Info) -> None:
        self.all.append(info)

    def close(self) -> None:
        self.all.append(None)

    @property
    def events(self) -> list[Event]:
        return [said for said in self.all if isinstance(said, Event)]


class Still:
    """A clock that stands where it is put."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def now_ns(self) -> int:
        return round(self.now_s * NS_PER_S)

    def wait_for(self, changed: threading.Condition, done: Callable[[], bool], timeout_s: float | None = None) -> bool:
        raise NotImplementedError

    def start(self, work: Callable[[], None], name: str) -> threading.Thread:
        raise NotImplementedError


def swinging(times: int) -> list[Report]:
    return [replace(MEASURED, offset_ms=0.0 if k % 2 else 300.0, seq=k, uptime_s=k + 0.5) for k in range(times)]


def announced(reports: list[Report], begun_s: float = 100.0) -> Heard:
    heard = Heard()
    announcer = EventPublisher(heard, RULES, Still(begun_s))
    for report in reports:
        announcer.report(report)
    return heard


def test_an_event_follows_the_report_that_decides_it_and_has_its_times() -> None:
    report = replace(MEASURED, t_unix_ms=1_700_000_000_123, clock_synced=True, boot_id="abc", uptime_s=77.7)
    heard = announced([report])
    event = Event(
        schema=1, seq=100_001, boot_id="abc", uptime_s=77.7, t_unix_ms=1_700_000_000_123, clock_synced=True,
        kind=EventKind.VERDICT, before="unknown", after="unacceptable",
        about="The verdict went from unknown to unacceptable at +124 ms, audio early (itu-r-bt1359)",
    )  # fmt: skip
    assert heard.all == [report, event]


def test_events_are_numbered_without_gaps() -> None:
    events = announced(swinging(50)).events
    assert [event.seq for event in events] == list(range(100_001, 100_051))


def test_a_second_run_within_one_boot_never_uses_a_number_again() -> None:
    first = announced(swinging(500), begun_s=100.0).events
    second = announced(swinging(500), begun_s=101.0).events
    assert first[-1].seq < second[0].seq


def test_everything_else_passes_through() -> None:
    heard = Heard()
    announcer = EventPublisher(heard, RULES, Still(0))
    announcer.report(BLIND)
    health, info = object(), object()
    announcer.health(health)  # type: ignore[arg-type]
    announcer.info(info)  # type: ignore[arg-type]
    announcer.close()
    assert heard.all == [BLIND, health, info, None]


def of_models(after: str) -> Event:
    return Event(1, 7, "b", 1.0, 1, None, EventKind.MODEL, MEASURED.model, after, f"The models are {after}")


def test_events_from_elsewhere_are_numbered_with_the_rest() -> None:
    heard = Heard()
    announcer = EventPublisher(heard, RULES, Still(100.0))
    announcer.report(MEASURED)
    announcer.event(of_models(MEASURED.model))
    announcer.event(of_models(MEASURED.model))
    assert [event.seq for event in heard.events] == [100_001, 100_002, 100_003]
    assert heard.events[-1].about == f"The models are {MEASURED.model}"


def test_new_models_are_reported_once_by_whoever_knows_why() -> None:
    heard = Heard()
    announcer = EventPublisher(heard, RULES, Still(100.0))
    announcer.report(MEASURED)
    announcer.event(of_models("others"))
    announcer.report(replace(MEASURED, seq=2, model="others"))
    announcer.report(replace(MEASURED, seq=3, model="others again"))
    assert [event.after for event in heard.events if event.kind is EventKind.MODEL] == ["others", "others again"]


def test_other_settings_hold_from_the_next_report_on() -> None:
    heard = Heard()
    announcer = EventPublisher(heard, replace(RULES, min_s=600), Still(0))
    for report in swinging(10):
        announcer.report(report)
    assert heard.events == []
    announcer.apply_settings(RULES, PROFILES["ebu-r37"])
    for report in swinging(4):
        announcer.report(replace(report, uptime_s=report.uptime_s + 100))
    assert len(heard.events) == 4


def test_events_survive_json() -> None:
    for event in announced(swinging(3)).events:
        found = json.loads(json.dumps(event.to_dict(), allow_nan=False))
        assert found["kind"] == "verdict" and {found["before"], found["after"]} <= {
            "unknown", "unacceptable", "in_sync",
        }  # fmt: skip
