"""Selects the parts of a long recording that are worth training on. Pure.

A stretch is a run of windows with an offset, each with one face and no cut, whose offsets stay within a frame of each
other: then the voice belongs to the face, and nothing was edited.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

WINDOW_S = 2.0
MIN_S, MAX_S = 4.0, 16.0
_STEADY_MS = 40.0  # around the median of a stretch

TOO_SHORT, UNSTEADY = "less than 4 s of it in a row", "the offset changes"


@dataclass(frozen=True, slots=True)
class SeenWindow:
    """One window of `avdrift measure`: its offset, or why it has none."""

    t_s: float
    offset_ms: float | None
    confidence: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class FaceCheck:
    """One look at the video: the number of faces, and whether the shot has changed since the last look."""

    t_s: float
    faces: int
    cut: bool


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a recording: kept with its offset, or dropped with a reason."""

    from_s: float
    to_s: float
    offset_ms: float | None = None
    confidence: float = 0.0
    reason: str = ""


def parts_of(windows: Sequence[SeenWindow], checks: Sequence[FaceCheck]) -> list[Part]:
    """The whole recording in parts, in order. `checks` are in order as well."""
    times_s = [check.t_s for check in checks]
    judged = []
    for window in windows:
        first, end = bisect_left(times_s, window.t_s), bisect_left(times_s, window.t_s + WINDOW_S)
        judged.append((window, _reason(window, checks[first:end])))
    found: list[Part] = []
    for reason, group in groupby(judged, key=lambda each: each[1]):
        run = [window for window, _ in group]
        if reason:
            found.append(Part(run[0].t_s, run[-1].t_s + WINDOW_S, reason=reason))
        else:
            found += _steady(run)
    return found


def _reason(window: SeenWindow, inside: Sequence[FaceCheck]) -> str:
    """Why a window is not worth training on, given the face checks inside it; empty if it is."""
    if not inside or any(check.faces == 0 for check in inside):
        return "no face"
    if any(check.faces > 1 for check in inside):
        return "several faces"
    if any(check.cut for check in inside):
        return "a cut"
    return (window.reason or "no number") if window.offset_ms is None else ""


def _steady(run: Sequence[SeenWindow]) -> Iterator[Part]:
    """Consecutive runs of windows, split where the offset leaves the median, or when a stretch is long enough."""
    stretch: list[SeenWindow] = []
    for window in run:
        apart = stretch and (
            abs(_offset(window) - _median(stretch)) > _STEADY_MS
            or window.t_s + WINDOW_S - stretch[0].t_s > MAX_S
            or window.t_s - stretch[-1].t_s > 1.5 * WINDOW_S
        )
        if apart:
            yield _part(stretch)
            stretch = []
        stretch.append(window)
    yield _part(stretch)


def _part(stretch: Sequence[SeenWindow]) -> Part:
    from_s, to_s = stretch[0].t_s, stretch[-1].t_s + WINDOW_S
    if to_s - from_s < MIN_S:
        return Part(from_s, to_s, reason=TOO_SHORT)
    return Part(from_s, to_s, round(_median(stretch), 1), round(min(w.confidence for w in stretch), 4))


def _offset(window: SeenWindow) -> float:
    assert window.offset_ms is not None
    return window.offset_ms


def _median(stretch: Sequence[SeenWindow]) -> float:
    return float(np.median([_offset(window) for window in stretch]))
