"""A recursive posterior of the offset over a whole session, from evidence rows.

Method: the forward recursion of a hidden Markov model (Rabiner, "A tutorial on hidden Markov models", Proc. IEEE 77,
1989) with one step per 0.2 s. The state is the offset, its slope, and whether the face in view is the one that is
heard. A jump to any other offset is rare, because rigs step once in hours. A slope lasts until the next jump, because
two clocks differ by one rate. An offset creeps by a tick now and then. While the face in view is not the one that is
heard, the evidence neither informs nor erases the offset.

Why an HMM on the evidence and not a Kalman filter on reports: evidence has several hills. A filter that commits to one
of them each second forgets the others. A step shows as a growing hill seconds before the reports could move.

Conventions: candidates as in `device.sync.curve`; slopes are in ppm, and 1 ppm is 0.001 ms/s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from device.bundles.calibration import Calibration
from device.features.contract import FRONT_END
from device.records import Estimate
from device.sync.curve import TICK_MS, TOLERANCE_TICKS, Floats, densest
from device.sync.evidence_stream import LipEvidence

STEP_EVERY_S = 600.0  # mean time between steps of the offset
STEP_ROWS = 5  # 0.2 s, the length of a lip window
_CHANGES_EVERY = 5  # steps: jumps and creep are applied once a second, which is soon enough and cheaper
_STEP_S = STEP_ROWS * FRONT_END.lip_tick_ms / 1000
_FASTEST_PPM = 20_000  # 2 %
# Fine enough: between two neighbouring slopes the offset moves by less than a hill's width while evidence lasts.
SLOPES_PPM = np.array(
    [0, *(sign * ppm for ppm in (*range(500, 4500, 500), *range(5000, _FASTEST_PPM + 1, 1000)) for sign in (1, -1))]
)
_SLOPE_TICKS = SLOPES_PPM * 1e-3 * _STEP_S / TICK_MS  # per step
_MOVING_PRIOR = 0.02  # share of rigs whose clocks differ by more than creep can follow
_CREEP = 0.002  # per step, to each side
# Per step: how often the face in view stops being the one that is heard, and becomes it again.
_STOPS, _BEGINS = 0.01, 0.02
_NULL_NATS = 0.1  # per step, against "heard": unrelated audio fits by chance more often than the encoders predict
_MAX_EVIDENCE_S = 15.0  # more evidence does not make the posterior more certain
_OUTSIDE = 1e-12
_MAX_NATS = 12.0  # limit of a step's evidence against a candidate: five steps must stay within the range of float32
_MIN_STD_TICKS = 0.29  # the rounding to one tick


@dataclass(frozen=True, slots=True)
class Posterior:
    """The posterior of the offset after the newest evidence.

    near: the model's probability that the offset is right to within 40 ms. heard: the probability that the face in view
    is the one that is heard. evidence_s: seconds of evidence behind the posterior, at most 15. heard_s: seconds of
    evidence in which the face in view was more probably heard than not. moving: the probability that the offset has a
    slope.
    """

    offset_ticks: float
    std_ticks: float
    near: float
    heard: float
    at_edge: bool
    evidence_s: float
    heard_s: float
    moving: float
    slope_ppm: float
    slope_std_ppm: float

    def estimate(self, calibration: Calibration) -> Estimate:
        """The offset in ms with a calibrated probability."""
        return Estimate(
            offset_ms=self.offset_ticks * TICK_MS - calibration.zero_offset_ms,
            offset_std_ms=max(self.std_ticks, _MIN_STD_TICKS) * TICK_MS,
            confidence=calibration.confidence(self.near, self.evidence_s),
            at_edge=self.at_edge,
        )


class OffsetFilter:
    """Updates the posterior with the evidence rows of consecutive lip ticks. Bounded memory, no clock."""

    def __init__(self, search_ticks: int, temperature: float, *, step_every_s: float = STEP_EVERY_S) -> None:
        self._size, self._temperature, self._step_every_s = 2 * search_ticks + 1, temperature, step_every_s
        self.reset()

    def reset(self) -> None:
        """Return to the prior."""
        weights = np.full(len(SLOPES_PPM), _MOVING_PRIOR / (len(SLOPES_PPM) - 1))
        weights[0] = 1 - _MOVING_PRIOR
        self._prior = np.repeat(weights[:, None] / self._size, self._size, axis=1).astype(np.float32)
        # Probabilities [not heard or heard, slopes, candidates].
        self._state = np.stack([self._prior, self._prior]) / np.float32(2)
        self._moved_ticks = np.zeros(len(SLOPES_PPM))  # for each slope, the fraction of a tick still to move
        self._sum = np.zeros(self._size)  # of the rows of the incomplete step
        self._rows = 0
        self._step: int | None = None  # number of the incomplete step
        self._evidence_rows = 0
        self._heard_rows = 0
        self._posterior: Posterior | None = None  # once it has been asked for
        self._due = 0  # steps for which creep and jumps have not been applied yet

    def push(self, row: LipEvidence) -> None:
        """Add the row of the next tick; ticks may be missing."""
        self._posterior = None
        step = row.tick // STEP_ROWS
        if self._step is not None and step > self._step:
            self.flush()
            self._predict(step - self._step - 1)
        self._step = step
        self._sum += row.row
        self._rows += 1
        if row.face and row.row.any():
            self._evidence_rows += 1

    def flush(self) -> None:
        """Count the rows of the incomplete step now."""
        if self._rows:
            self._posterior = None
            self._predict(1)
            self._update(self._sum, self._rows)
            self._sum[:], self._rows = 0, 0

    def push_sum(self, curve: Floats, rows: int) -> None:
        """Add the sum of many rows at once: coarser and cheaper than one by one."""
        self._posterior = None
        self._predict(max(rows // STEP_ROWS, 1))
        self._update(curve, rows)
        self._evidence_rows += rows if curve.any() else 0

    def _predict(self, steps: int) -> None:
        """Propagate the state through a number of steps without evidence."""
        if steps < 1:
            return
        state = self._state
        self._moved_ticks += _SLOPE_TICKS * steps
        whole = np.rint(self._moved_ticks).astype(np.int64)
        self._moved_ticks -= whole
        for slope in np.flatnonzero(whole):
            _move(state[:, slope], int(whole[slope]))
        self._due += steps
        if self._due >= _CHANGES_EVERY:
            self._change(self._due)
            self._due = 0

    def _change(self, steps: int) -> None:
        """Apply the creep and the jumps of a number of steps."""
        state = self._state
        state /= state.sum()
        creep = np.float32(min(_CREEP * steps, 0.25))
        gained = creep * state
        state *= 1 - 2 * creep
        state[..., 1:] += gained[..., :-1]
        state[..., :-1] += gained[..., 1:]
        state[..., [0, -1]] += gained[..., [0, -1]]
        stays = np.float32(np.exp(-steps * _STEP_S / self._step_every_s))
        totals = state.sum(axis=(1, 2))
        state *= stays
        for part, total in zip(state, totals, strict=True):
            part += (1 - stays) * total * self._prior

    def _update(self, curve: npt.NDArray[np.floating[Any]], rows: int) -> None:
        """Weight each candidate by how much better than chance it explains the newest audio."""
        if not curve.any():
            return
        log_odds = curve.astype(np.float64) / self._temperature - _NULL_NATS * rows / STEP_ROWS
        top = max(float(log_odds.max()), 0.0)  # subtracted: the evidence of a long stretch is beyond the range of exp
        unheard, heard = self._state
        stopped = np.float32(_STOPS) * heard
        heard *= np.float32(1 - _STOPS)
        heard += np.float32(_BEGINS) * unheard
        unheard *= np.float32(1 - _BEGINS)
        unheard += stopped
        unheard *= np.float32(np.exp(max(-top, -_MAX_NATS)))
        heard *= np.exp(np.maximum(log_odds - top, -_MAX_NATS)).astype(np.float32)
        if heard.sum() >= unheard.sum():
            self._heard_rows += rows

    @property
    def mass(self) -> npt.NDArray[np.float64]:
        """The probability of each candidate after the last complete step."""
        mass = self._state.sum(axis=(0, 1), dtype=np.float64)
        return mass / mass.sum()

    def posterior(self) -> Posterior | None:
        """The posterior after the last complete step; None before any evidence."""
        if not self._evidence_rows:
            return None
        if self._posterior is None:
            self._posterior = self._compute_posterior()
        return self._posterior

    def _compute_posterior(self) -> Posterior:
        mass = self.mass
        best, position, near = densest(mass)
        share = mass[near] / mass[near].sum()
        ticks = np.arange(self._size)[near]
        slopes = self._state[:, :, near].sum(axis=(0, 2), dtype=np.float64)
        slopes /= slopes.sum()
        slope_ppm = float(slopes @ SLOPES_PPM)
        return Posterior(
            offset_ticks=position - self._size // 2,
            std_ticks=float(np.sqrt(share @ (ticks - position) ** 2)),
            near=min(float(mass[near].sum()), 1.0),
            heard=float(self._state[1].sum() / self._state.sum()),
            at_edge=best < TOLERANCE_TICKS or best >= self._size - TOLERANCE_TICKS,
            evidence_s=min(self._evidence_rows * FRONT_END.lip_tick_ms / 1000, _MAX_EVIDENCE_S),
            heard_s=self._heard_rows * FRONT_END.lip_tick_ms / 1000,
            moving=float(1 - slopes[0]),
            slope_ppm=slope_ppm,
            slope_std_ppm=float(np.sqrt(slopes @ (SLOPES_PPM - slope_ppm) ** 2)),
        )


def _move(state: Floats, ticks: int) -> None:
    """Shift probabilities [n, candidates] in place; what enters from outside the search range is improbable."""
    ticks = max(-state.shape[1], min(ticks, state.shape[1]))
    if ticks > 0:
        state[:, ticks:] = state[:, : state.shape[1] - ticks].copy()
        state[:, :ticks] = _OUTSIDE
    else:
        state[:, :ticks] = state[:, -ticks:].copy()
        state[:, state.shape[1] + ticks :] = _OUTSIDE


def posterior_of(rows: Floats, calibration: Calibration) -> Posterior | None:
    """The posterior of a window's evidence rows [n, candidates] alone; None where they hold no evidence."""
    window = OffsetFilter(rows.shape[1] // 2, calibration.temperature)
    for tick, row in enumerate(rows):
        window.push(LipEvidence(tick, row, face=bool(row.any())))
    window.flush()
    return window.posterior()
