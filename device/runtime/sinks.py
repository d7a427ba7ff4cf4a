"""Composition: all sinks of the daemon, as configured, and their settings that follow a reload."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from device.clock import Clock, SystemClock
from device.config.settings import Config, LogSettings, PageSettings
from device.records import Command
from device.reporting.event_publisher import EventPublisher
from device.reporting.sink import Hub, Sink
from device.runtime.recalibration import LASTS_S
from device.telemetry.log_sink import LogSink
from device.telemetry.logging_setup import LogHandler
from device.telemetry.systemd import Notifier

if TYPE_CHECKING:
    from device.page.sink import PageSink
    from device.telemetry.mqtt.sink import MqttSink


class Sinks:
    """`sink` is the daemon's sink. `more` are the caller's own sinks, which come first."""

    def __init__(
        self, config: Config, folder: Path, handler: LogHandler, more: Sequence[Sink] = (), *, quiet: bool = False,
        clock: Clock | None = None, page: PageSink | None = None,
    ) -> None:  # fmt: skip
        """Relative paths in the configuration start at `folder`. quiet: reports go elsewhere, so the log has none."""
        self._handler, self._quiet = handler, quiet
        clock = clock or SystemClock()
        self._log = LogSink(self._log_settings(config), handler)
        self.notifier = Notifier()
        sinks: list[Sink] = [self.notifier, *more, self._log]
        if config.metrics.file or config.metrics.listen:
            from device.telemetry.metrics_sink import MetricsSink  # imported here because most users do not need it

            every_s = config.measure.report_every_s
            sinks.append(MetricsSink(config.metrics, report_every_s=every_s, folder=folder, clock=clock))
        self._mqtt: MqttSink | None = None
        if config.mqtt.host:
            from device.telemetry.mqtt.sink import MqttSink  # likewise

            self._mqtt = MqttSink(config.mqtt, report_every_s=config.measure.report_every_s, folder=folder)
            sinks.append(self._mqtt)
        self._page = page
        if page is not None:
            page.set_limits(config.limits.profile)
            sinks.append(page)
        self.sink = EventPublisher(Hub(sinks), config.events, clock, config.limits.profile)

    def submit_to(self, submit: Callable[[Command], None]) -> None:
        """Set the handler of commands from outside."""
        if self._mqtt:
            self._mqtt.submit_to(submit)
        if self._page:
            self._page.submit_to(submit)

    def events_lost(self) -> int:
        """Number of events dropped because a queue was full."""
        return self._mqtt.events_lost if self._mqtt else 0

    def apply_settings(self, config: Config) -> None:
        """Apply the settings that a reload may change; safe from any thread."""
        self._handler.apply_settings(config.log)
        self._log.apply_settings(self._log_settings(config))
        self.sink.apply_settings(config.events, config.limits.profile)
        if self._page:
            self._page.set_limits(config.limits.profile)

    def _log_settings(self, config: Config) -> LogSettings:
        return replace(config.log, reports="none") if self._quiet else config.log


def page_sink(
    settings: PageSettings, *, report_every_s: float, folder: Path, state_dir: Path, recording: bool
) -> PageSink | None:
    """Add the page, where one is configured."""
    if not settings.listen:
        return None
    from device.page.sink import PageSink  # imported here because nothing else needs it

    return PageSink(
        settings, report_every_s=report_every_s, calibration_s=LASTS_S, folder=folder, state_dir=state_dir,
        recording=recording,
    )  # fmt: skip
