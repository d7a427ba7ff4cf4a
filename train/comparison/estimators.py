"""All offset estimators behind one small protocol, for the report that compares them.

Conventions: an estimator reads a clip once. Then, for any stretch of the clip's lip windows and any shift of its audio,
it gives one score for each candidate offset from -search to +search ticks of 10 ms, higher for likelier ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from device.sync.curve import offset_posterior
from train.data.shards import Clip
from train.evaluation.tracks import track, window_curve
from train.models.encoders import Towers

Floats = npt.NDArray[np.float32]
Curve = Callable[[slice, int, int], Floats]  # stretch of lip windows, search_ticks, shift_ticks: [2 search_ticks + 1]


class OffsetEstimator(Protocol):
    """`macs_per_s`: multiply-accumulates per second of audio-video, None if not counted."""

    @property
    def name(self) -> str: ...

    @property
    def macs_per_s(self) -> float | None: ...

    def study(self, clip: Clip) -> Curve: ...

    def offset_ticks(self, curve: Floats) -> float | None:
        """The offset of a curve; None where it has no evidence."""
        ...


def peak_ticks(curve: Floats) -> float | None:
    """Peak of the parabola through a curve's highest point and its neighbours; None where it is flat."""
    if not np.ptp(curve) > 1e-6:
        return None
    best = int(np.argmax(curve))
    vertex = 0.0
    if 0 < best < len(curve) - 1:
        left, middle, right = (float(value) for value in curve[best - 1 : best + 2])
        bend = left - 2 * middle + right
        vertex = 0.0 if bend >= 0 else 0.5 * (left - right) / bend
    return best + vertex - len(curve) // 2


@dataclass(frozen=True, slots=True)
class ZeroEstimator:
    """Always says that audio and video are in sync."""

    name: str = "always 0"
    macs_per_s: float | None = 0.0

    def study(self, clip: Clip) -> Curve:
        def curve(part: slice, search_ticks: int, shift_ticks: int) -> Floats:
            return (np.arange(2 * search_ticks + 1) == search_ticks).astype(np.float32)

        return curve

    def offset_ticks(self, curve: Floats) -> float | None:
        return 0.0


@dataclass(frozen=True, slots=True)
class EmbeddingEstimator:
    """Two encoders and the evidence from their outputs: two-tower models, SyncNet, the direct network.

    `temperature` applies to evidence that is a log-likelihood; None for any other, whose highest point is the answer.
    """

    name: str
    macs_per_s: float | None
    towers: Towers
    temperature: float | None = None

    def study(self, clip: Clip) -> Curve:
        seen = track(clip, self.towers)
        return lambda part, search_ticks, shift_ticks: window_curve(seen, part, search_ticks, shift_ticks)

    def offset_ticks(self, curve: Floats) -> float | None:
        if self.temperature is None:
            return peak_ticks(curve)
        posterior = offset_posterior(curve, self.temperature)
        return None if posterior is None else posterior.offset_ticks
