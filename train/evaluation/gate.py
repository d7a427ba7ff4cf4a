"""The gate at the end of a retraining: new and old models on the same clips and shifts.

Conventions: windows, shifts, search and unmeasurable input are those of `protocol`. The truth is each clip's own offset
over its whole length by the old models, for the clips on which these are sure; others are left out and counted.
Intervals are those of the difference, over speakers, drawn together (paired bootstrap): 95 % are shown, and 99 %
decide, because there are several figures. Figures from too few windows or speakers are omitted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from device.analysis.offset_tracker import MEASURING_CONFIDENCE
from device.bundles.calibration import Calibration
from train.data.clip_table import MIN_VALID_SPEAKERS
from train.data.shards import Clip
from train.evaluation.metrics import FRAME_MS, has_speech, is_reported, is_right
from train.evaluation.negatives import with_json_keys
from train.evaluation.protocol import SEARCHES_FRAMES, SHIFT_MARGIN_FRAMES, Unmeasurable, unmeasurable_figures
from train.evaluation.tables import Table, share, text_of
from train.evaluation.tracks import Track, Window, own_offset, sure_tracks, track, windows
from train.models.encoders import Towers

LENGTHS_S = (0.6, 1.0, 2.0, 5.0)
MAX_UNMEASURABLE = 0.02  # limit on the share of windows of a kind and length that get an offset
BETTER, WORSE, UNDECIDED = "better", "worse", "cannot be told"

_MIN_WINDOWS = 20  # per length, or it is omitted
_PLAINLY_WORSE = 0.1  # a difference that fails the gate even if there are too few clips for an interval
_REPEATS = 4  # shifts of each window
_DRAWS = 2000
_SEARCH_MS = SEARCHES_FRAMES[-1] * FRAME_MS
_MAX_SHIFT_MS = (SEARCHES_FRAMES[-1] - SHIFT_MARGIN_FRAMES) * FRAME_MS


@dataclass(frozen=True, slots=True)
class Model:
    """A model under test: towers with their calibration, and a name."""

    label: str
    towers: Towers
    calibration: Calibration


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure of both models, and 95 % of the difference, new minus old; None if unknown."""

    figure: str
    window_s: float
    windows: int
    new: float | None
    old: float | None
    low: float | None
    high: float | None
    verdict: str


@dataclass(frozen=True, slots=True)
class Gate:
    """`passed`: whether the new models may go to a device without explicit acceptance."""

    new: str
    old: str
    clips: int
    speakers: int
    left_out: int  # clips on which the old models are not sure
    rows: tuple[Compared, ...]
    unmeasurable: tuple[tuple[Unmeasurable, float], ...]  # of the new models, with the share of the old ones
    zero_difference_ms: float | None  # median over clips: new zero minus old zero
    verdict: str
    passed: bool
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        found = asdict(self)
        found["unmeasurable"] = [asdict(new) | {"old": old} for new, old in self.unmeasurable]
        return {"schema": 1, **with_json_keys(found)}


def judge(clips: Sequence[Clip], new: Model, old: Model, *, seed: int = 0) -> Gate:
    """Compare both models on the clips that the old ones are sure of."""
    olds = sure_tracks((track(clip, old.towers) for clip in clips), old.calibration, MEASURING_CONFIDENCE)
    truths_ms = [truth_ms for _, truth_ms in olds]
    old_tracks = [t for t, _ in olds]
    new_tracks = [track(t.clip, new.towers) for t in old_tracks]
    speakers = len({t.clip.speaker for t in old_tracks})
    rows: list[Compared] = []
    for window_s in LENGTHS_S:
        pairs = [
            (of_new, of_old)
            for repeat in range(_REPEATS)
            for of_new, of_old in zip(
                _measured(new_tracks, truths_ms, window_s, new.calibration, seed + repeat),
                _measured(old_tracks, truths_ms, window_s, old.calibration, seed + repeat), strict=True,
            )
            if has_speech(of_old)
        ]  # fmt: skip
        rows += _rows(window_s, pairs, seed)
    zeros = [own_offset(t, new.calibration)[0] - truth for t, truth in zip(new_tracks, truths_ms, strict=True)]
    unmeasurable = _compare_unmeasurable(new_tracks, new, old_tracks, old, seed) if old_tracks else ()
    verdict, passed, sentence = conclusion(rows, unmeasurable, speakers)
    return Gate(
        new.label, old.label, len(old_tracks), speakers, len(clips) - len(old_tracks), tuple(rows), unmeasurable,
        round(float(np.median(zeros)), 1) if zeros else None, verdict, passed, sentence,
    )  # fmt: skip


def conclusion(
    rows: Sequence[Compared], unmeasurable: Sequence[tuple[Unmeasurable, float]], speakers: int
) -> tuple[str, bool, str]:
    """The verdict, whether the gate is passed, and one sentence for people."""
    worse, better = ([row for row in rows if row.verdict == verdict] for verdict in (WORSE, BETTER))
    if beyond := [(each, old) for each, old in unmeasurable if _is_beyond(each, old)]:
        worst, old = max(beyond, key=lambda pair: pair[0].numbered)
        words = f"{worst.kind} gets a number in {worst.numbered:.1%} of {worst.window_s:g} s windows"
        return WORSE, False, f"Worse: {words} instead of {old:.1%}, {MAX_UNMEASURABLE:.0%} are allowed."
    if worse:
        return WORSE, False, f"Worse: {_named(worse)}."
    if speakers < MIN_VALID_SPEAKERS or not any(row.low is not None for row in rows):
        return UNDECIDED, False, "It cannot be told: too few clips or speakers in the split valid to judge by."
    if better:
        return BETTER, True, f"Better: {_named(better)}."
    return UNDECIDED, True, "It cannot be told from what was there: no difference is larger than chance."


def _is_beyond(new: Unmeasurable, old: float) -> bool:
    """Above the bound, and by two standard errors above the old models, which such windows deceive as well."""
    error = float(np.sqrt((new.numbered + old) / new.windows))
    return new.numbered > MAX_UNMEASURABLE and new.numbered - old > 2 * error


def _named(rows: Sequence[Compared]) -> str:
    differences = [f"{row.figure} {row.new:.1%} instead of {row.old:.1%} at {row.window_s:g} s" for row in rows[:3]]
    return ", ".join(differences)


def _measured(
    tracks: Sequence[Track], truths_ms: Sequence[float], window_s: float, calibration: Calibration, seed: int
) -> list[Window]:
    random = np.random.default_rng(seed)
    return [
        window
        for t, truth_ms in zip(tracks, truths_ms, strict=True)
        for window in windows(t, truth_ms, window_s=window_s, search_ms=_SEARCH_MS, calibration=calibration,
                              random=random, max_shift_ms=_MAX_SHIFT_MS)
    ]  # fmt: skip


Pairs = Sequence[tuple[Window, Window]]


def _rows(window_s: float, pairs: Pairs, seed: int) -> list[Compared]:
    """Accuracy, coverage and precision; offsets of windows below a second are rare."""
    found = [_compared("right", window_s, pairs, is_right, seed)]
    if window_s >= 1:
        found.append(_compared("with a number", window_s, pairs, is_reported, seed))
        numbered = [(a, b) for a, b in pairs if is_reported(a)], [(a, b) for a, b in pairs if is_reported(b)]
        found.append(_right_of_these(window_s, *numbered))
    return found


def _compared(figure: str, window_s: float, pairs: Pairs, holds: Callable[[Window], bool], seed: int) -> Compared:
    if len(pairs) < _MIN_WINDOWS:
        return Compared(figure, window_s, len(pairs), None, None, None, None, UNDECIDED)
    new, old = (np.array([holds(pair[side]) for pair in pairs], np.float64) for side in (0, 1))
    drawn = _drawn_means(new - old, [pair[1].clip.speaker for pair in pairs], np.random.default_rng(seed))
    low = high = None
    verdict = UNDECIDED
    if drawn is not None:
        low, high = (float(value) for value in np.percentile(drawn, (2.5, 97.5)))
        surely_low, surely_high = np.percentile(drawn, (0.5, 99.5))
        plainly = new.mean() - old.mean() < -_PLAINLY_WORSE
        verdict = WORSE if surely_high < 0 or plainly else BETTER if surely_low > 0 else UNDECIDED
    return Compared(figure, window_s, len(pairs), float(new.mean()), float(old.mean()), low, high, verdict)


def _right_of_these(window_s: float, of_new: Pairs, of_old: Pairs) -> Compared:
    """Precision of each. Different windows, so without a paired interval; "worse" only if it is obvious."""
    new, old = ([is_right(pair[side]) for pair in pairs] for side, pairs in ((0, of_new), (1, of_old)))
    if len(new) < _MIN_WINDOWS:
        return Compared("right of these", window_s, len(new), None, None, None, None, UNDECIDED)
    share, before = float(np.mean(new)), float(np.mean(old)) if old else 1.0
    # Two standard errors of the old share, and never less than a point.
    slack = max(2.6 * float(np.sqrt(before * (1 - before) / len(new))), 0.01)
    return Compared("right of these", window_s, len(new), share, before, None, None,
                    WORSE if share < before - slack else UNDECIDED)  # fmt: skip


def _drawn_means(
    values: npt.NDArray[np.float64], speakers: Sequence[str], random: np.random.Generator
) -> npt.NDArray[np.float64] | None:
    """Bootstrap of the mean over speakers; None for a single one."""
    names, index = np.unique(speakers, return_inverse=True)
    if len(names) < MIN_VALID_SPEAKERS:
        return None
    draws = random.multinomial(len(names), np.full(len(names), 1 / len(names)), _DRAWS)
    return np.asarray(draws @ np.bincount(index, weights=values) / (draws @ np.bincount(index)))


def _compare_unmeasurable(
    new_tracks: list[Track], new: Model, old_tracks: list[Track], old: Model, seed: int
) -> tuple[tuple[Unmeasurable, float], ...]:
    of_new = unmeasurable_figures(new_tracks, new.towers, new.calibration, seed)
    of_old = {
        (h.kind, h.window_s): h.numbered for h in unmeasurable_figures(old_tracks, old.towers, old.calibration, seed)
    }
    return tuple((each, of_old.get((each.kind, each.window_s), 0.0)) for each in of_new)


def table(gate: Gate) -> Table:
    """Both side by side, as strings."""
    head = ["figure", "window s", "windows", "new %", "old %", "difference, 95 %"]
    body = [
        [row.figure, f"{row.window_s:g}", str(row.windows), share(row.new), share(row.old),
         f"{100 * row.low:+.1f} to {100 * row.high:+.1f}" if row.low is not None and row.high is not None else "-"]
        for row in gate.rows
    ]  # fmt: skip
    body += [
        [f"number for {each.kind}", f"{each.window_s:g}", str(each.windows), share(each.numbered), share(old), "-"]
        for each, old in gate.unmeasurable
    ]
    return f"{gate.new} (new) beside {gate.old} (old): {gate.clips} clips of {gate.speakers} speakers", head, body


def as_text(gate: Gate) -> str:
    """The table, further remarks, and the sentence at the end."""
    lines = [text_of(table(gate)), ""]
    if gate.left_out:
        lines.append(f"Left out, the old models being unsure of their offset: {gate.left_out} clips.")
    if gate.zero_difference_ms is not None:
        lines.append(f"The new zero is {gate.zero_difference_ms:+.1f} ms from the old one.")
    return "\n".join([*lines, gate.sentence]) + "\n"
