"""`avdrift-train report SHARDS…`: all models on the same windows of the same clips, sliced with the same shifts.

Conventions: as in train/evaluation/protocol.py, but windows do not overlap at all, each is sliced with ten shifts (with
one, chance dominates an RMSE), and one truth serves all models: each clip's own offset over its whole length by a
reference bundle, or a table of offsets. Clips with an uncertain truth are left out. Models differ in their zeros. One
constant per model is subtracted: the median, over the clips of all *other* speakers, of the model's own offset over a
whole clip minus the truth, as far as that is within five frames; a larger one is a wrong answer, not another zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from device.errors import InputFormatError
from device.features.contract import AUDIO_TICKS_PER_LIP_TICK, FRONT_END
from device.sync.curve import TICK_MS
from train.comparison.estimators import Curve, Floats, OffsetEstimator
from train.data.shards import LIP_REACH, Clip
from train.evaluation.metrics import FRAME_MS, Figures, figures, has_speech
from train.evaluation.protocol import CORPUS_WINDOW_S, SEARCHES_FRAMES, SHIFT_MARGIN_FRAMES
from train.evaluation.tracks import OWN_SEARCH_TICKS, Window

LENGTHS_S = (0.2, 0.6, 1.0, 2.0, 5.0, 6.0, 10.0, 12.0)
SHIFTS_PER_WINDOW = 10
DIRECT_WINDOW_S, DIRECT_OFFSET_FRAMES = 2.0, 12  # the reference window of the direct network
_EXAMPLE_SHIFT_TICKS = 20
_MAX_ZERO_MS = 5 * FRAME_MS
SYNCNET_MACS_PER_S = 45_055e6  # as published, see device/bench/syncnet.py


@dataclass(frozen=True, slots=True)
class Example:
    """One window of one clip at one shift: the example for all models' curves."""

    clip: str
    part: slice
    shift_ticks: int
    true_ms: float


@dataclass(frozen=True, slots=True)
class Result:
    """One model: figures by search range in frames and window length in s, and by corpus at 2 s and ±25 frames."""

    model: str
    macs_per_s: float | None
    zero_ms: float | None
    figures: dict[int, dict[float, Figures]]
    direct: Figures
    corpora: dict[str, Figures]
    errors_ms: tuple[float, ...]
    shown: tuple[float, ...]  # of the report's example: the model's score of each candidate, the best is 1

    def to_dict(self) -> dict[str, Any]:
        found = asdict(self)
        del found["errors_ms"], found["shown"]
        ratio = SYNCNET_MACS_PER_S / self.macs_per_s if self.macs_per_s else None
        return found | {"times_cheaper_than_syncnet": ratio}


@dataclass(frozen=True, slots=True)
class Report:
    """The whole result; `to_dict` is the JSON output."""

    truth: str
    clips: int
    speakers: int
    left_out: tuple[str, ...]
    results: tuple[Result, ...]
    example: Example

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": 1, "truth": self.truth, "clips": self.clips, "speakers": self.speakers,
            "shifts_per_window": SHIFTS_PER_WINDOW, "left_out": list(self.left_out),
            "results": [result.to_dict() for result in self.results],
        }  # fmt: skip


def compare(
    clips: Sequence[Clip], estimators: Sequence[OffsetEstimator], truth_ms: Mapping[str, float], *, truth: str,
    seed: int = 0, lengths_s: Sequence[float] = LENGTHS_S,
) -> Report:  # fmt: skip
    """Measure the clips with a known truth by every estimator. Raises InputFormatError if there is none."""
    kept = [clip for clip in clips if clip.name in truth_ms]
    if not kept:
        raise InputFormatError("knows none of the clips", where=truth, remedy="Give another one")
    example = _example(kept, truth_ms)
    results = [_result(estimator, kept, truth_ms, lengths_s, seed, example) for estimator in estimators]
    left_out = tuple(clip.name for clip in clips if clip.name not in truth_ms)
    return Report(truth, len(kept), len({clip.speaker for clip in kept}), left_out, tuple(results), example)


def _example(clips: Sequence[Clip], truth_ms: Mapping[str, float]) -> Example:
    """The middle 2 s of the longest clip."""
    clip = max(clips, key=lambda one: len(one.valid))
    ticks = min(round(CORPUS_WINDOW_S * 1000 / FRONT_END.lip_tick_ms), len(clip.valid)) - 2 * LIP_REACH
    start = (len(clip.valid) - 2 * LIP_REACH - ticks) // 2
    shown_ms = truth_ms[clip.name] + _EXAMPLE_SHIFT_TICKS * TICK_MS
    return Example(clip.name, slice(start, start + ticks), _EXAMPLE_SHIFT_TICKS, shown_ms)


def _shown(estimator: OffsetEstimator, curve: Floats) -> tuple[float, ...]:
    """The posterior of a curve of log-likelihoods, otherwise the curve itself from 0 to 1; the best is 1."""
    temperature = getattr(estimator, "temperature", None)
    if temperature:
        return tuple(np.exp((curve - curve.max()) / temperature).tolist())
    return tuple(((curve - curve.min()) / max(float(np.ptp(curve)), 1e-9)).tolist())


def _result(
    estimator: OffsetEstimator, clips: Sequence[Clip], truth_ms: Mapping[str, float], lengths_s: Sequence[float],
    seed: int, example: Example,
) -> Result:  # fmt: skip
    curves = [estimator.study(clip) for clip in tqdm(clips, desc=estimator.name, unit="clip", disable=None)]
    zeros_ms = _zeros(estimator, clips, curves, truth_ms)
    found: dict[int, dict[float, Figures]] = {}
    main: list[Window] = []

    def measured_with(length_s: float, frames: int) -> list[Window]:
        random = np.random.default_rng(seed)  # the same shifts for every model
        return [
            window
            for clip, curve in zip(clips, curves, strict=True)
            for window in _windows(estimator, clip, curve, truth_ms[clip.name], zeros_ms[clip.speaker], length_s,
                                   frames, random)
            if has_speech(window)
        ]  # fmt: skip

    for frames in SEARCHES_FRAMES:
        found[frames] = {}
        for length_s in lengths_s:
            measured = measured_with(length_s, frames)
            found[frames][length_s] = figures(measured, seed)
            if (length_s, frames) == (CORPUS_WINDOW_S, SEARCHES_FRAMES[-1]):
                main = measured
    of_example = next(curve for clip, curve in zip(clips, curves, strict=True) if clip.name == example.clip)
    direct = figures(measured_with(DIRECT_WINDOW_S, DIRECT_OFFSET_FRAMES + SHIFT_MARGIN_FRAMES), seed)
    corpora = sorted({window.clip.corpus for window in main})
    return Result(
        estimator.name, estimator.macs_per_s, float(np.median(list(zeros_ms.values()))), found, direct,
        {name: figures([w for w in main if w.clip.corpus == name], seed) for name in corpora},
        tuple(w.error_ms for w in main if np.isfinite(w.error_ms)),
        _shown(
            estimator, of_example(example.part, SEARCHES_FRAMES[-1] * AUDIO_TICKS_PER_LIP_TICK, example.shift_ticks)
        ),
    )  # fmt: skip


def _zeros(
    estimator: OffsetEstimator, clips: Sequence[Clip], curves: Sequence[Curve], truth_ms: Mapping[str, float]
) -> dict[str, float]:
    """For each speaker, the estimator's zero by the clips of all others."""
    apart: list[tuple[str, float]] = []
    for clip, curve in zip(clips, curves, strict=True):
        whole = curve(slice(0, len(clip.valid) - 2 * LIP_REACH), OWN_SEARCH_TICKS, 0)
        ticks = estimator.offset_ticks(whole)
        if ticks is not None and abs(ticks * TICK_MS - truth_ms[clip.name]) <= _MAX_ZERO_MS:
            apart.append((clip.speaker, ticks * TICK_MS - truth_ms[clip.name]))
    if estimator.macs_per_s == 0.0:  # it has no zero to correct
        return {clip.speaker: 0.0 for clip in clips}
    found = {}
    for speaker in {clip.speaker for clip in clips}:
        others = [value for name, value in apart if name != speaker]
        found[speaker] = float(np.median(others)) if others else 0.0
    return found


def _windows(
    estimator: OffsetEstimator, clip: Clip, curve: Curve, truth_ms: float, zero_ms: float, length_s: float, frames: int,
    random: np.random.Generator,
) -> list[Window]:  # fmt: skip
    ticks = max(round(length_s * 1000 / FRONT_END.lip_tick_ms), 2 * LIP_REACH + 1)
    search_ticks, reach_ms = frames * AUDIO_TICKS_PER_LIP_TICK, (frames - SHIFT_MARGIN_FRAMES) * FRAME_MS
    spoken = clip.is_speech((clip.first_lip_tick + LIP_REACH + np.arange(len(clip.valid))) * AUDIO_TICKS_PER_LIP_TICK)
    found = []
    for start in range(0, len(clip.valid) - ticks + 1, ticks):
        part = slice(start, start + ticks - 2 * LIP_REACH)
        for shift_ms in random.uniform(-reach_ms, reach_ms, SHIFTS_PER_WINDOW):
            shift_ticks = round(float(shift_ms) / TICK_MS)
            answer = estimator.offset_ticks(curve(part, search_ticks, shift_ticks))
            true_ms = truth_ms + shift_ticks * TICK_MS
            error_ms = float("inf") if answer is None else answer * TICK_MS - zero_ms - true_ms
            found.append(Window(clip, error_ms, 0.0, float(spoken[part].mean()), 0.0, true_ms, False))
    return found
