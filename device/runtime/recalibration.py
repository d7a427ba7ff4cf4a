"""`recalibrate`: takes the offset measured in the next half minute as the rig's own.

Pure except for its log messages.
"""

from __future__ import annotations

import math

import numpy as np

from device.errors import UsageError
from device.records import NS_PER_S, Report
from device.state.rig import Rig
from device.sync.robust_stats import spread

LASTS_S = 30.0
_MIN_REPORTS = 3
_MIN_SHARE = 0.3  # of the possible reports
_MAX_SPREAD_MS = 40.0
_WHERE = "recalibrate"


class Recalibration:
    """Collects reports, then computes the rig's offset."""

    def __init__(self, now_ns: int, rig: Rig | None, *, window_s: float, every_s: float) -> None:
        self._until_ns = now_ns + round(LASTS_S * NS_PER_S)
        self._rig, self._window_s, self._every_s = rig, window_s, every_s
        self._offsets_ms: list[float] = []
        self._stds_ms: list[float] = []
        self._seq = 0

    def add(self, report: Report | None) -> None:
        """Add the newest report; repeats of the same one are ignored."""
        if report is None or report.seq == self._seq:
            return
        self._seq = report.seq
        if report.offset_ms is not None and report.offset_std_ms is not None:
            self._offsets_ms.append(report.offset_ms)
            self._stds_ms.append(report.offset_std_ms)

    def is_over(self, now_ns: int) -> bool:
        return now_ns >= self._until_ns

    def found(self, camera: str, microphone: str, unix_ms: int) -> Rig:
        """Return the rig with its new offset. Raises UsageError if too little was measured, or if it does not agree."""
        count = len(self._offsets_ms)
        if count < max(_MIN_REPORTS, _MIN_SHARE * LASTS_S / self._every_s):
            what = f"only {count} offsets were measured in {LASTS_S:g} s"
            raise UsageError(what, where=_WHERE, remedy="Let somebody speak to the camera all the time, and try again")
        offsets_ms = np.array(self._offsets_ms)
        spread_ms = spread(offsets_ms)
        if spread_ms > _MAX_SPREAD_MS:
            what = f"the offset was not steady: it scattered by {spread_ms:.0f} ms"
            raise UsageError(what, where=_WHERE, remedy="Try again with one person who speaks to the camera")
        # Overlapping windows have seen the same input.
        looks = max(LASTS_S / self._window_s, 1.0)
        std_ms = math.hypot(spread_ms, float(np.median(self._stds_ms))) / math.sqrt(min(looks, count))
        bias_ms = float(np.median(offsets_ms)) + (self._rig.bias_ms if self._rig else 0.0)
        return Rig(round(bias_ms, 1), round(std_ms, 1), unix_ms, camera, microphone)
