"""A step of the offset, seen in the evidence itself: seconds sooner than in reports, whose windows span the step.

Method: a generalized likelihood-ratio test (Lorden, Annals of Mathematical Statistics 42, 1971). The last minute of
evidence is split at each place in its newest 15 s. A step is found where two offsets, before and after, explain it much
better than a common one, and where both would be accepted alone. The caller must know that an offset was measured
before: the test needs a level to step from.

Why not from reports alone: with one report a second, 40 ms of noise and 20 % of wrong numbers, a report gives 0.76 nats
between "no change" and "60 ms away" (the Kullback-Leibler divergence of the two mixtures). A test that is wrong at most
once in 86,400 reports needs log(86,400) = 11.4 nats (Lorden's bound): 15 s on average, whatever the test.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from device.bundles.calibration import Calibration
from device.sync.curve import TICK_MS, Floats, estimate
from device.sync.evidence_stream import LipEvidence

_BIN_LIP_TICKS = 5
_PAST_BINS = 225  # 45 s before the newest stretch
_NEW_BINS = 75  # 15 s: a step shows within this time, or it is too small to look for
_MIN_BINS = 4
_MIN_PAST_BINS = 10
_MIN_STEP_MS = 25.0
_STEP_EVIDENCE = 20.0  # nats
_MIN_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class DetectedStep:
    """The new offset minus the old one, and the time of the first lips with the new offset."""

    onset_ns: int
    step_ms: float


class StepDetector:
    """Takes each row of evidence and reports each step once. Bounded memory."""

    def __init__(self) -> None:
        self._bins: deque[tuple[int, Floats]] = deque(maxlen=_PAST_BINS + _NEW_BINS)  # time of the first row, sum
        self._count = 0  # rows in the newest bin

    def push(self, row: LipEvidence) -> None:
        if self._bins and self._count < _BIN_LIP_TICKS:
            self._bins[-1][1][:] += row.row
            self._count += 1
        else:
            self._bins.append((row.t_ns, row.row.astype(np.float32)))
            self._count = 1

    def detect(self, calibration: Calibration) -> DetectedStep | None:
        """Return the step that the evidence shows by now, and forget what lies before it."""
        cut = self._cut(calibration.temperature)
        if cut is None:
            return None
        bins = list(self._bins)
        sums = (np.sum([row for _, row in part], axis=0) for part in (bins[:cut], bins[cut:]))
        old, new = (estimate(total, calibration) for total in sums)
        if old is None or new is None or min(old.confidence, new.confidence) < _MIN_CONFIDENCE:
            return None
        step_ms = new.offset_ms - old.offset_ms
        if old.at_edge or new.at_edge or abs(step_ms) < _MIN_STEP_MS:
            return None
        self._bins = deque(bins[cut:], maxlen=self._bins.maxlen)
        return DetectedStep(bins[cut][0], step_ms)

    def _cut(self, temperature: float) -> int | None:
        """Number of the first bin after the most probable step; None while one offset explains the evidence as well."""
        count = len(self._bins)
        cuts = np.arange(max(count - _NEW_BINS, _MIN_PAST_BINS), count - _MIN_BINS + 1)
        if not len(cuts):
            return None
        sums = np.cumsum([row for _, row in self._bins], axis=0, dtype=np.float64)
        before, whole = sums[cuts - 1], sums[-1]
        after = whole - before
        gains = (before.max(axis=1) + after.max(axis=1) - whole.max()) / temperature
        gains[np.abs(after.argmax(axis=1) - before.argmax(axis=1)) * TICK_MS < _MIN_STEP_MS] = 0
        best = int(gains.argmax())
        return int(cuts[best]) if gains[best] >= _STEP_EVIDENCE else None
