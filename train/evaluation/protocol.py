"""`avdrift-train evaluate SHARDS…`: evaluates a two-tower model by one protocol.

Conventions: windows follow one another, and what counts of them does not overlap. Each is sliced with its own uniform
shift of up to the search range minus 5 frames of 40 ms. Slicing is a shift of the embeddings' ticks: the encoders see
the same frames and the same audio, wherever the cut lies. A few clips are really sliced and encoded again, to check.
Lips around a window compete with its own for their audio, as on the device (device/sync/curve.py), except in windows
that are cut out of their clip: these see nothing else, as in published figures, and share no frame.
The truth is the clip's own offset over its whole length, by the same towers or by another model, plus the shift.
No window is excluded for its confidence; silent windows are counted separately.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from device.analysis.offset_tracker import MEASURING_CONFIDENCE
from device.bundles.calibration import Calibration
from device.errors import InputFormatError
from device.features.contract import AUDIO_RATE_HZ, AUDIO_TICKS_PER_LIP_TICK, FRONT_END
from device.sync.curve import TICK_MS
from train.data.shards import Clip
from train.evaluation.calibration import Bin, reliability
from train.evaluation.metrics import FRAME_MS, Figures, figures, has_speech, is_reported, is_right
from train.evaluation.negatives import cases, with_json_keys
from train.evaluation.tracks import Track, Window, own_offset, track, windows
from train.models.encoders import Towers
from train.progress import with_progress

LENGTHS_S = (0.2, 0.6, 1.0, 2.0, 5.0, 10.0)
CUT_OUT_LENGTHS_S = (0.2, 0.6, 1.0, 2.0, 5.0)
SEARCHES_FRAMES = (15, 25)
CUT_OUT_SEARCH_FRAMES = 15  # as published figures have it
CORPUS_WINDOW_S = 2.0
SHIFT_MARGIN_FRAMES = 5

_TRUST_LENGTHS_S = (1.0, 2.0, 5.0)
_SLICED_CLIPS = 3
_MIN_SLICED_S = 8.0


@dataclass(frozen=True, slots=True)
class Row:
    """One window length at one search range; `zero` is an estimator that always answers 0 ms, on the same windows."""

    window_s: float
    search_frames: int
    speech: Figures
    silent: Figures
    zero: Figures


@dataclass(frozen=True, slots=True)
class Unmeasurable:
    """Windows of one kind of unmeasurable input, and the share that would be reported."""

    kind: str
    window_s: float
    windows: int
    numbered: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The whole result; `to_dict` is the JSON output."""

    model: str
    truth: str
    clips: int
    speakers: int
    left_out: tuple[str, ...]
    unsure_truth: tuple[str, ...]
    calibration: Calibration
    rows: tuple[Row, ...]
    cut_out: tuple[Row, ...]
    corpora: dict[str, Figures]
    groups: dict[str, dict[str, Figures]]  # as `corpora`, of other groupings
    unmeasurable: tuple[Unmeasurable, ...]
    reliability: tuple[Bin, ...]
    slicing_difference_ms: float | None
    errors_ms: tuple[float, ...] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        found = asdict(self)
        del found["errors_ms"]
        return {"schema": 1, **with_json_keys(found)}


def sliced(clip: Clip, shift_ticks: int) -> Clip:
    """The clip with its audio earlier by `shift_ticks` audio ticks: cut at the start; its video for negative shifts.

    Raises ValueError for negative shifts that are not whole lip ticks.
    """
    if shift_ticks >= 0:
        count = shift_ticks * AUDIO_RATE_HZ * FRONT_END.audio_tick_ms // 1000
        return replace(clip, samples=clip.samples[count:], speech=clip.speech[shift_ticks:])
    if shift_ticks % AUDIO_TICKS_PER_LIP_TICK:
        raise ValueError(f"{-shift_ticks} audio ticks are not whole lip ticks")
    count = -shift_ticks // AUDIO_TICKS_PER_LIP_TICK
    return replace(clip, crops=clip.crops[count:], valid=clip.valid[count:])


def evaluate(
    clips: Sequence[Clip], towers: Towers, calibration: Calibration, *, model: str,
    offsets_ms: Mapping[str, float] | None = None, offsets_name: str = "", seed: int = 0,
    groupings: Mapping[str, Mapping[str, str]] | None = None,
) -> Evaluation:  # fmt: skip
    """Measure all windows of all clips. Raises InputFormatError if no clip with a known truth is left.

    groupings: by the name of a grouping, the group of each clip.
    """
    left_out = [clip.name for clip in clips if offsets_ms is not None and clip.name not in offsets_ms]
    kept = [clip for clip in clips if clip.name not in left_out]
    if not kept:
        raise InputFormatError("knows none of the clips", where=offsets_name or "clips", remedy="Give another file")
    tracks = [track(clip, towers) for clip in with_progress(kept, "embed", len(kept), "clip")]
    own = {t.clip.name: own_offset(t, calibration) for t in tracks}
    truth_ms = {name: found_ms for name, (found_ms, _) in own.items()} if offsets_ms is None else offsets_ms
    truths_ms = [truth_ms[t.clip.name] for t in tracks]
    measured = _measure_all(tracks, truths_ms, calibration, seed)
    main = [w for w in measured[CORPUS_WINDOW_S, SEARCHES_FRAMES[-1]] if has_speech(w)]
    judged = [w for length_s in _TRUST_LENGTHS_S for w in measured[length_s, SEARCHES_FRAMES[-1]] if has_speech(w)]
    by_corpus = {clip.name: clip.corpus for clip in kept}
    by = "by the same towers" if offsets_ms is None else f"as {offsets_name} has it"
    return Evaluation(
        model=model,
        truth=f"each clip's own offset over its whole length, {by}",
        clips=len(kept),
        speakers=len({clip.speaker for clip in kept}),
        left_out=tuple(left_out),
        unsure_truth=tuple(
            name for name, (_, sure) in own.items() if offsets_ms is None and sure < MEASURING_CONFIDENCE
        ),
        calibration=calibration,
        rows=tuple(row(length_s, frames, found, seed) for (length_s, frames), found in measured.items()),
        cut_out=tuple(
            row(
                length_s,
                CUT_OUT_SEARCH_FRAMES,
                _measure(tracks, truths_ms, length_s, CUT_OUT_SEARCH_FRAMES, calibration, seed, cut_out=True),
                seed,
            )
            for length_s in CUT_OUT_LENGTHS_S
        ),
        corpora=_by_group(main, by_corpus, seed),
        groups={name: _by_group(main, grouping, seed) for name, grouping in (groupings or {}).items()},
        unmeasurable=tuple(unmeasurable_figures(tracks, towers, calibration, seed)),
        reliability=reliability(np.array([w.confidence for w in judged]), np.array([*map(is_right, judged)], np.bool_)),
        slicing_difference_ms=slicing_difference_ms(tracks, towers, calibration, seed),
        errors_ms=tuple(w.error_ms for w in main if np.isfinite(w.error_ms)),
    )


def _measure_all(
    tracks: list[Track], truths_ms: list[float], calibration: Calibration, seed: int
) -> dict[tuple[float, int], list[Window]]:
    kinds = [(length_s, frames) for frames in SEARCHES_FRAMES for length_s in LENGTHS_S]
    found: dict[tuple[float, int], list[Window]] = {}
    for length_s, frames in with_progress(kinds, "measure", len(kinds), "length"):
        found[length_s, frames] = _measure(tracks, truths_ms, length_s, frames, calibration, seed)
    return found


def _measure(
    tracks: Sequence[Track], truths_ms: Sequence[float], length_s: float, frames: int, calibration: Calibration,
    seed: int, *, cut_out: bool = False,
) -> list[Window]:  # fmt: skip
    random = np.random.default_rng(seed)
    return [
        w
        for t, truth_ms in zip(tracks, truths_ms, strict=True)
        for w in windows(t, truth_ms, window_s=length_s, search_ms=frames * FRAME_MS, calibration=calibration,
                         random=random, max_shift_ms=(frames - SHIFT_MARGIN_FRAMES) * FRAME_MS, cut_out=cut_out)
    ]  # fmt: skip


def _by_group(measured: Sequence[Window], group_of: Mapping[str, str], seed: int) -> dict[str, Figures]:
    found: dict[str, list[Window]] = {name: [] for name in sorted(set(group_of.values()))}
    for window in measured:
        found[group_of[window.clip.name]].append(window)
    return {name: figures(of_group, seed) for name, of_group in found.items()}


def row(window_s: float, search_frames: int, measured: list[Window], seed: int) -> Row:
    """The figures of all windows of one length."""
    speech = [w for w in measured if has_speech(w)]
    zero = [replace(w, error_ms=-w.true_ms, confidence=1.0, at_edge=False) for w in speech]
    silent = [w for w in measured if not has_speech(w)]
    return Row(window_s, search_frames, figures(speech, seed), figures(silent, seed), figures(zero, seed))


def unmeasurable_figures(
    tracks: list[Track], towers: Towers, calibration: Calibration, seed: int
) -> list[Unmeasurable]:
    """For each kind of unmeasurable input and each length, the share that would be reported."""
    found: dict[tuple[str, float], list[bool]] = {}
    search_ms = SEARCHES_FRAMES[-1] * FRAME_MS
    for kind, t in cases(tracks, towers, np.random.default_rng(seed)):
        for length_s in _TRUST_LENGTHS_S:
            given = windows(t, 0.0, window_s=length_s, search_ms=search_ms, calibration=calibration,
                            random=np.random.default_rng(seed), max_shift_ms=0.0)  # fmt: skip
            found.setdefault((kind, length_s), []).extend(is_reported(w) for w in given if has_speech(w))
    return [
        Unmeasurable(kind, length_s, len(all_), float(np.mean(all_)))
        for (kind, length_s), all_ in found.items()
        if all_
    ]


def slicing_difference_ms(tracks: list[Track], towers: Towers, calibration: Calibration, seed: int) -> float | None:
    """Largest difference between a few really sliced clips and the shift of their ticks; None without long clips."""
    random, found = np.random.default_rng(seed), []
    for t in sorted(tracks, key=lambda t: -len(t.lips))[:_SLICED_CLIPS]:
        if len(t.lips) * FRAME_MS < _MIN_SLICED_S * 1000:
            continue
        shift = AUDIO_TICKS_PER_LIP_TICK * int(random.choice([-1, 1]) * random.integers(3, 16))
        before_ms, _ = own_offset(t, calibration)
        after_ms, _ = own_offset(track(sliced(t.clip, shift), towers), calibration)
        found.append(abs(after_ms - before_ms - shift * TICK_MS))
    return max(found) if found else None
