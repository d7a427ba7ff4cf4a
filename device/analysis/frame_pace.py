"""Whether frames come often enough to read lips from them."""

from __future__ import annotations

from collections import deque

from device.features.contract import FRONT_END
from device.records import NS_PER_MS

_LONGEST_NS = FRONT_END.lip_max_frame_gap_ms * NS_PER_MS  # frames further apart say nothing about the lips in between
_KEPT_GAPS = 1000  # two minutes
_LEAST_GAPS = 3  # fewer are an interruption


class FramePace:
    """Remembers which frames were too far apart. Bounded memory."""

    def __init__(self) -> None:
        self._last_ns: int | None = None
        self._gaps: deque[tuple[int, int]] = deque(maxlen=_KEPT_GAPS)  # times of the frames before and after
        self._slow_ns = self._all_ns = 0

    def add(self, t_ns: int) -> None:
        """Take the time of the next frame."""
        if self._last_ns is not None:
            self._all_ns += t_ns - self._last_ns
            if t_ns - self._last_ns > _LONGEST_NS:
                self._slow_ns += t_ns - self._last_ns
                self._gaps.append((self._last_ns, t_ns))
        self._last_ns = t_ns

    def is_slow(self, from_ns: int, to_ns: int) -> bool:
        """Whether frames are too far apart for more than half of a stretch within the last two minutes."""
        gaps_ns = [
            min(end, to_ns) - max(begin, from_ns) for begin, end in self._gaps if begin < to_ns and end > from_ns
        ]
        return len(gaps_ns) >= _LEAST_GAPS and sum(gaps_ns) > (to_ns - from_ns) / 2

    @property
    def mostly_slow(self) -> bool:
        """Whether frames were too far apart for more than half of the time since the first."""
        return self._slow_ns > self._all_ns / 2
