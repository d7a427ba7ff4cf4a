"""Parity: how far another number format deviates from float32, in the embeddings and in the resulting offsets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from device.bundles.calibration import Calibration
from device.errors import InputFormatError, ModelError
from device.sync.curve import TICK_MS, estimate, unit
from train.evaluation.tracks import SPEECH_RATIO, Track, own_offset, window_curve, window_parts

Floats = npt.NDArray[np.float32]

WINDOWS_S = (0.6, 1.0, 2.0, 5.0)
_REPEATS = 10  # each clip is sliced by several random shifts, because validation clips are few
_SEARCH_TICKS, _MAX_SHIFT_TICKS = 100, 60
_RIGHT_MS = 40.0


@dataclass(frozen=True, slots=True)
class Cosine:
    """Cosine between both formats' embeddings of the same window: mean, of the worst percent, and of the worst."""

    mean: float
    worst_percent: float  # one percent of windows is below this
    worst: float


@dataclass(frozen=True, slots=True)
class Parity:
    """The loss of a format against float32; shares of windows within one frame, by window length in s."""

    cosines: dict[str, Cosine]  # by the stem of the model's file
    windows: dict[str, int]
    reference_accuracy: dict[str, float]
    accuracy: dict[str, float]

    @property
    def worst_loss(self) -> tuple[str, float]:
        """The window length with the greatest loss, and the loss; negative for a gain."""
        losses = {length: share - self.accuracy[length] for length, share in self.reference_accuracy.items()}
        return max(losses.items(), key=lambda item: item[1])

    @property
    def telling_loss(self) -> tuple[str, float]:
        """The same among lengths that lose more than one window with all its shifts: of few, one is a large share."""
        lost = {length: share - self.accuracy[length] for length, share in self.reference_accuracy.items()}
        told = {each: loss for each, loss in lost.items() if round(loss * self.windows[each]) > _REPEATS}
        return max(told.items(), key=lambda item: item[1], default=(self.worst_loss[0], 0.0))


def compare(before: Sequence[Track], after: Sequence[Track], calibration: Calibration) -> Parity:
    """Compare two formats on the same clips and shifts; the truth is each clip's own offset in the first format.

    Raises InputFormatError if no clip has a window with speech and a face.
    """
    before, after = (
        [replace(at, negative_reach_ticks=calibration.negative_reach_ticks) for at in each] for each in (before, after)
    )
    truths = [own_offset(at, calibration)[0] for at in before]
    (counts, reference), (_, candidate) = (_accuracies(each, truths, calibration) for each in (before, after))
    pairs = list(zip(before, after, strict=True))
    if not counts:
        raise InputFormatError(
            "no window of them has speech and a face", where=f"{len(pairs)} validation clips",
            remedy="Give longer clips",
        )  # fmt: skip
    return Parity(
        {
            "lips": cosine(*_joined([(a.lips[a.lips_valid], b.lips[b.lips_valid]) for a, b in pairs])),
            "audio": cosine(*_joined([(a.audio, b.audio) for a, b in pairs])),
        },
        counts, reference, candidate,
    )  # fmt: skip


def require_parity(losses: Mapping[str, tuple[str, float]], max_loss: float, *, where: str) -> None:
    """Raises ModelError, naming all formats that lose more windows against float32 than `max_loss`."""
    beyond = [
        f"{fmt} loses {loss:.2%} of {length} s windows"
        for fmt, (length, loss) in losses.items()
        if not loss <= max_loss
    ]
    if beyond:
        raise ModelError(
            f"against float32, {', '.join(beyond)}, allowed is {max_loss:.2%}", where=where,
            remedy="Give more representative clips, or train on",
        )  # fmt: skip


def cosine(a: Floats, b: Floats) -> Cosine:
    """Cosine of corresponding rows of two arrays [n, size]."""
    found = (unit(a) * unit(b)).sum(-1)
    return Cosine(*(round(float(value), 6) for value in (found.mean(), np.percentile(found, 1), found.min())))


def _joined(pairs: list[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    return np.concatenate([a for a, _ in pairs]), np.concatenate([b for _, b in pairs])


def _accuracies(
    tracks: Sequence[Track], truths: list[float], calibration: Calibration
) -> tuple[dict[str, int], dict[str, float]]:
    """Windows with speech, and the share that is right, by window length; omits lengths that no clip has."""
    counts, shares = {}, {}
    for window_s in WINDOWS_S:
        random = np.random.default_rng(0)  # the same shifts for all formats
        right = [
            _is_right(at, part, int(shift), truth, calibration)
            for at, truth in zip(tracks, truths, strict=True)
            for part in window_parts(at, window_s)
            if at.speech()[part].mean() >= SPEECH_RATIO
            for shift in random.integers(-_MAX_SHIFT_TICKS, _MAX_SHIFT_TICKS + 1, _REPEATS)
        ]
        if right:
            counts[f"{window_s:g}"], shares[f"{window_s:g}"] = len(right), round(float(np.mean(right)), 6)
    return counts, shares


def _is_right(at: Track, part: slice, shift_ticks: int, truth_ms: float, calibration: Calibration) -> bool:
    found = estimate(window_curve(at, part, _SEARCH_TICKS, shift_ticks), calibration)
    return found is not None and abs(found.offset_ms - truth_ms - shift_ticks * TICK_MS) <= _RIGHT_MS
