"""Which reports are published under `state`: all, one per interval, or those that differ. Pure.

Home Assistant and databases store each one: at one a second, 86,400 a day.
"""

from __future__ import annotations

from device.records import Report
from device.telemetry.log_sink import differ

MAX_SILENCE_S = 60.0  # with `only_changes`: the state is published at least this often


class StateFilter:
    """Decides for each report, by the reports' own times."""

    def __init__(self, report_every_s: float, state_every_s: float, *, only_changes: bool) -> None:
        """state_every_s: the minimum interval; 0 publishes all."""
        self._every_s, self._only_changes = state_every_s, only_changes
        self.longest_s = max(report_every_s, state_every_s, MAX_SILENCE_S if only_changes else 0.0)
        self._tolerance_s = report_every_s / 2  # of the times of reports
        self._sent: Report | None = None

    def admits(self, report: Report) -> bool:
        """Whether to publish this one."""
        sent = self._sent
        passed_s = report.uptime_s - sent.uptime_s + self._tolerance_s if sent is not None else self.longest_s
        if sent is not None and passed_s >= 0:
            if passed_s < self._every_s:
                return False
            if self._only_changes and passed_s < MAX_SILENCE_S and not differ(report, sent):
                return False
        self._sent = report
        return True
