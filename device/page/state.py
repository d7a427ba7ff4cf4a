"""The daemon's latest records, and a bounded number of earlier ones. Thread-safe."""

from __future__ import annotations

from collections import deque

from prometheus_client import CollectorRegistry, generate_latest

from device.clock import Clock
from device.page.history import History
from device.records import NS_PER_S, Event, Health, Info, Report
from device.standards import DEFAULT_PROFILE, PROFILES
from device.telemetry.metrics import Metrics

MAX_EVENTS = 100
_STALE_REPORTS, _MIN_STALE_S = 3, 10.0


class PageState:
    """Takes records from one thread for another. Each is replaced as a whole, so none needs a lock."""

    def __init__(self, report_every_s: float, clock: Clock) -> None:
        self.report: Report | None = None
        self.health: Health | None = None
        self.info: Info | None = None
        self.own_limits = PROFILES[DEFAULT_PROFILE]  # of the profile `own`
        self.history = History(report_every_s)
        self._events: deque[Event] = deque(maxlen=MAX_EVENTS)
        self._clock, self._reported_ns = clock, 0
        self._stale_s = max(_STALE_REPORTS * report_every_s, _MIN_STALE_S)
        self._metrics = Metrics(self._stale_s, clock.now_ns)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self._metrics)

    def update(self, record: Report | Event | Health | Info) -> None:
        match record:
            case Report():
                self.report, self._reported_ns = record, self._clock.now_ns()
                self.history.add(record)
                self._metrics.report(record)
            case Event():
                self._events.append(record)
                self._metrics.event(record)
            case Health():
                self.health = record
                self._metrics.health(record)
            case Info():
                self.info = record
                self._metrics.info(record)

    @property
    def events(self) -> list[Event]:
        """The last events, oldest first."""
        return list(self._events)

    @property
    def ok(self) -> bool:
        """Whether reports arrive and there is no fault."""
        report = self.report
        fresh = self._clock.now_ns() - self._reported_ns < self._stale_s * NS_PER_S
        return report is not None and fresh and report.fault is None

    def metrics(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._registry)
