"""Active speaker: combines the evidence of several faces into one row, as if only the speaker were in view.

Method: a hidden Markov model whose state is the face that is heard. The state lasts for at least a few seconds. The
forward recursion runs separately for each candidate offset, because which face fits depends on the offset (Rabiner, "A
tutorial on hidden Markov models", Proc. IEEE 77, 1989). Each face is weighted by the model's prediction and by its own
evidence; the evidence of a single face passes unchanged. Where no face fits, the combined row says so too: more faces
do not add evidence.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from device.sync.curve import Floats

_SWITCHES = 0.004  # per lip tick: the speaker changes every ten seconds on average


class SpeakerMix:
    """Mixes each lip tick's rows of all visible faces. Memory is bounded by the faces at the last tick."""

    def __init__(self, temperature: float) -> None:
        self._temperature = temperature
        self._shares: dict[int, npt.NDArray[np.float64]] = {}  # probability that this face is heard, per candidate
        self._lately = np.zeros(1)  # log odds of each candidate from the last seconds of evidence

    @property
    def likeliest(self) -> int | None:
        """The face that is most probably heard; None with fewer than two faces."""
        if len(self._shares) < 2:
            return None
        weights = np.exp(self._lately - self._lately.max())
        return max(self._shares, key=lambda face_id: float(weights @ self._shares[face_id]))

    def mix(self, rows: Mapping[int, Floats]) -> Floats:
        """Return the evidence [candidates] of one lip tick from a non-empty mapping of face number to its row."""
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
