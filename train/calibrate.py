"""From evidence to belief: fits the two numbers that turn a window's curve into a probability of being right.

Conventions: a window is right when its best point lies within 40 ms of the truth. Hopeless windows (lips of one clip
with the sound of another, and one mouth shape held still) are never right, so whatever confidence they get is wrong.
Method: temperature and null log odds of `device.sync.curve.Calibration` by grid and refinement, least log loss in which
all hopeless windows together weigh half as much as the others; of the windows that would be reported nearly all must be
right, or the loss grows steeply. The best point of a curve depends on neither number, so what is right is known before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from device.errors import InputFormatError
from device.runtime.analyzer import MEASURING_CONFIDENCE
from device.sync.curve import TICK_MS, Calibration, estimate
from train.hopeless import mismatched, still_embeddings
from train.measure import SPEECH_RATIO, Track, window_curve, window_parts

WINDOWS_S = (1.0, 2.0, 5.0)
TOLERANCE_MS = 40.0
BIN_EDGES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, MEASURING_CONFIDENCE, 0.99, 1.0)

_SEARCH_TICKS = 100
_MAX_SHIFT_TICKS = 80
_SHIFTS_PER_WINDOW = 3
_MIN_WINDOWS = 20
_MAX_WRONG_OF_REPORTED = 0.01
_HOPELESS_WEIGHT = 0.5  # a meter mostly looks at somebody who is heard; with 1 it would doubt itself too much
_WRONG_PENALTY = 50.0  # per share of wrong reports above that
_TEMPERATURES = np.geomspace(0.5, 64, 29)
_NULL_LOG_ODDS = np.linspace(-6, 24, 61)

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Bin:
    """Windows whose confidence lies from `low` to `high`: how many, what they promise on average and what they hold."""

    low: float
    high: float
    windows: int
    confidence: float
    right: float


@dataclass(frozen=True, slots=True)
class Fitted:
    """A calibration and how it does on the windows that it was fitted on; shares are None where there is nothing."""

    calibration: Calibration
    windows: int
    hopeless_windows: int
    log_loss: float
    reported: float
    right_of_reported: float | None
    hopeless_reported: float | None
    reliability: tuple[Bin, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Curves:
    """Summed evidence [n, candidates] of windows, with all that the search needs to know of each."""

    summed: Floats
    right: Flags
    edge: Flags
    hopeless: Flags


def fitted(tracks: Sequence[Track], truths_ms: Sequence[float], random: np.random.Generator) -> Fitted:
    """Fit on clips of speakers that the towers never saw; at least two speakers, or nothing is known to be hopeless.

    Raises InputFormatError where there are fewer than 20 windows with speech.
    """
    curves = collect(tracks, truths_ms, random)
    if np.count_nonzero(~curves.hopeless) < _MIN_WINDOWS:
        raise InputFormatError(
            f"fewer than {_MIN_WINDOWS} windows with speech",
            where="calibration clips",
            remedy="Give more or longer clips",
        )
    temperature, null = _search(curves)
    calibration = Calibration(
        logit_scale=tracks[0].logit_scale, temperature=round(temperature, 3), null_log_odds=round(null, 3)
    )
    sure = confidence(curves.summed, calibration.temperature, np.array([calibration.null_log_odds]))[0]
    believed = (sure >= MEASURING_CONFIDENCE) & ~curves.edge
    return Fitted(
        calibration=calibration,
        windows=int((~curves.hopeless).sum()),
        hopeless_windows=int(curves.hopeless.sum()),
        log_loss=round(float(_losses(sure[None], curves)[0]), 4),
        reported=float(believed[~curves.hopeless].mean()),
        right_of_reported=float(curves.right[believed].mean()) if believed.any() else None,
        hopeless_reported=float(believed[curves.hopeless].mean()) if curves.hopeless.any() else None,
        reliability=reliability(sure, curves.right),
    )


def collect(tracks: Sequence[Track], truths_ms: Sequence[float], random: np.random.Generator) -> Curves:
    """The curves of all windows: matched, each sliced apart a few times, and hopeless."""
    rows: list[tuple[npt.NDArray[np.float32], bool, bool]] = []
    for t, truth_ms in zip(tracks, truths_ms, strict=True):
        rows += _curves_of(t, truth_ms, random, _SHIFTS_PER_WINDOW)
    matched = len(rows)
    for t in [*mismatched(tracks, random), *still_embeddings(tracks, random)]:
        rows += _curves_of(t, float("inf"), random, 1)
    size = 2 * _SEARCH_TICKS + 1
    return Curves(
        np.array([row[0] for row in rows], np.float64).reshape(-1, size),
        np.array([row[1] for row in rows], np.bool_),
        np.array([row[2] for row in rows], np.bool_),
        np.arange(len(rows)) >= matched,
    )


def _curves_of(
    t: Track, truth_ms: float, random: np.random.Generator, shifts: int
) -> Iterator[tuple[npt.NDArray[np.float32], bool, bool]]:
    speech = t.speech()
    for window_s in WINDOWS_S:
        for part in window_parts(t, window_s):
            if speech[part].mean() < SPEECH_RATIO:
                continue
            for shift in random.integers(-_MAX_SHIFT_TICKS, _MAX_SHIFT_TICKS + 1, shifts):
                curve = window_curve(t, part, _SEARCH_TICKS, int(shift))
                found = estimate(curve, Calibration())  # any: the best point is the same with all of them
                if found:
                    right = abs(found.offset_ms - truth_ms - int(shift) * TICK_MS) <= TOLERANCE_MS
                    yield curve, right, found.at_edge


def confidence(summed: Floats, temperature: float, null_log_odds: Floats) -> Floats:
    """What `device.sync.curve.estimate` would say of curves [n, candidates], for each null [k]: [k, n]."""
    log_odds = summed / temperature
    top = log_odds.max(1, keepdims=True)
    mass = np.exp(log_odds - top)
    best = np.argmax(summed, 1)
    reach = round(TOLERANCE_MS / TICK_MS)
    near = np.abs(np.arange(summed.shape[1]) - best[:, None]) <= reach
    null = np.exp(np.minimum(np.log(summed.shape[1]) + null_log_odds[:, None] - top[:, 0], 700.0))
    return np.asarray((mass * near).sum(1) / (mass.sum(1) + null))


def _search(curves: Curves) -> tuple[float, float]:
    temperatures, nulls = _TEMPERATURES, _NULL_LOG_ODDS
    best = (float(temperatures[0]), float(nulls[0]))
    for _ in range(3):
        losses = np.stack([_losses(confidence(curves.summed, float(t), nulls), curves) for t in temperatures])
        row, column = np.unravel_index(int(np.argmin(losses)), losses.shape)
        best = (float(temperatures[row]), float(nulls[column]))
        # Around the best point, from one neighbour to the other.
        factor, step = temperatures[1] / temperatures[0], nulls[1] - nulls[0]
        temperatures = best[0] * np.geomspace(1 / factor, factor, 9)
        nulls = best[1] + np.linspace(-step, step, 9)
    return best


def _losses(sure: Floats, curves: Curves) -> Floats:
    """Log loss [k] of confidences [k, n] and the price of wrong reports."""
    clipped = np.clip(sure, 1e-6, 1 - 1e-6)
    surprise = -np.where(curves.right, np.log(clipped), np.log(1 - clipped))
    weight = np.where(curves.hopeless, _HOPELESS_WEIGHT / max(curves.hopeless.sum(), 1), 1 / (~curves.hopeless).sum())
    loss = surprise @ weight / weight.sum()
    believed = (sure >= MEASURING_CONFIDENCE) & ~curves.edge
    wrong = (believed & ~curves.right).sum(1) / np.maximum(believed.sum(1), 1)
    return np.asarray(loss + _WRONG_PENALTY * np.maximum(wrong - _MAX_WRONG_OF_REPORTED, 0))


def reliability(sure: npt.NDArray[np.floating[Any]], right: Flags) -> tuple[Bin, ...]:
    """Confidences against outcomes, in bins that are narrow where belief is decided; empty bins are left out."""
    index = np.clip(np.searchsorted(BIN_EDGES, sure, side="right") - 1, 0, len(BIN_EDGES) - 2)
    table = []
    for k, (low, high) in enumerate(pairwise(BIN_EDGES)):
        inside = index == k
        if inside.any():
            mean = round(float(np.mean(sure[inside])), 4)
            table.append(Bin(low, high, int(inside.sum()), mean, round(float(np.mean(right[inside])), 4)))
    return tuple(table)
