"""Turns reports into events on their way to the sinks."""

from __future__ import annotations

from dataclasses import replace

from device.clock import Clock
from device.config.settings import EventSettings
from device.records import NS_PER_MS, Event, EventKind, Health, Info, Report
from device.reporting.events import EventState, update
from device.reporting.sink import Sink
from device.standards import DEFAULT_PROFILE, PROFILES, Profile

SCHEMA = 1


class EventPublisher:
    """A Sink in front of another: passes everything on, and adds the events that each report triggers."""

    def __init__(
        self, sink: Sink, settings: EventSettings, clock: Clock, own_limits: Profile = PROFILES[DEFAULT_PROFILE]
    ) -> None:
        """`own_limits` are the limits of the profile `own`."""
        self._sink, self._settings, self._own_limits = sink, settings, own_limits
        self._state = EventState()
        # Consecutive, and unique within one boot of the computer even over restarts of the daemon: there is less than
        # one event per millisecond.
        self._seq = clock.now_ns() // NS_PER_MS

    def apply_settings(self, settings: EventSettings, own_limits: Profile) -> None:
        """Takes effect with the next report."""
        self._settings, self._own_limits = settings, own_limits

    def report(self, report: Report) -> None:
        self._sink.report(report)
        self._state, happenings = update(self._state, report, self._settings, self._own_limits)
        for happening in happenings:
            self._seq += 1
            self._sink.event(
                Event(
                    schema=SCHEMA,
                    seq=self._seq,
                    boot_id=report.boot_id,
                    uptime_s=report.uptime_s,
                    t_unix_ms=report.t_unix_ms,
                    clock_synced=report.clock_synced,
                    kind=happening.kind,
                    before=happening.before,
                    after=happening.after,
                    about=happening.about,
                )
            )

    def event(self, event: Event) -> None:
        """Publish an event from elsewhere in the same numbering. The next report does not repeat a change of models."""
        if event.kind is EventKind.MODEL and self._state.model is not None:
            self._state = replace(self._state, model=str(event.after))
        self._seq += 1
        self._sink.event(replace(event, seq=self._seq))

    def health(self, health: Health) -> None:
        self._sink.health(health)

    def info(self, info: Info) -> None:
        self._sink.info(info)

    def close(self) -> None:
        self._sink.close()
