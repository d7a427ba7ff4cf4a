"""Composition: everything that takes what the daemon says, as configured, and what of it follows a reload."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from device.config import Config, LogSettings
from device.runtime.announcer import Announcer
from device.runtime.clock import Clock, SystemClock
from device.telemetry.log_sink import LogSink
from device.telemetry.logs import LogHandler
from device.telemetry.sink import Hub, Sink


class Outlets:
    """`sink` is the one for the daemon. `more` are sinks that somebody else has made, and that come first."""

    def __init__(
        self, config: Config, folder: Path, handler: LogHandler, more: Sequence[Sink] = (), *, quiet: bool = False,
        clock: Clock | None = None,
    ) -> None:  # fmt: skip
        """Relative paths of the configuration begin in `folder`. quiet: the log has no reports, they go elsewhere."""
        self._handler, self._quiet = handler, quiet
        clock = clock or SystemClock()
        self._log = LogSink(self._log_settings(config), handler)
        sinks: list[Sink] = [*more, self._log]
        if config.metrics.file or config.metrics.listen:
            from device.telemetry.metrics_sink import MetricsSink  # a library that most need not load

            every_s = config.measure.report_every_s
            sinks.append(MetricsSink(config.metrics, report_every_s=every_s, folder=folder, clock=clock))
        self.sink = Announcer(Hub(sinks), config.events, clock)

    def take_settings(self, config: Config) -> None:
        """What a reload may change; safe from any thread."""
        self._handler.take_settings(config.log)
        self._log.take_settings(self._log_settings(config))
        self.sink.take_settings(config.events)

    def _log_settings(self, config: Config) -> LogSettings:
        return replace(config.log, reports="none") if self._quiet else config.log
