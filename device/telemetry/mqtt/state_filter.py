"""Which reports go to the topic `state`: all, one in a while, or those that say something else. Pure.

Home Assistant and databases keep each one: at one a second, 86,400 a day.
"""

from __future__ import annotations

from device.records import Report
from device.telemetry.log_sink import differ

SIGN_OF_LIFE_S = 60.0  # of `only_changes`: so often the state comes whatever it says


class StateFilter:
    """Decides report by report, by their own time."""

    def __init__(self, report_every_s: float, state_every_s: float, *, only_changes: bool) -> None:
        """state_every_s: the least time from one to the next; 0 is all."""
        self._every_s, self._only_changes = state_every_s, only_changes
        self.longest_s = max(report_every_s, state_every_s, SIGN_OF_LIFE_S if only_changes else 0.0)
        self._tolerance_s = report_every_s / 2  # of the time at which reports come
        self._sent: Report | None = None

    def takes(self, report: Report) -> bool:
        """Whether this one goes."""
        sent = self._sent
        passed_s = report.uptime_s - sent.uptime_s + self._tolerance_s if sent is not None else self.longest_s
        if sent is not None and passed_s >= 0:
            if passed_s < self._every_s:
                return False
            if self._only_changes and passed_s < SIGN_OF_LIFE_S and not differ(report, sent):
                return False
        self._sent = report
        return True
