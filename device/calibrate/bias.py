"""The result of a calibration: the offset of a scene that is known to be in sync, and its uncertainty."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from device.analysis.analyzer import Analyzer
from device.analysis.offset_tracker import OffsetTracker
from device.bundles.bundle import Bundle
from device.calibrate import pattern
from device.errors import CaptureError
from device.records import NS_PER_S, Chunk, Frame, State
from device.sync.robust_stats import centre, spread

WINDOW_S = 3.0
MIN_WINDOWS = 4
MAX_AWAY_MS, MAX_AWAY_SHARE = 40.0, 0.25
# Standard errors that a longer measurement does not reduce. A person shows the rig as the models will see it, but only
# one person; the pattern shows the rig alone, and says nothing about the models' zero.
PERSON_STD_MS = 10.0
MODEL_ZERO_STD_MS = 20.0

_IN_STEP_STD_MS = 5.0
_WHERE = "avdrift calibrate"


@dataclass(frozen=True, slots=True)
class Bias:
    """The offset of a scene that is in sync, from `count` flashes or windows with a scatter of `scatter_ms`."""

    bias_ms: float
    bias_std_ms: float
    scatter_ms: float
    count: int
    warning: str | None = None


def from_pattern(items: Iterable[Frame | Chunk], *, recorded: bool) -> Bias:
    """Measure with frames and chunks of the pattern on a screen. Raises CaptureError if that is not possible.

    recorded: frames of a recording represent the time from their stamp to the next one; live frames, the middle of
    their exposure.
    """
    times_s: list[float] = []
    lights: list[pattern.Doubles] = []
    sound = _Sound()
    for item in items:
        if isinstance(item, Frame):
            times_s.append(item.t_ns / NS_PER_S)
            lights.append(pattern.light(item.rgb).astype(np.float32))
        else:
            sound.add(item)
    seen_s = np.array(times_s)
    if recorded and len(times_s) > 1:
        seen_s += 0.5 * np.append(np.diff(seen_s), np.diff(seen_s)[-1])
    flashes = pattern.find_flashes(seen_s, np.array(lights) if lights else np.zeros((0, 1)))
    found = pattern.match(flashes, sound.beeps_s())
    if (problem := pattern.problem(found)) or found is None:
        remedy = (
            "Let the film of `avdrift pattern` fill the camera's frame, make its sound clearly audible, let nothing "
            "else move or flash, or give a longer --seconds"
        )
        raise CaptureError(problem or "no pattern", where=_WHERE, remedy=remedy)
    in_step = None
    if found.offset_std_ms > _IN_STEP_STD_MS and not recorded:
        in_step = "camera and film run in step, which leaves this uncertain: make a film with another --fps"
    return Bias(
        found.offset_ms, math.hypot(found.offset_std_ms, MODEL_ZERO_STD_MS), found.scatter_ms, found.pairs, in_step
    )


def from_person(items: Iterable[Frame | Chunk], bundle: Bundle, face_model: Path, *, search_ms: float) -> Bias:
    """Measure with frames and chunks of a person speaking. Raises CaptureError if that is not possible."""
    analyzer = Analyzer(bundle, face_model, search_ms=search_ms)
    offsets_ms: list[float] = []
    stds_ms: list[float] = []
    states: list[State] = []
    for result in _windows(items, analyzer):
        states.append(result[0])
        if result[0] is State.MEASURING:
            offsets_ms.append(result[1])
            stds_ms.append(result[2])
    if len(offsets_ms) < MIN_WINDOWS:
        seen = ", ".join(f"{states.count(state)} {state.value}" for state in dict.fromkeys(states)) or "no picture"
        what = f"{len(offsets_ms)} windows of {WINDOW_S:g} s could be measured, {MIN_WINDOWS} are needed ({seen})"
        remedy = "Let one person look at the camera and speak without pauses, or give a longer --seconds"
        raise CaptureError(what, where=_WHERE, remedy=remedy)
    offsets = np.array(offsets_ms)
    single_ms = max(spread(offsets), float(np.median(stds_ms)))
    middle_ms = centre(offsets, single_ms)
    away = int((np.abs(offsets - middle_ms) > MAX_AWAY_MS).sum())
    if away > MAX_AWAY_SHARE * len(offsets):
        what = f"the offset is not steady: {away} of {len(offsets)} windows are more than {MAX_AWAY_MS:g} ms away"
        raise CaptureError(what, where=_WHERE, remedy="Let one person alone speak, in a quiet and well-lit room")
    std_ms = math.hypot(single_ms / math.sqrt(len(offsets)), PERSON_STD_MS)
    return Bias(middle_ms, std_ms, spread(offsets), len(offsets))


def _windows(items: Iterable[Frame | Chunk], analyzer: Analyzer) -> Iterator[tuple[State, float, float]]:
    """State, offset and standard error of consecutive windows, which do not overlap and so are independent."""
    window, due_ns = OffsetTracker(analyzer, WINDOW_S), None
    for item in items:
        for row in analyzer.push(item):
            window.push(row)
            due_ns = row.t_ns + round(WINDOW_S * NS_PER_S) if due_ns is None else due_ns
            if row.t_ns < due_ns:
                continue
            due_ns = row.t_ns + round(WINDOW_S * NS_PER_S)
            result = window.result()
            if result is not None and result.level is not None:
                yield result.state, result.level.offset_ms, result.level.offset_std_ms
            elif result is not None:  # an offset kept from before, or none, is not a measurement of this window
                yield State.UNCERTAIN if result.state is State.MEASURING else result.state, 0.0, 0.0


class _Sound:
    """Consecutive samples with the time of each, even across gaps."""

    def __init__(self) -> None:
        self._parts: list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = []
        self._first: list[int] = []  # number of each part's first sample
        self._t_s: list[float] = []
        self._count = self._rate_hz = 0

    def add(self, chunk: Chunk) -> None:
        self._rate_hz = chunk.rate_hz
        self._parts.append(chunk.samples)
        self._first.append(self._count)
        self._t_s.append(chunk.t_ns / NS_PER_S)
        self._count += len(chunk.samples)

    def beeps_s(self) -> pattern.Doubles:
        if not self._parts:
            return np.zeros(0)
        found = pattern.find_beeps(np.concatenate(self._parts), self._rate_hz)
        part = np.searchsorted(self._first, found, side="right") - 1
        return np.array(self._t_s)[part] + (found - np.array(self._first)[part]) / self._rate_hz
