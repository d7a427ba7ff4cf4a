"""From what was measured to what must be done to the sound. Pure.

Conventions: the sound at time a of the recording is early by offset(a), so it belongs at a + offset(a).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import isfinite

PPM_PER_MS_PER_S = 1000.0
_MAX_PPM = 5000.0  # of two clocks; more than that is another speed, and would be heard


@dataclass(frozen=True, slots=True)
class Move:
    """The sound from `from_s` on is early by `offset_ms` there, and by `drift_ppm` more as it goes on."""

    from_s: float
    offset_ms: float
    drift_ppm: float = 0.0

    def to_s(self, at_s: float) -> float:
        """Where the sound at this time belongs."""
        return at_s + (self.offset_ms + self.drift_ppm / PPM_PER_MS_PER_S * (at_s - self.from_s)) / 1000


@dataclass(frozen=True, slots=True)
class Plan:
    """Moves in order of time; the first one also counts for all that lies before it. Raises ValueError for others."""

    moves: tuple[Move, ...]

    def __post_init__(self) -> None:
        rising = all(later.from_s > earlier.from_s for earlier, later in pairwise(self.moves))
        possible = all(isfinite(move.offset_ms) and abs(move.drift_ppm) <= _MAX_PPM for move in self.moves)
        if not (self.moves and rising and possible):
            raise ValueError("no possible plan")

    @property
    def shift_ms(self) -> float | None:
        """How much later all of the sound must come, where that is all that is wrong."""
        (first, *more) = self.moves
        return None if more or first.drift_ppm else first.offset_ms

    def to_s(self, at_s: float) -> float:
        """Where the sound at this time belongs."""
        return self.moves[max(sum(move.from_s <= at_s for move in self.moves) - 1, 0)].to_s(at_s)
