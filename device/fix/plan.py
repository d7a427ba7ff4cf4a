"""From a measurement to the correction of the audio. Pure.

Conventions: audio at time a of the recording is early by offset(a), so it belongs at a + offset(a).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import isfinite

PPM_PER_MS_PER_S = 1000.0
_MAX_PPM = 5000.0  # of two clocks; a larger difference is another speed, and would be audible


@dataclass(frozen=True, slots=True)
class Move:
    """Audio from `from_s` on is early by `offset_ms` there, and by `drift_ppm` more as time goes on."""

    from_s: float
    offset_ms: float
    drift_ppm: float = 0.0

    def to_s(self, at_s: float) -> float:
        """The correct time of the audio at this time."""
        return at_s + (self.offset_ms + self.drift_ppm / PPM_PER_MS_PER_S * (at_s - self.from_s)) / 1000


@dataclass(frozen=True, slots=True)
class Plan:
    """Moves in time order; the first also applies to everything before it. Raises ValueError for others."""

    moves: tuple[Move, ...]

    def __post_init__(self) -> None:
        rising = all(later.from_s > earlier.from_s for earlier, later in pairwise(self.moves))
        possible = all(isfinite(move.offset_ms) and abs(move.drift_ppm) <= _MAX_PPM for move in self.moves)
        if not (self.moves and rising and possible):
            raise ValueError("no possible plan")

    @property
    def shift_ms(self) -> float | None:
        """The delay of all audio, if a constant delay is the whole correction."""
        (first, *more) = self.moves
        return None if more or first.drift_ppm else first.offset_ms

    def to_s(self, at_s: float) -> float:
        """The correct time of the audio at this time."""
        return self.moves[max(sum(move.from_s <= at_s for move in self.moves) - 1, 0)].to_s(at_s)
