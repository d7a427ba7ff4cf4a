"""How far int8 strays from float32: embeddings side by side, and what counts, offsets before and after."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from device.errors import InputFormatError, ModelError
from device.sync.curve import Calibration, unit
from train.data import Clip
from train.measure import Towers, Track, accuracy, own_offset, track, windows

Floats = npt.NDArray[np.float32]

_WINDOWS_S = (0.6, 1.0, 2.0, 5.0)
_DECIDING = "2"  # the window length that the loss is about, in s
_REPEATS = 10  # each clip is sliced by several random shifts: validation clips are few


@dataclass(frozen=True, slots=True)
class Parity:
    """Cosines of the same window's embeddings in both formats; accuracy (within one frame) by window length in s."""

    lips_cosine_mean: float
    lips_cosine_worst_percent: float  # one percent of windows is below
    audio_cosine_mean: float
    audio_cosine_worst_percent: float
    reference_accuracy: dict[str, float]
    candidate_accuracy: dict[str, float]
    accuracy_loss: float  # at 2 s


def compare(reference: Towers, candidate: Towers, clips: list[Clip], calibration: Calibration) -> Parity:
    """Both pairs of towers over the same clips and shifts; truth is each clip's own offset by the reference.

    Raises InputFormatError where no clip has two seconds of speech with a face.
    """
    before = [track(clip, reference) for clip in clips]
    after = [track(clip, candidate) for clip in clips]
    truths = [own_offset(t, calibration)[0] for t in before]
    scores = [_accuracies(tracks, truths, calibration) for tracks in (before, after)]
    if _DECIDING not in scores[0]:
        raise InputFormatError(
            f"no {_DECIDING} s of speech with a face in any of them", where=f"{len(clips)} validation clips",
            remedy="Give longer clips",
        )  # fmt: skip
    pairs = list(zip(before, after, strict=True))
    lips = np.concatenate([_cosines(a.lips[a.lips_valid], b.lips[b.lips_valid]) for a, b in pairs])
    audio = np.concatenate([_cosines(a.audio, b.audio) for a, b in pairs])
    return Parity(
        float(lips.mean()), float(np.percentile(lips, 1)), float(audio.mean()), float(np.percentile(audio, 1)),
        scores[0], scores[1], round(scores[0][_DECIDING] - scores[1][_DECIDING], 6),
    )  # fmt: skip


def require_parity(parity: Parity, max_loss: float, *, where: str) -> None:
    """Raises ModelError when int8 loses a larger share of windows against float32 than `max_loss`."""
    if not parity.accuracy_loss <= max_loss:
        raise ModelError(
            f"int8 loses {parity.accuracy_loss:.1%} of windows against float32, allowed is {max_loss:.1%}",
            where=where, remedy="Give more representative clips, or train on",
        )  # fmt: skip


def _cosines(a: Floats, b: Floats) -> Floats:
    return np.asarray((unit(a) * unit(b)).sum(-1))


def _accuracies(tracks: list[Track], truths: list[float], calibration: Calibration) -> dict[str, float]:
    """By window length; lengths that no clip has are left out."""
    found = {}
    for window_s in _WINDOWS_S:
        random = np.random.default_rng(0)  # the same shifts for both
        measured = [
            window
            for _ in range(_REPEATS)
            for t, truth in zip(tracks, truths, strict=True)
            for window in windows(t, truth, window_s=window_s, search_ms=1000, calibration=calibration, random=random,
                                  max_shift_ms=600)
        ]  # fmt: skip
        share = accuracy(measured)
        if np.isfinite(share):
            found[f"{window_s:g}"] = round(share, 6)
    return found
