"""`avdrift measure`: reads a recording at full speed with bounded memory; the whole, its timeline and its windows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import hypot
from pathlib import Path
from typing import Any

import numpy as np

from device.analysis.accumulators import SpeechTime, WholeRecording, Windows, rounded
from device.analysis.analyzer import Analyzer
from device.analysis.audio_selection import SelectedTracks
from device.analysis.offset_tracker import (
    MEASURING_CONFIDENCE,
    MIN_FACE_RATIO,
    MIN_SPEECH_RATIO,
    judge,
)
from device.analysis.video_selection import select_tracks
from device.bundles.bundle import Bundle
from device.bundles.calibration import Calibration
from device.capture.container import AS_PLAYED
from device.capture.file import LONG_CHUNK_MS, FileSource, in_bursts
from device.config.settings import DEFAULT_SEARCH_MS
from device.errors import UsageError
from device.features.contract import FRONT_END, LIP_TICK_NS
from device.records import NS_PER_MS, NS_PER_S, Chunk, Frame, Reason, State
from device.standards import DEFAULT_PROFILE, PROFILES, Profile, VerdictRange, verdict_range, worst
from device.sync.curve import TICK_MS, TOLERANCE_TICKS
from device.sync.evidence_stream import LipEvidence
from device.sync.timeline import Bins, Piece, Timeline, timeline

_MIN_MS = 600
_SHORT_S = 2.0  # 86 % of windows of this length have a number
MAX_WINDOW_S = 100  # the analyzer keeps two minutes of speech


@dataclass(frozen=True, slots=True)
class Measured:
    """The result for a recording, and details beyond the JSON object."""

    result: dict[str, Any]  # one JSON object: docs/reports.md says what is in it
    timeline: Timeline  # from the first frame on
    origin_s: float  # time of the first frame on the file's own clock
    damaged: str | None
    why: str | None = None  # why another track or a single channel was measured, not what a player would take
    limits: Profile = PROFILES[DEFAULT_PROFILE]
    video_why: str | None = None


def measure(
    path: Path, bundle: Bundle, face_model: Path, *, window_s: float | None = None,
    search_ms: float = DEFAULT_SEARCH_MS, profile: str = DEFAULT_PROFILE,
) -> dict[str, Any]:  # fmt: skip
    """Measure a recording and return the JSON object. Raises UsageError, CaptureError."""
    return measure_timeline(path, bundle, face_model, window_s=window_s, search_ms=search_ms, profile=profile).result


def measure_timeline(
    path: Path, bundle: Bundle, face_model: Path, *, window_s: float | None = None,
    search_ms: float = DEFAULT_SEARCH_MS, profile: str = DEFAULT_PROFILE, limits: Profile | None = None,
    audio: SelectedTracks | None = None, on_read: Callable[[float], None] = lambda read_s: None,
) -> Measured:  # fmt: skip
    """Measure a recording and return the result with its timeline. Raises UsageError, CaptureError.

    limits: those of the profile, where it is not a standard one. audio: which tracks to read. on_read: called with the
    number of seconds read so far.
    """
    if window_s is not None and not 0.2 <= window_s <= MAX_WINDOW_S:
        raise UsageError(f"{window_s:g} s is not possible", where="--window", remedy=f"Give 0.2 to {MAX_WINDOW_S} s")
    analyzer = Analyzer(bundle, face_model, search_ms=search_ms)
    size = 2 * analyzer.reach_ticks + 1
    speech = SpeechTime(analyzer)
    whole: WholeRecording | None = None
    windows: Windows | None = None
    bins = Bins(size, 0)
    begin_ns = end_ns = None
    audio = audio or select_tracks(path, AS_PLAYED, face_model)
    with FileSource(path, which=audio.which, chunk_ms=LONG_CHUNK_MS) as source:
        for item in in_bursts(source):
            if whole is None and isinstance(item, Frame):
                whole = WholeRecording(analyzer, item.t_ns)
                bins = Bins(size, item.t_ns)
                windows = Windows(window_s, item.t_ns, analyzer) if window_s else None
            begin_ns = item.t_ns if begin_ns is None else begin_ns
            end_ns = _end_ns(item) if end_ns is None else max(end_ns, _end_ns(item))
            _add(analyzer.push(item), whole, bins, windows)
            if isinstance(item, Chunk):
                speech.add(item.t_ns)
            else:
                on_read((item.t_ns - begin_ns) / NS_PER_S)
        _add(analyzer.finish(), whole, bins, windows)
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
    judged = _worst_verdict(track, limits, hypot(sound_error_ms, zero_std_ms))
    result: dict[str, Any] = {
        "file": str(path),
        "state": answer.state,
        "offset_ms": rounded(answer.offset_ms),
        "offset_std_ms": None if answer.offset_std_ms is None else _std_ms(answer.offset_std_ms, sound_error_ms),
        "confidence": None if answer.confidence is None else round(answer.confidence, 4),
        "duration_s": round((end_ns - begin_ns) / NS_PER_S, 3),
        "speech_s": round(speech.total_ns / NS_PER_S, 2),
        "drift_ppm": rounded(track.drift_ppm),
        "drift_std_ppm": rounded(track.drift_std_ppm),
        "drift_class": track.drift_class,
        "steps": [{"t_s": round(step.t_s, 1), "step_ms": rounded(step.step_ms)} for step in track.steps],
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
        "video_track": audio.video,
        "other_video_tracks": list(audio.other_videos),
    }
    if windows:
        result["windows"] = [w | {"verdict": _window_verdict(w, limits, zero_std_ms).verdict} for w in windows.found]
    return Measured(result, track, whole.from_ns / NS_PER_S, damaged, audio.why, limits, audio.video_why)


def _std_ms(std_ms: float, sound_error_ms: float) -> float:
    """The error bar, including the uncertainty of the audio's time."""
    return round(hypot(std_ms, sound_error_ms), 1)


def _piece_dict(piece: Piece, track: Timeline, sound_error_ms: float) -> dict[str, Any]:
    return {
        "from_s": round(piece.from_s, 1),
        "to_s": round(piece.to_s, 1),
        "offset_ms": rounded(piece.offset_ms) if piece.sure else None,
        "offset_std_ms": _std_ms(piece.offset_std_ms, sound_error_ms) if piece.sure else None,
        "from_offset_ms": rounded(track.offset_ms(piece, piece.from_s)) if piece.sure else None,
        "to_offset_ms": rounded(track.offset_ms(piece, piece.to_s)) if piece.sure else None,
        "confidence": round(piece.confidence, 4),
        "state": State.MEASURING if piece.sure else State.UNCERTAIN,
    }


def _worst_verdict(track: Timeline, limits: Profile, error_ms: float) -> VerdictRange:
    """Of the sure pieces, at both ends; `error_ms` is the part of the error that no length of a piece reduces."""
    return worst(
        verdict_range(track.offset_ms(piece, t_s), hypot(piece.offset_std_ms, error_ms), limits)
        for piece in track.pieces
        if piece.sure
        for t_s in (piece.from_s, piece.to_s)
    )


def _window_verdict(window: dict[str, Any], limits: Profile, zero_std_ms: float) -> VerdictRange:
    offset_ms = window["offset_ms"] if window["state"] is State.MEASURING else None
    return verdict_range(offset_ms, hypot(window["offset_std_ms"] or 0.0, zero_std_ms), limits)


def _add(rows: Iterable[LipEvidence], whole: WholeRecording | None, bins: Bins, windows: Windows | None) -> None:
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


def _answer(whole: WholeRecording, track: Timeline, speech_ns: int, calibration: Calibration) -> _Answer:
    """The mean of the sure pieces, if it is right to within 40 ms at all their ends."""
    # A recording may contain long pauses, so the amount of face and speech counts, not their share.
    if whole.faces * FRONT_END.lip_tick_ms < _MIN_MS:
        return _Answer(State.NO_FACE, Reason.NO_FACE)
    if speech_ns < _MIN_MS * NS_PER_MS:
        return _Answer(State.NO_SPEECH, Reason.NO_SPEECH)
    sure = [piece for piece in track.pieces if piece.sure]
    if not sure:
        _, reason, best = judge(whole.posterior(), 1.0, 1.0, calibration)
        if whole.echo or any(piece.broad for piece in track.pieces):
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


def _too_short(whole: WholeRecording, length_ns: int, speech_ns: int) -> bool:
    """Whether only more of the same is missing."""
    spoken = speech_ns >= MIN_SPEECH_RATIO * length_ns
    return length_ns < _SHORT_S * NS_PER_S and whole.faces >= MIN_FACE_RATIO * whole.ticks and spoken


def _end_ns(item: Frame | Chunk) -> int:
    return item.t_ns + (len(item.samples) * NS_PER_S // item.rate_hz if isinstance(item, Chunk) else LIP_TICK_NS)
