"""Metrics of measured windows: share within one frame with its interval, errors, and calibration of the confidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from device.analysis.offset_tracker import MEASURING_CONFIDENCE
from device.features.contract import FRONT_END
from train.evaluation.tracks import SPEECH_RATIO, Window

FRAME_MS = float(FRONT_END.lip_tick_ms)

_BOOTSTRAP_DRAWS = 2000
_BINS = 10


@dataclass(frozen=True, slots=True)
class Figures:
    """The metrics of a set of windows; None if undefined. `low` to `high`: 95 % over speakers."""

    windows: int
    within_frame: float | None = None
    low: float | None = None
    high: float | None = None
    rmse_frames: float | None = None
    median_error_ms: float | None = None
    reported: float | None = None
    right_of_reported: float | None = None
    rmse_of_reported_frames: float | None = None
    rmse_low: float | None = None
    rmse_high: float | None = None
    median_low_ms: float | None = None
    median_high_ms: float | None = None
    mae_frames: float | None = None
    std_ratio: float | None = None  # std(estimate) over std(truth): 0 for an estimator whose answer is constant
    calibration_error: float | None = None  # expected, over ten bins of confidence
    calibration_error_low: float | None = None
    calibration_error_high: float | None = None
    brier_score: float | None = None
    brier_low: float | None = None
    brier_high: float | None = None
    speakers: int = 0


def is_right(w: Window) -> bool:
    """Whether it is within one frame of the truth."""
    return abs(w.error_ms) <= FRAME_MS


def is_reported(w: Window) -> bool:
    """Whether its confidence is enough to report an offset."""
    return w.confidence >= MEASURING_CONFIDENCE and not w.at_edge


def has_speech(w: Window) -> bool:
    """Whether enough of it is speech to count."""
    return w.speech_ratio >= SPEECH_RATIO


def _rmse_frames(errors_ms: npt.NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(errors_ms**2)) / FRAME_MS)


def figures(measured: list[Window], seed: int = 0) -> Figures:
    """Compute accuracy, errors and calibration of some windows."""
    if not measured:
        return Figures(0)
    right = np.array([is_right(w) for w in measured])
    # A window without an estimate counts as wrong, with the error of the answer 0.
    errors = np.array([w.error_ms if np.isfinite(w.error_ms) else -w.true_ms for w in measured])
    believed = np.array([is_reported(w) for w in measured])
    speakers = [w.clip.speaker for w in measured]
    low, high = interval(right, speakers, np.random.default_rng(seed))
    squares_low, squares_high = interval((errors / FRAME_MS) ** 2, speakers, np.random.default_rng(seed))
    median_low, median_high = median_interval(np.abs(errors), speakers, np.random.default_rng(seed))
    truth = np.array([w.true_ms for w in measured])
    confidence = np.array([w.confidence for w in measured])
    error_low, error_high = _calibration_interval(confidence, right, speakers, np.random.default_rng(seed))
    missed = (confidence - right) ** 2
    brier_low, brier_high = interval(missed, speakers, np.random.default_rng(seed))
    return Figures(
        windows=len(measured),
        within_frame=float(right.mean()),
        low=low,
        high=high,
        rmse_frames=_rmse_frames(errors),
        median_error_ms=float(np.median(np.abs(errors))),
        reported=float(believed.mean()),
        right_of_reported=float(right[believed].mean()) if believed.any() else None,
        rmse_of_reported_frames=_rmse_frames(errors[believed]) if believed.any() else None,
        rmse_low=None if squares_low is None else float(np.sqrt(squares_low)),
        rmse_high=None if squares_high is None else float(np.sqrt(squares_high)),
        median_low_ms=median_low,
        median_high_ms=median_high,
        mae_frames=float(np.mean(np.abs(errors)) / FRAME_MS),
        std_ratio=float(np.std(errors + truth) / np.std(truth)) if np.ptp(truth) > 0 else None,
        calibration_error=calibration_error(confidence, right),
        calibration_error_low=error_low,
        calibration_error_high=error_high,
        brier_score=float(np.mean(missed)),
        brier_low=brier_low,
        brier_high=brier_high,
        speakers=len(set(speakers)),
    )


def calibration_error(
    confidence: npt.NDArray[np.float64], right: npt.NDArray[np.bool_], weights: npt.NDArray[Any] | None = None
) -> float:
    """Expected calibration error over ten equal bins (Guo et al., "On Calibration of Modern Neural Networks", 2017)."""
    index = np.minimum((confidence * _BINS).astype(np.int64), _BINS - 1)
    weights = np.ones(len(confidence)) if weights is None else weights
    gaps = np.bincount(index, weights * (confidence - right), _BINS)
    return float(np.abs(gaps).sum() / weights.sum())


def _calibration_interval(
    confidence: npt.NDArray[np.float64], right: npt.NDArray[np.bool_], speakers: Sequence[str],
    random: np.random.Generator,
) -> tuple[float, float] | tuple[None, None]:  # fmt: skip
    names, index = np.unique(speakers, return_inverse=True)
    if len(names) < 2:
        return None, None
    draws = random.multinomial(len(names), np.full(len(names), 1 / len(names)), _BOOTSTRAP_DRAWS // 10)
    low, high = np.percentile([calibration_error(confidence, right, draw[index]) for draw in draws], (2.5, 97.5))
    return float(low), float(high)


def interval(
    values: npt.NDArray[Any], speakers: Sequence[str], random: np.random.Generator
) -> tuple[float, float] | tuple[None, None]:
    """95 % bootstrap interval of the mean over speakers (for flags, of their share); None for a single speaker."""
    names, index = np.unique(speakers, return_inverse=True)
    if len(names) < 2:
        return None, None
    total = np.bincount(index)
    sums = np.bincount(index, weights=values)
    draws = random.multinomial(len(names), np.full(len(names), 1 / len(names)), _BOOTSTRAP_DRAWS)
    low, high = np.percentile(draws @ sums / (draws @ total), (2.5, 97.5))
    return float(low), float(high)


def median_interval(
    values: npt.NDArray[Any], speakers: Sequence[str], random: np.random.Generator
) -> tuple[float, float] | tuple[None, None]:
    """The same for the median."""
    names, index = np.unique(speakers, return_inverse=True)
    if len(names) < 2:
        return None, None
    order = np.argsort(values)
    draws = random.multinomial(len(names), np.full(len(names), 1 / len(names)), _BOOTSTRAP_DRAWS)
    # A speaker that is drawn twice counts twice: the median is where half of that weight lies below.
    below = np.cumsum(draws[:, index[order]], axis=1)
    at = (below * 2 >= below[:, -1:]).argmax(axis=1)
    low, high = np.percentile(values[order][at], (2.5, 97.5))
    return float(low), float(high)
