"""`avdrift measure`: reads a recording at full speed with bounded memory; the whole, its timeline and its windows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import hypot
from pathlib import Path
from typing import Any

import numpy as np

from device.analysis.analyzer import Analyzer
from device.analysis.audio_selection import SelectedAudio, select_audio
from device.analysis.offset_tracker import (
    MEASURING_CONFIDENCE,
    MIN_FACE_RATIO,
    MIN_SPEECH_RATIO,
    SURELY_MOVING,
    judge,
)
from device.bundles.bundle import Bundle
from device.bundles.calibration import Calibration
from device.capture.container import AS_PLAYED
from device.capture.file import FileSource, in_bursts
from device.config.settings import DEFAULT_SEARCH_MS
from device.errors import UsageError
from device.features.contract import FRONT_END, LIP_TICK_NS
from device.records import NS_PER_MS, NS_PER_S, Chunk, Frame, Reason, State
from device.standards import DEFAULT_PROFILE, PROFILES, Profile, VerdictRange, verdict_range, worst
from device.sync.curve import TICK_MS, TOLERANCE_TICKS
from device.sync.evidence_stream import LipEvidence
from device.sync.offset_hmm import OffsetFilter, Posterior
from device.sync.timeline import Bins, Piece, Timeline, timeline

_LIP_REACH_NS = FRONT_END.lip_window_ticks // 2 * LIP_TICK_NS
_ENOUGH_MS = 600
_SHORT_S = 2.0  # 86 % of windows of this length have a number
_TICKS_PER_S = 1000 // FRONT_END.lip_tick_ms
_SPEECH_STEP_NS = 10 * NS_PER_S
MAX_WINDOW_S = 100  # the analyzer keeps two minutes of speech


class _Stretch:
    """The evidence of a stretch of time; `to_ns` is the end of the frames that it has seen."""

    def __init__(self, analyzer: Analyzer, from_ns: int) -> None:
        self._filter = OffsetFilter(analyzer.reach_ticks, analyzer.calibration.temperature)
        self.from_ns, self.to_ns, self.ticks, self.faces = from_ns, from_ns, 0, 0

    def add(self, row: LipEvidence) -> None:
        self._filter.push(row)
        self.to_ns = row.t_ns + _LIP_REACH_NS + LIP_TICK_NS
        self.ticks += 1
        self.faces += row.face

    def posterior(self) -> Posterior | None:
        """The posterior at its end."""
        self._filter.flush()
        return self._filter.posterior()


@dataclass(frozen=True, slots=True)
class Measured:
    """The result for a recording, and details beyond the JSON object."""

    result: dict[str, Any]  # one JSON object: docs/reports.md says what is in it
    timeline: Timeline  # from the first frame on
    origin_s: float  # time of the first frame on the file's own clock
    damaged: str | None
    why: str | None = None  # why another track or a single channel was measured, not what a player would take
    limits: Profile = PROFILES[DEFAULT_PROFILE]


class _Windows:
    """Consecutive windows of equal length from the first frame on; a shorter rest at the end is left out."""

    def __init__(self, window_s: float, origin_ns: int, analyzer: Analyzer) -> None:
        self._length_ns, self._origin_ns, self._analyzer = round(window_s * NS_PER_S), origin_ns, analyzer
        self._current: _Stretch | None = None
        self.found: list[dict[str, Any]] = []

    def add(self, row: LipEvidence) -> None:
        # A lip window counts if all of it lies inside.
        first_ns, last_ns = row.t_ns - _LIP_REACH_NS, row.t_ns + _LIP_REACH_NS
        begins_ns = first_ns - (first_ns - self._origin_ns) % self._length_ns
        if begins_ns < self._origin_ns or last_ns > begins_ns + self._length_ns:
            return
        if self._current is None or self._current.from_ns != begins_ns:
            self.close()
            self._current = _Stretch(self._analyzer, begins_ns)
        self._current.add(row)

    def close(self) -> None:
        current, self._current = self._current, None
        if current is None or current.to_ns < current.from_ns + self._length_ns:
            return
        span_ns = current.from_ns, current.from_ns + self._length_ns
        state, reason, best = judge(
            current.posterior(), current.faces / current.ticks, self._analyzer.speech_ratio(*span_ns),
            self._analyzer.calibration, low_frame_rate=self._analyzer.low_frame_rate(*span_ns),
        )  # fmt: skip
        self.found.append(
            {
                "t_s": round((current.from_ns - self._origin_ns) / NS_PER_S, 3),
                "offset_ms": _rounded(best.offset_ms) if best else None,
                "confidence": round(best.confidence, 4) if best else None,
                "state": state,
                "offset_std_ms": _rounded(best.offset_std_ms) if best else None,
                "reason": reason,
            }
        )


class _Whole(_Stretch):
    """The whole recording; also finds how fast its offset drifts, where that is clear."""

    def __init__(self, analyzer: Analyzer, from_ns: int) -> None:
        super().__init__(analyzer, from_ns)
        self._slopes: list[tuple[float, float]] = []  # slope in ppm and its weight

    def add(self, row: LipEvidence) -> None:
        super().add(row)
        if self.ticks % _TICKS_PER_S == 0 and (found := self._filter.posterior()) and found.moving >= SURELY_MOVING:
            self._slopes.append((found.slope_ppm, max(found.slope_std_ppm, 1.0) ** -2))

    @property
    def slope_ppm(self) -> float:
        """0 where the drift is too slow to show within seconds."""
        if not self._slopes:
            return 0.0
        slopes, weights = np.array(self._slopes).T
        return float(slopes @ weights / weights.sum())


class _Speech:
    """Accumulates the duration of speech before the analyzer forgets it."""

    def __init__(self, analyzer: Analyzer) -> None:
        self._analyzer = analyzer
        self._until_ns: int | None = None
        self.total_ns = 0

    def add(self, to_ns: int, *, last: bool = False) -> None:
        self._until_ns = to_ns if self._until_ns is None else self._until_ns
        if last or to_ns - self._until_ns >= _SPEECH_STEP_NS:
            self.total_ns += self._analyzer.speech_ns(self._until_ns, to_ns)
            self._until_ns = to_ns


def measure(
    path: Path, bundle: Bundle, face_model: Path, *, window_s: float | None = None,
    search_ms: float = DEFAULT_SEARCH_MS, profile: str = DEFAULT_PROFILE,
) -> dict[str, Any]:  # fmt: skip
    """Measure a recording and return the JSON object. Raises UsageError, CaptureError."""
    return measure_timeline(path, bundle, face_model, window_s=window_s, search_ms=search_ms, profile=profile).result


def measure_timeline(
    path: Path, bundle: Bundle, face_model: Path, *, window_s: float | None = None,
    search_ms: float = DEFAULT_SEARCH_MS, profile: str = DEFAULT_PROFILE, limits: Profile | None = None,
    audio: SelectedAudio | None = None, on_read: Callable[[float], None] = lambda read_s: None,
) -> Measured:  # fmt: skip
    """Measure a recording and return the result with its timeline. Raises UsageError, CaptureError.

    limits: those of the profile, where it is not a standard one. audio: which audio to read. on_read: called with the
    number of seconds read so far.
    """
    if window_s is not None and not 0.2 <= window_s <= MAX_WINDOW_S:
        raise UsageError(f"{window_s:g} s is not possible", where="--window", remedy=f"Give 0.2 to {MAX_WINDOW_S} s")
    analyzer = Analyzer(bundle, face_model, search_ms=search_ms)
    size = 2 * analyzer.reach_ticks + 1
    speech = _Speech(analyzer)
    whole: _Whole | None = None
    windows: _Windows | None = None
    bins = Bins(size, 0)
    begin_ns = end_ns = None
    audio = audio or select_audio(path, AS_PLAYED)
    with FileSource(path, which=audio.which) as source:
        for item in in_bursts(source):
            if whole is None and isinstance(item, Frame):
                whole = _Whole(analyzer, item.t_ns)
                bins = Bins(size, item.t_ns)
                windows = _Windows(window_s, item.t_ns, analyzer) if window_s else None
            begin_ns = item.t_ns if begin_ns is None else begin_ns
            end_ns = _end_ns(item) if end_ns is None else max(end_ns, _end_ns(item))
            _sum_up(analyzer.push(item), whole, bins, windows)
            if isinstance(item, Chunk):
                speech.add(item.t_ns)
            else:
                on_read((item.t_ns - begin_ns) / NS_PER_S)
        _sum_up(analyzer.finish(), whole, bins, windows)
        damaged, joints_s, sound_error_ms = source.damaged, source.joints_s, source.sound_error_ms
    assert whole is not None and begin_ns is not None and end_ns is not None  # a source without any frame raises
    speech.add(end_ns, last=True)
    if windows:
        windows.close()
    track = timeline(
        bins.curves(), bins.length_s, analyzer.calibration, MEASURING_CONFIDENCE, slope_ppm=whole.slope_ppm
    )
    answer = _answer(whole, track, speech.total_ns, analyzer.calibration)
    if answer.state is not State.MEASURING and _too_short(whole, end_ns - begin_ns, speech.total_ns):
        answer = replace(answer, state=State.UNCERTAIN, reason=Reason.SHORT)
    if answer.state is State.NO_FACE and analyzer.frame_pace.mostly_slow:  # there may well be a face
        answer = _Answer(State.UNCERTAIN, Reason.LOW_FRAME_RATE)
    limits = limits or PROFILES[profile]
    zero_std_ms = analyzer.calibration.zero_uncertainty_ms or 0.0
    judged = _worst(track, limits, hypot(sound_error_ms, zero_std_ms))
    result: dict[str, Any] = {
        "file": str(path),
        "state": answer.state,
        "offset_ms": _rounded(answer.offset_ms),
        "offset_std_ms": None if answer.offset_std_ms is None else _std_ms(answer.offset_std_ms, sound_error_ms),
        "confidence": None if answer.confidence is None else round(answer.confidence, 4),
        "duration_s": round((end_ns - begin_ns) / NS_PER_S, 3),
        "speech_s": round(speech.total_ns / NS_PER_S, 2),
        "drift_ppm": _rounded(track.drift_ppm),
        "drift_std_ppm": _rounded(track.drift_std_ppm),
        "drift_class": track.drift_class,
        "steps": [{"t_s": round(step.t_s, 1), "step_ms": _rounded(step.step_ms)} for step in track.steps],
        "pieces": [_piece_dict(piece, track, sound_error_ms) for piece in track.pieces],
        "verdict": judged.verdict,
        "profile": profile,
        "reason": answer.reason,
        "audio_track": audio.track,
        "audio_channel": audio.which.channel,
        "other_audio_tracks": list(audio.others),
        "joints_s": [round(joint_s - whole.from_ns / NS_PER_S, 1) for joint_s in joints_s],
        "damaged": damaged,
        "verdict_range": judged.ends,
        "zero_std_ms": zero_std_ms,
    }
    if windows:
        result["windows"] = [w | {"verdict": _of_window(w, limits, zero_std_ms).verdict} for w in windows.found]
    return Measured(result, track, whole.from_ns / NS_PER_S, damaged, audio.why, limits)


def _std_ms(std_ms: float, sound_error_ms: float) -> float:
    """The error bar, including the uncertainty of the audio's time."""
    return round(hypot(std_ms, sound_error_ms), 1)


def _piece_dict(piece: Piece, track: Timeline, sound_error_ms: float) -> dict[str, Any]:
    return {
        "from_s": round(piece.from_s, 1),
        "to_s": round(piece.to_s, 1),
        "offset_ms": _rounded(piece.offset_ms) if piece.sure else None,
        "offset_std_ms": _std_ms(piece.offset_std_ms, sound_error_ms) if piece.sure else None,
        "from_offset_ms": _rounded(track.offset_ms(piece, piece.from_s)) if piece.sure else None,
        "to_offset_ms": _rounded(track.offset_ms(piece, piece.to_s)) if piece.sure else None,
        "confidence": round(piece.confidence, 4),
        "state": State.MEASURING if piece.sure else State.UNCERTAIN,
    }


def _worst(track: Timeline, limits: Profile, error_ms: float) -> VerdictRange:
    """Of the sure pieces, at both ends; `error_ms` is the part of the error that no length of a piece reduces."""
    return worst(
        verdict_range(track.offset_ms(piece, t_s), hypot(piece.offset_std_ms, error_ms), limits)
        for piece in track.pieces
        if piece.sure
        for t_s in (piece.from_s, piece.to_s)
    )


def _of_window(window: dict[str, Any], limits: Profile, zero_std_ms: float) -> VerdictRange:
    offset_ms = window["offset_ms"] if window["state"] is State.MEASURING else None
    return verdict_range(offset_ms, hypot(window["offset_std_ms"] or 0.0, zero_std_ms), limits)


def _sum_up(rows: Iterable[LipEvidence], whole: _Whole | None, bins: Bins, windows: _Windows | None) -> None:
    for row in rows:
        assert whole is not None  # lips come from frames, so there was one
        whole.add(row)
        bins.add(row)
        if windows:
            windows.add(row)


@dataclass(frozen=True, slots=True)
class _Answer:
    """The single number for a whole recording, where there is one."""

    state: State
    reason: Reason | None
    offset_ms: float | None = None
    offset_std_ms: float | None = None
    confidence: float | None = None


def _answer(whole: _Whole, track: Timeline, speech_ns: int, calibration: Calibration) -> _Answer:
    """The mean of the sure pieces, if it is right to within 40 ms at all their ends."""
    # A recording may contain long pauses, so the amount of face and speech counts, not their share.
    if whole.faces * FRONT_END.lip_tick_ms < _ENOUGH_MS:
        return _Answer(State.NO_FACE, Reason.NO_FACE)
    if speech_ns < _ENOUGH_MS * NS_PER_MS:
        return _Answer(State.NO_SPEECH, Reason.NO_SPEECH)
    sure = [piece for piece in track.pieces if piece.sure]
    if not sure:
        _, reason, best = judge(whole.posterior(), 1.0, 1.0, calibration)
        if any(piece.broad for piece in track.pieces):
            return _Answer(State.UNCERTAIN, Reason.AMBIGUOUS)
        confidence = min(best.confidence, MEASURING_CONFIDENCE) if best else None  # no piece covers the end
        return _Answer(State.UNCERTAIN, reason or Reason.AMBIGUOUS, confidence=confidence)
    lengths_s = np.array([piece.to_s - piece.from_s for piece in sure])
    offset_ms = float(np.array([piece.offset_ms for piece in sure]) @ lengths_s / lengths_s.sum())
    ends_ms = [track.offset_ms(piece, t_s) for piece in sure for t_s in (piece.from_s, piece.to_s)]
    if max(abs(end_ms - offset_ms) for end_ms in ends_ms) > TOLERANCE_TICKS * TICK_MS:
        return _Answer(State.UNCERTAIN, Reason.OFFSET_VARIES)
    longest = sure[int(lengths_s.argmax())]
    return _Answer(State.MEASURING, None, offset_ms, longest.offset_std_ms, longest.confidence)


def _too_short(whole: _Whole, length_ns: int, speech_ns: int) -> bool:
    """Whether only more of the same is missing."""
    spoken = speech_ns >= MIN_SPEECH_RATIO * length_ns
    return length_ns < _SHORT_S * NS_PER_S and whole.faces >= MIN_FACE_RATIO * whole.ticks and spoken


def _end_ns(item: Frame | Chunk) -> int:
    return item.t_ns + (len(item.samples) * NS_PER_S // item.rate_hz if isinstance(item, Chunk) else LIP_TICK_NS)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
