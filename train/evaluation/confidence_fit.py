"""Fits the confidence to its definition: the share of windows whose offset is right to within 40 ms.

Method: logistic regression by iteratively reweighted least squares (McCullagh and Nelder, "Generalized Linear Models",
1989) on the inputs of `device.bundles.calibration.ConfidenceWeights`, over windows of 0.6 to 15 s. Each length counts
the same. Windows for which no offset is right (lips of one clip with the audio of another, and one mouth shape held
still) are among the wrong ones, with a weight of their own, because they are rare in practice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from device.bundles.calibration import Calibration, ConfidenceWeights, confidence_inputs
from device.sync.curve import TICK_MS
from device.sync.offset_hmm import posterior_of
from train.evaluation.negatives import mismatched, still_embeddings
from train.evaluation.tracks import SPEECH_RATIO, TOLERANCE_MS, Track, window_parts

WINDOWS_S = (0.6, 1.0, 2.0, 3.0, 5.0, 10.0, 15.0)
_SEARCH_TICKS = 100
_MAX_SHIFT_TICKS = 60
_UNMEASURABLE_WEIGHT = 0.15  # of all unmeasurable windows of a length, relative to all others
_RIDGE = 1e-3
_ROUNDS = 50

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ScoredWindows:
    """The filter's output for windows [n], and whether it is right."""

    inputs: Floats  # [n, 2], see `confidence_inputs`
    right: Flags
    unmeasurable: Flags
    window_s: Floats


def scored_windows(
    tracks: Sequence[Track], truths_ms: Sequence[float], calibration: Calibration, random: np.random.Generator
) -> ScoredWindows:
    """All windows with a face and speech: those of the clips, each sliced with a shift, and unmeasurable ones."""
    rows = [row for t, truth_ms in zip(tracks, truths_ms, strict=True) for row in _of(t, truth_ms, calibration, random)]
    # One of the four voices per face is enough, because their total weight is fixed.
    for t in [*list(mismatched(tracks, random))[::4], *still_embeddings(tracks, random)]:
        rows += _of(t, float("inf"), calibration, random)
    table = np.array(rows, np.float64).reshape(-1, 5)
    return ScoredWindows(table[:, :2], table[:, 2] > 0, np.isinf(table[:, 3]), table[:, 4])


def _of(
    t: Track, truth_ms: float, calibration: Calibration, random: np.random.Generator
) -> Iterator[tuple[float, float, bool, float, float]]:
    speech = t.speech()
    for window_s in WINDOWS_S:
        for part in window_parts(t, window_s):
            if speech[part].mean() < SPEECH_RATIO or t.lips_valid[part].mean() < SPEECH_RATIO:
                continue
            shift = int(random.integers(-_MAX_SHIFT_TICKS, _MAX_SHIFT_TICKS + 1))
            found = posterior_of(t.evidence(_SEARCH_TICKS, audio_from=-shift, part=part), calibration)
            if found is None:
                continue
            error_ms = found.estimate(calibration).offset_ms + calibration.zero_offset_ms - truth_ms - shift * TICK_MS
            log_odds, length = confidence_inputs(found.near, found.evidence_s)
            yield log_odds, length, abs(error_ms) <= TOLERANCE_MS, truth_ms, window_s


def fitted_confidence(windows: ScoredWindows) -> ConfidenceWeights:
    """The weights with the least log loss. If all windows are right, or all wrong, they keep their initial values."""
    right = windows.right.astype(np.float64)
    if not 0 < right.mean() < 1:
        return ConfidenceWeights()
    weight = np.zeros(len(right))
    for window_s in np.unique(windows.window_s):
        of_length = windows.window_s == window_s
        for chosen, share in (
            (of_length & ~windows.unmeasurable, 1.0), (of_length & windows.unmeasurable, _UNMEASURABLE_WEIGHT)
        ):  # fmt: skip
            weight[chosen] = share / max(int(np.count_nonzero(chosen)), 1)
    log_odds, length = windows.inputs.T
    inputs = np.stack([np.ones(len(right)), log_odds, length, log_odds * length], axis=1)
    found = np.zeros(4)
    penalty = np.diag([0, _RIDGE, _RIDGE, _RIDGE]) * weight.sum()
    for _ in range(_ROUNDS):
        predicted = 1 / (1 + np.exp(-np.clip(inputs @ found, -30, 30)))
        slope = inputs.T @ (weight * (right - predicted)) - penalty @ found
        bend = (inputs * (weight * predicted * (1 - predicted))[:, None]).T @ inputs + penalty
        found = found + np.clip(np.linalg.solve(bend + 1e-9 * np.eye(4), slope), -2, 2)
    bias, posterior, by_length, both = (round(float(value), 4) for value in found)
    return ConfidenceWeights(bias, posterior, by_length, both)
