"""From evidence to a posterior: fits the two numbers that turn a window's curve into a probability of being right.

Conventions: a window is right if its best point lies within 40 ms of the truth. Unmeasurable windows (lips of one clip
with the audio of another, and one mouth shape held still) are never right, so any confidence they get is wrong.
Method: temperature and null log odds of `device.sync.curve.Calibration` are fitted by grid search and refinement, with
the least log loss, in which all unmeasurable windows together weigh half as much as the others. Nearly all windows that
would be reported must be right, or the loss grows steeply. The confidence in reports is fitted afterwards
(`confidence_fit`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from device.analysis.offset_tracker import MEASURING_CONFIDENCE
from device.bundles.calibration import Calibration
from device.errors import InputFormatError
from device.sync.curve import TICK_MS, offset_posterior
from train.evaluation.confidence_fit import fitted_confidence, scored_windows
from train.evaluation.negatives import mismatched, still_embeddings, with_json_keys
from train.evaluation.tracks import SPEECH_RATIO, TOLERANCE_MS, Track, window_curve, window_parts

WINDOWS_S = (1.0, 2.0, 5.0)
BIN_EDGES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, MEASURING_CONFIDENCE, 0.99, 1.0)

_SEARCH_TICKS = 100
_MAX_SHIFT_TICKS = 80
_SHIFTS_PER_WINDOW = 3
_MIN_WINDOWS = 20
_MAX_WRONG_OF_REPORTED = 0.01
_UNMEASURABLE_WEIGHT = 0.5  # an estimator mostly sees a face that is heard; with 1 it would be underconfident
_WRONG_PENALTY = 50.0  # per share of wrong reports above the limit
_TEMPERATURES = np.geomspace(0.5, 64, 29)
_NULL_LOG_ODDS = np.linspace(-6, 24, 61)

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Bin:
    """Windows with a confidence from `low` to `high`: their number, mean confidence and share of right ones."""

    low: float
    high: float
    windows: int
    confidence: float
    right: float


@dataclass(frozen=True, slots=True)
class Fitted:
    """A calibration and its figures on the windows it was fitted on; shares are None without windows."""

    calibration: Calibration
    windows: int
    unmeasurable_windows: int
    log_loss: float
    reported: float
    right_of_reported: float | None
    unmeasurable_reported: float | None
    reliability: tuple[Bin, ...]

    def to_dict(self) -> dict[str, Any]:
        return with_json_keys(asdict(self))


@dataclass(frozen=True, slots=True)
class Curves:
    """Summed evidence [n, candidates] of windows, and the true offset in ticks of each; infinity if there is none."""

    summed: npt.NDArray[np.float32]
    truth_ticks: Floats

    @property
    def unmeasurable(self) -> Flags:
        return np.isinf(self.truth_ticks)


@dataclass(frozen=True, slots=True)
class Judged:
    """The device's answer for each of the windows [n] at given calibrations."""

    confidence: Floats
    right: Flags
    reported: Flags


def fitted(tracks: Sequence[Track], truths_ms: Sequence[float], random: np.random.Generator) -> Fitted:
    """Fit on clips of speakers that the towers never saw: at least two, because unmeasurable windows combine two.

    Raises InputFormatError if there are fewer than 20 windows with speech.
    """
    curves = collect(tracks, truths_ms, random)
    unmeasurable = curves.unmeasurable
    if np.count_nonzero(~unmeasurable) < _MIN_WINDOWS:
        raise InputFormatError(
            f"fewer than {_MIN_WINDOWS} windows with speech",
            where="calibration clips",
            remedy="Give more or longer clips",
        )
    temperature, null = _search(curves)
    calibration = Calibration(
        logit_scale=tracks[0].logit_scale,
        temperature=round(temperature, 3),
        null_log_odds=round(null, 3),
        negative_reach_ticks=tracks[0].reach_ticks,
    )
    windows = scored_windows(tracks, truths_ms, calibration, random)
    calibration = replace(calibration, confidence=fitted_confidence(windows))
    judged = judge(curves, calibration.temperature, np.array([calibration.null_log_odds]))
    sure, right, reported = judged.confidence[0], judged.right, judged.reported[0]
    return Fitted(
        calibration=calibration,
        windows=int((~unmeasurable).sum()),
        unmeasurable_windows=int(unmeasurable.sum()),
        log_loss=round(float(_losses(judged, unmeasurable)[0]), 4),
        reported=float(reported[~unmeasurable].mean()),
        right_of_reported=float(right[reported].mean()) if reported.any() else None,
        unmeasurable_reported=float(reported[unmeasurable].mean()) if unmeasurable.any() else None,
        reliability=reliability(sure, right),
    )


def collect(tracks: Sequence[Track], truths_ms: Sequence[float], random: np.random.Generator) -> Curves:
    """The curves of all windows with evidence: matched, each sliced at several shifts, and unmeasurable."""
    rows: list[tuple[npt.NDArray[np.float32], float]] = []
    for t, truth_ms in zip(tracks, truths_ms, strict=True):
        rows += _curves_of(t, truth_ms, random, _SHIFTS_PER_WINDOW)
    for t in [*mismatched(tracks, random), *still_embeddings(tracks, random)]:
        rows += _curves_of(t, float("inf"), random, 1)
    size = 2 * _SEARCH_TICKS + 1
    return Curves(
        np.array([row[0] for row in rows], np.float32).reshape(-1, size), np.array([row[1] for row in rows], np.float64)
    )


def _curves_of(
    t: Track, truth_ms: float, random: np.random.Generator, shifts: int
) -> Iterator[tuple[npt.NDArray[np.float32], float]]:
    speech = t.speech()
    for window_s in WINDOWS_S:
        for part in window_parts(t, window_s):
            if speech[part].mean() < SPEECH_RATIO:
                continue
            for shift in random.integers(-_MAX_SHIFT_TICKS, _MAX_SHIFT_TICKS + 1, shifts):
                curve = window_curve(t, part, _SEARCH_TICKS, int(shift))
                if offset_posterior(curve, 1.0) is not None:
                    yield curve, truth_ms / TICK_MS + int(shift)


def judge(curves: Curves, temperature: float, null_log_odds: Floats) -> Judged:
    """The windows [n] at one temperature and each null [k]: confidence and reported [k, n], right [n]."""
    posteriors = [offset_posterior(curve, temperature) for curve in curves.summed]
    near, total, top, offset, edge = np.array(
        [(b.near, b.total, b.top, b.offset_ticks, b.at_edge) for b in posteriors if b is not None], np.float64
    ).T
    none = np.exp(np.minimum(np.log(curves.summed.shape[1]) + null_log_odds[:, None] - top, 700.0))
    sure = near / (total + none)
    right = np.abs(offset - curves.truth_ticks) <= TOLERANCE_MS / TICK_MS
    return Judged(sure, right, (sure >= MEASURING_CONFIDENCE) & (edge == 0))


def _search(curves: Curves) -> tuple[float, float]:
    temperatures, nulls, unmeasurable = _TEMPERATURES, _NULL_LOG_ODDS, curves.unmeasurable
    best = (float(temperatures[0]), float(nulls[0]))
    for _ in range(3):
        losses = np.stack([_losses(judge(curves, float(t), nulls), unmeasurable) for t in temperatures])
        row, column = np.unravel_index(int(np.argmin(losses)), losses.shape)
        best = (float(temperatures[row]), float(nulls[column]))
        # Around the best point, from one neighbour to the other.
        factor, step = temperatures[1] / temperatures[0], nulls[1] - nulls[0]
        temperatures = best[0] * np.geomspace(1 / factor, factor, 9)
        nulls = best[1] + np.linspace(-step, step, 9)
    return best


def _losses(judged: Judged, unmeasurable: Flags) -> Floats:
    """Log loss [k] of confidences [k, n], plus the penalty for wrong reports."""
    clipped = np.clip(judged.confidence, 1e-6, 1 - 1e-6)
    surprise = -np.where(judged.right, np.log(clipped), np.log(1 - clipped))
    weight = np.where(unmeasurable, _UNMEASURABLE_WEIGHT / max(unmeasurable.sum(), 1), 1 / (~unmeasurable).sum())
    loss = surprise @ weight / weight.sum()
    wrong = (judged.reported & ~judged.right).sum(1) / np.maximum(judged.reported.sum(1), 1)
    return np.asarray(loss + _WRONG_PENALTY * np.maximum(wrong - _MAX_WRONG_OF_REPORTED, 0))


def reliability(sure: npt.NDArray[np.floating[Any]], right: Flags) -> tuple[Bin, ...]:
    """Confidence against outcome, in bins that are narrow where most posteriors lie; omits empty bins."""
    index = np.clip(np.searchsorted(BIN_EDGES, sure, side="right") - 1, 0, len(BIN_EDGES) - 2)
    table = []
    for k, (low, high) in enumerate(pairwise(BIN_EDGES)):
        inside = index == k
        if inside.any():
            mean = round(float(np.mean(sure[inside])), 4)
            table.append(Bin(low, high, int(inside.sum()), mean, round(float(np.mean(right[inside])), 4)))
    return tuple(table)
