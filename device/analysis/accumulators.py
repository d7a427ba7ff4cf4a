"""What `avdrift measure` adds up while it reads, in bounded memory: the whole recording, its windows, and speech."""

from __future__ import annotations

from typing import Any

import numpy as np

from device.analysis.analyzer import Analyzer
from device.analysis.offset_tracker import SURELY_MOVING, judge
from device.features.contract import FRONT_END, LIP_TICK_NS
from device.records import NS_PER_S
from device.sync.evidence_stream import LipEvidence
from device.sync.offset_hmm import OffsetFilter, Posterior

_LIP_REACH_NS = FRONT_END.lip_window_ticks // 2 * LIP_TICK_NS
_TICKS_PER_S = 1000 // FRONT_END.lip_tick_ms
_SPEECH_STEP_NS = 10 * NS_PER_S


class Segment:
    """The evidence of a segment; `to_ns` is the end of its frames."""

    def __init__(self, analyzer: Analyzer, from_ns: int) -> None:
        self._filter = OffsetFilter(analyzer.reach_ticks, analyzer.calibration.temperature)
        self.from_ns, self.to_ns, self.ticks, self.faces, self._echoes = from_ns, from_ns, 0, 0, 0

    def add(self, row: LipEvidence) -> None:
        self._filter.push(row)
        self.to_ns = row.t_ns + _LIP_REACH_NS + LIP_TICK_NS
        self.ticks += 1
        self.faces += row.face
        self._echoes += row.echo

    @property
    def echo(self) -> bool:
        """Whether most of it has a strong echo."""
        return 2 * self._echoes > self.ticks

    def posterior(self) -> Posterior | None:
        """The posterior at its end."""
        self._filter.flush()
        return self._filter.posterior()


class Windows:
    """Consecutive windows of equal length from the first frame on; a shorter remainder at the end is left out."""

    def __init__(self, window_s: float, origin_ns: int, analyzer: Analyzer) -> None:
        self._length_ns, self._origin_ns, self._analyzer = round(window_s * NS_PER_S), origin_ns, analyzer
        self._current: Segment | None = None
        self.found: list[dict[str, Any]] = []

    def add(self, row: LipEvidence) -> None:
        # A lip window counts if all of it lies inside.
        first_ns, last_ns = row.t_ns - _LIP_REACH_NS, row.t_ns + _LIP_REACH_NS
        begins_ns = first_ns - (first_ns - self._origin_ns) % self._length_ns
        if begins_ns < self._origin_ns or last_ns > begins_ns + self._length_ns:
            return
        if self._current is None or self._current.from_ns != begins_ns:
            self.close()
            self._current = Segment(self._analyzer, begins_ns)
        self._current.add(row)

    def close(self) -> None:
        """Measure the current window, if it is complete."""
        current, self._current = self._current, None
        if current is None or current.to_ns < current.from_ns + self._length_ns:
            return
        span_ns = current.from_ns, current.from_ns + self._length_ns
        state, reason, best = judge(
            current.posterior(), current.faces / current.ticks, self._analyzer.speech_ratio(*span_ns),
            self._analyzer.calibration, low_frame_rate=self._analyzer.low_frame_rate(*span_ns),
            echo=current.echo,
        )  # fmt: skip
        self.found.append(
            {
                "t_s": round((current.from_ns - self._origin_ns) / NS_PER_S, 3),
                "offset_ms": rounded(best.offset_ms) if best else None,
                "confidence": round(best.confidence, 4) if best else None,
                "state": state,
                "offset_std_ms": rounded(best.offset_std_ms) if best else None,
                "reason": reason,
            }
        )


class WholeRecording(Segment):
    """The whole recording; also finds how fast its offset drifts, where that is clear."""

    def __init__(self, analyzer: Analyzer, from_ns: int) -> None:
        super().__init__(analyzer, from_ns)
        self._slopes: list[tuple[float, float]] = []  # slope in ppm and its weight

    def add(self, row: LipEvidence) -> None:
        super().add(row)
        if self.ticks % _TICKS_PER_S == 0 and (found := self._filter.posterior()) and found.moving >= SURELY_MOVING:
            self._slopes.append((found.slope_ppm, max(found.slope_std_ppm, 1.0) ** -2))

    @property
    def slope_ppm(self) -> float:
        """0 where the drift is too slow to show within seconds."""
        if not self._slopes:
            return 0.0
        slopes, weights = np.array(self._slopes).T
        return float(slopes @ weights / weights.sum())


class SpeechTime:
    """Accumulates the duration of speech before the analyzer forgets it."""

    def __init__(self, analyzer: Analyzer) -> None:
        self._analyzer = analyzer
        self._until_ns: int | None = None
        self.total_ns = 0

    def add(self, to_ns: int, *, last: bool = False) -> None:
        self._until_ns = to_ns if self._until_ns is None else self._until_ns
        if last or to_ns - self._until_ns >= _SPEECH_STEP_NS:
            self.total_ns += self._analyzer.speech_ns(self._until_ns, to_ns)
            self._until_ns = to_ns


def rounded(value: float | None) -> float | None:
    """To one decimal, as in JSON."""
    return None if value is None else round(value, 1)
