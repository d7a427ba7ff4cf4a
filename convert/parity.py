"""How far another number format strays from float32: vectors side by side, and the offsets that come of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from device.errors import InputFormatError, ModelError
from device.sync.curve import TICK_MS, Calibration, estimate, unit
from train.data import Clip
from train.measure import OWN_SEARCH_TICKS, SPEECH_RATIO, Towers, Track, track, window_parts

Floats = npt.NDArray[np.float32]
# Lips, their flags and first tick; sound, its flags and first tick; search ticks: as of device.sync.curve.evidence.
Evidence = Callable[[Floats, npt.NDArray[np.bool_], int, Floats, npt.NDArray[np.bool_], int, int], Floats]

WINDOWS_S = (0.6, 1.0, 2.0, 5.0)
_REPEATS = 10  # each clip is sliced by several random shifts: validation clips are few
_SEARCH_TICKS, _MAX_SHIFT_TICKS = 100, 60
_RIGHT_MS = 40.0


@dataclass(frozen=True, slots=True)
class Answers:
    """What the models of one format make of some clips, and how offsets come of that."""

    tracks: list[Track]
    evidence: Evidence

    def curve(self, at: Track, part: slice, search_ticks: int, shift_ticks: int = 0) -> Floats:
        """Evidence of a stretch of lip windows, summed; the sound is sliced to be so much earlier."""
        rows = self.evidence(
            at.lips[part], at.lips_valid[part], at.lips_first + part.start, at.audio,
            np.ones(len(at.audio), np.bool_), at.audio_first - shift_ticks, search_ticks,
        )  # fmt: skip
        return np.asarray(rows.sum(0), np.float32)

    def offset_ms(self, at: Track, calibration: Calibration) -> float:
        """Of a whole clip, where it speaks; 0 where it says nothing."""
        whole = self.evidence(
            at.lips, at.lips_valid & at.speech(), at.lips_first, at.audio, np.ones(len(at.audio), np.bool_),
            at.audio_first, OWN_SEARCH_TICKS,
        )  # fmt: skip
        found = estimate(whole.sum(0), calibration) if len(whole) else None
        return found.offset_ms if found else 0.0


def answers_of(towers: Towers, clips: Sequence[Clip], evidence: Evidence) -> Answers:
    return Answers([track(clip, towers) for clip in clips], evidence)


@dataclass(frozen=True, slots=True)
class Cosine:
    """Between both formats' vectors of the same window: on average, of the worst percent, of the very worst."""

    mean: float
    worst_percent: float  # one percent of windows is below
    worst: float


@dataclass(frozen=True, slots=True)
class Parity:
    """What a format costs against float32; shares of windows within one frame, by window length in s."""

    cosines: dict[str, Cosine]  # by the stem of the model's file
    windows: dict[str, int]
    reference_accuracy: dict[str, float]
    accuracy: dict[str, float]

    @property
    def worst_loss(self) -> tuple[str, float]:
        """The window length at which most is lost, and how much; negative where nothing is."""
        losses = {length: share - self.accuracy[length] for length, share in self.reference_accuracy.items()}
        return max(losses.items(), key=lambda item: item[1])


def compare(before: Answers, after: Answers, calibration: Calibration) -> Parity:
    """The same clips and shifts in two formats; truth is each clip's own offset by the first.

    Raises InputFormatError where no clip has a window with speech and a face.
    """
    truths = [before.offset_ms(track, calibration) for track in before.tracks]
    (counts, reference), (_, candidate) = (_accuracies(each, truths, calibration) for each in (before, after))
    pairs = list(zip(before.tracks, after.tracks, strict=True))
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
    """Raises ModelError when a format loses more windows against float32 than `max_loss`; all that do are named."""
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
    """Of the rows of two arrays [n, size]."""
    found = (unit(a) * unit(b)).sum(-1)
    return Cosine(*(round(float(value), 6) for value in (found.mean(), np.percentile(found, 1), found.min())))


def _joined(pairs: list[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    return np.concatenate([a for a, _ in pairs]), np.concatenate([b for _, b in pairs])


def _accuracies(
    answers: Answers, truths: list[float], calibration: Calibration
) -> tuple[dict[str, int], dict[str, float]]:
    """Windows with speech, and the share that is right, by window length; lengths that no clip has are left out."""
    counts, shares = {}, {}
    for window_s in WINDOWS_S:
        random = np.random.default_rng(0)  # the same shifts for all formats
        right = [
            _is_right(answers, at, part, int(shift), truth, calibration)
            for at, truth in zip(answers.tracks, truths, strict=True)
            for part in window_parts(at, window_s)
            if at.speech()[part].mean() >= SPEECH_RATIO
            for shift in random.integers(-_MAX_SHIFT_TICKS, _MAX_SHIFT_TICKS + 1, _REPEATS)
        ]
        if right:
            counts[f"{window_s:g}"], shares[f"{window_s:g}"] = len(right), round(float(np.mean(right)), 6)
    return counts, shares


def _is_right(
    answers: Answers, at: Track, part: slice, shift_ticks: int, truth_ms: float, calibration: Calibration
) -> bool:
    found = estimate(answers.curve(at, part, _SEARCH_TICKS, shift_ticks), calibration)
    return found is not None and abs(found.offset_ms - truth_ms - shift_ticks * TICK_MS) <= _RIGHT_MS
