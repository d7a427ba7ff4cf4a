"""Who is speaking: evidence of several faces in, one row out, as if whoever speaks had been the only one.

Method: a hidden Markov model whose state is the face that is heard, the same for a few seconds at least; its forward
recursion runs for each candidate offset by itself, as which face fits depends on the offset (Rabiner, "A tutorial on
hidden Markov models", Proc. IEEE 77, 1989). What the model expected is weighed against what the faces then say; a
single face's evidence passes unchanged. Where no face fits, all of them say so and nothing is gained by their number.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from device.sync.curve import Floats

_SWITCHES = 0.004  # a lip tick: another face speaks after ten seconds on average


class SpeakerMix:
    """Takes each lip tick's rows of the faces there. Bounded by the faces that were there at the last tick."""

    def __init__(self, temperature: float) -> None:
        self._temperature = temperature
        self._shares: dict[int, npt.NDArray[np.float64]] = {}  # probability that this face is heard, per candidate
        self._lately = np.zeros(1)  # log odds of each candidate by the last seconds' evidence

    @property
    def likeliest(self) -> int | None:
        """The face that is most probably heard; None while there is no choice."""
        if len(self._shares) < 2:
            return None
        weights = np.exp(self._lately - self._lately.max())
        return max(self._shares, key=lambda face_id: float(weights @ self._shares[face_id]))

    def mix(self, rows: Mapping[int, Floats]) -> Floats:
        """The evidence [candidates] of one lip tick, from that of each face, at least one, by its number."""
        if len(rows) == 1:
            self._shares, self._lately = {}, np.zeros(1)
            return next(iter(rows.values()))
        uniform = np.full(len(next(iter(rows.values()))), 1 / len(rows))
        known = np.stack([self._shares.get(face_id, uniform) for face_id in rows])
        expected = (1 - _SWITCHES) * known / known.sum(0) + _SWITCHES * uniform
        scaled = np.stack(list(rows.values())).astype(np.float64) / self._temperature
        joint = np.log(expected) + scaled
        total = np.logaddexp.reduce(joint, axis=0)
        self._shares = dict(zip(rows, np.exp(joint - total), strict=True))
        self._lately = (1 - _SWITCHES) * self._lately + total
        return np.asarray(self._temperature * total, np.float32)
