"""Logs the daemon's events, and as many of its reports as are configured."""

from __future__ import annotations

import logging

from device.config.settings import LogSettings
from device.records import NO_FAULT, Event, EventKind, Health, Info, Report, Verdict
from device.telemetry.logging_setup import LogHandler
from device.telemetry.report_text import short_text

# How often a report is logged, by its own time. A year of `changes` must fit on a small card.
_MINUTE_S, _MAX_SILENCE_S = 60.0, 3600.0
_SAME_MS = 20.0  # smaller changes of the offset do not count

_log = logging.getLogger(__name__)


class LogSink:
    """A Sink that logs. With the log's own handler, suppressed repeats are reported in time."""

    def __init__(self, settings: LogSettings, handler: LogHandler | None = None) -> None:
        self._settings, self._handler = settings, handler
        self._last_logged: Report | None = None
        self._info: Info | None = None

    def apply_settings(self, settings: LogSettings) -> None:
        """Takes effect with the next report."""
        self._settings = settings

    def report(self, report: Report) -> None:
        if self._handler is not None:
            self._handler.tick()
        if not is_worth_logging(report, self._last_logged, self._settings.reports):
            return
        self._last_logged = report
        _log.info("report: %s", short_text(report), extra={"fields": {"report": report.to_dict()}, "always": True})

    def event(self, event: Event) -> None:
        fields = {"event": event.to_dict()}
        _log.log(_level(event), "event: %s", event.about, extra={"fields": fields, "always": True})

    def health(self, health: Health) -> None:
        _log.debug("health", extra={"fields": {"health": health.to_dict()}, "always": True})

    def info(self, info: Info) -> None:
        if info == self._info:
            return
        self._info = info
        known = {"models": info.model, "limits": info.profile, "camera": info.camera, "microphone": info.microphone}
        words = [f"avdrift {info.version}", *(f"{name} {what}" for name, what in known.items() if what)]
        words += [f"bias {info.bias_ms:+.1f} ms subtracted"] if info.bias_ms is not None else []
        _log.info("%s", ", ".join(words), extra={"fields": {"info": info.to_dict()}, "always": True})

    def close(self) -> None:
        _log.info("measuring has stopped")


def is_worth_logging(report: Report, last: Report | None, reports: str) -> bool:
    """Whether to log a report, given the last one that was logged.

    With `changes`, at most one a minute, and only if it differs from the last one or an hour has passed without any:
    the log should show that the daemon is alive.
    """
    if reports in ("all", "none"):
        return reports == "all"
    if last is None:
        return True
    passed_s = report.uptime_s - last.uptime_s
    if passed_s < _MINUTE_S:
        return False
    return reports == "minute" or passed_s >= _MAX_SILENCE_S or differ(report, last)


def differ(report: Report, last: Report) -> bool:
    """Whether a report differs from another one for a person."""
    if (report.state, report.verdict, report.fault) != (last.state, last.verdict, last.fault):
        return True
    return (
        report.offset_ms is not None
        and last.offset_ms is not None
        and (abs(report.offset_ms - last.offset_ms) > _SAME_MS)
    )


def _level(event: Event) -> int:
    bad = event.after == Verdict.UNACCEPTABLE or (event.kind is EventKind.FAULT and event.after != NO_FAULT)
    return logging.WARNING if bad else logging.INFO
