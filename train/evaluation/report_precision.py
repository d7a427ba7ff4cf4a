"""`avdrift-train trust SHARDS…`: the precision of reports, on clips joined to one long recording with steps.

Conventions: the clips of all speakers are repeated in random order, each time sliced with a new uniform shift, so the
offset steps at every join. Joining and slicing move the embeddings' ticks; the encoders see the same frames and the
same audio. One report per second is made by the device's own window logic. Its truth is that of its newest lips,
without any grace period after a step. The truth of a clip is its own offset over its whole length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from device.analysis.offset_tracker import judge, least_confidence
from device.bundles.calibration import Calibration
from device.errors import InputMissingError
from device.features.contract import AUDIO_TICKS_PER_LIP_TICK, FRONT_END
from device.records import State
from device.sync.curve import TICK_MS
from device.sync.evidence_stream import LipEvidence
from device.sync.offset_hmm import OffsetFilter
from train.evaluation.negatives import mismatched, still_embeddings
from train.evaluation.tracks import TOLERANCE_MS, Track

SEARCH_TICKS = 100

_MAX_SHIFT_TICKS = 60
_PIECE_TICKS = 500  # the cosines of all lips with all audio would not fit into memory
REMEMBERED_TICKS = 30 * 1000 // FRONT_END.lip_tick_ms  # the daemon's default
_TICKS_PER_S = 1000 // FRONT_END.lip_tick_ms
_STRETCH_TICKS = 5 * _TICKS_PER_S  # of frontal speech, after which an offset is expected


@dataclass(frozen=True, slots=True)
class Stream:
    """Evidence of a joined recording: rows [lip ticks, candidates], and the true offset of each (NaN: none)."""

    rows: npt.NDArray[np.float32]
    face: npt.NDArray[np.bool_]
    speech: npt.NDArray[np.bool_]
    truth_ms: npt.NDArray[np.float64]
    begins: tuple[int, ...]  # first ticks of the stretches


@dataclass(frozen=True, slots=True)
class Trust:
    """The figures of a run of reports; shares are None without a denominator."""

    reports: int
    measuring: int
    right_of_measuring: float | None
    right_of_settled: float | None  # of those a second and more after the last step
    stretches: int  # of at least 5 s, nearly all of it speech
    stretches_measured: float | None
    median_first_s: float | None  # from a stretch's start to its first right offset, if there was one

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def report(
    clips: Sequence[tuple[Track, float]], calibration: Calibration, *, window_s: float, rounds: int, seed: int
) -> dict[str, Any]:
    """All figures for clips and their true offsets: with matching audio, with foreign audio, and alternating.

    Raises InputMissingError if there are no clips of two speakers.
    """
    if len({t.clip.speaker for t, _ in clips}) < 2:
        raise InputMissingError(
            "no clips of two speakers whose offset is sure", where="trust", remedy="Give more or longer clips"
        )
    random = np.random.default_rng(seed)
    tracks, truths_ms = [t for t, _ in clips], [truth_ms for _, truth_ms in clips]
    strangers = [t for _ in range(rounds) for t in mismatched(tracks, random) if len(t.lips)]
    still = list(still_embeddings(tracks, random))
    unheard = [float("nan")] * len(strangers)
    streams = {
        "speakers": joined(tracks, truths_ms, rounds, random),
        "strangers_voices": joined(strangers, unheard, 1, random),
        "still_mouths": joined(still, [float("nan")] * len(still), rounds, random),
        "by_turns": joined([*tracks * rounds, *strangers[::4]], [*truths_ms * rounds, *unheard[::4]], 1, random),
    }
    return {name: trust(stream, window_s, calibration).to_dict() for name, stream in streams.items()}


def joined(tracks: Sequence[Track], truths_ms: Sequence[float], rounds: int, random: np.random.Generator) -> Stream:
    """All tracks one after the other, `rounds` times, each with a new shift."""
    parts: list[tuple[Track, float, int]] = []
    for _ in range(rounds):
        for index in random.permutation(len(tracks)):
            shift = int(random.integers(-_MAX_SHIFT_TICKS, _MAX_SHIFT_TICKS + 1))
            parts.append((tracks[int(index)], truths_ms[int(index)], shift))
    count = sum(len(t.lips) for t, _, _ in parts)
    size = parts[0][0].lips.shape[1]
    lips, audio = np.zeros((count, size), np.float32), np.zeros((count * AUDIO_TICKS_PER_LIP_TICK, size), np.float32)
    face, speech, truth = np.zeros(count, np.bool_), np.zeros(count, np.bool_), np.zeros(count)
    heard = np.zeros(len(audio), np.bool_)
    begins, begin = [], 0
    for t, truth_ms, shift in parts:
        part = slice(begin, begin + len(t.lips))
        lips[part], face[part], speech[part] = t.lips, t.lips_valid, t.speech()
        truth[part] = truth_ms + shift * TICK_MS
        ticks = np.arange(part.start * AUDIO_TICKS_PER_LIP_TICK, part.stop * AUDIO_TICKS_PER_LIP_TICK)
        of_clip = ticks + (t.lips_first - begin) * AUDIO_TICKS_PER_LIP_TICK - t.audio_first + shift
        inside = (of_clip >= 0) & (of_clip < len(t.audio))
        audio[ticks[inside]], heard[ticks[inside]] = t.audio[of_clip[inside]], True
        begins.append(begin)
        begin = part.stop
    whole = replace(parts[0][0], lips=lips, lips_valid=face, lips_first=0, audio=audio, audio_first=0, heard=heard)
    pieces = [slice(start, start + _PIECE_TICKS) for start in range(0, count, _PIECE_TICKS)]
    rows = np.concatenate([whole.evidence(SEARCH_TICKS, part=piece) for piece in pieces])
    return Stream(rows, face, speech, truth, tuple(begins))


def judged(stream: Stream, window_s: float, calibration: Calibration) -> Iterator[tuple[int, float | None]]:
    """(newest tick, offset in ms or None) of one report per second."""
    length, memory = round(window_s * _TICKS_PER_S), OffsetFilter(SEARCH_TICKS, calibration.temperature)
    for tick, (row, face) in enumerate(zip(stream.rows, stream.face, strict=True)):
        memory.push(LipEvidence(tick, row, bool(face)))
        if (tick + 1) % _TICKS_PER_S:
            continue
        part = slice(max(tick + 1 - length, 0), tick + 1)
        posterior = memory.posterior()
        state, _, best = judge(
            posterior, float(stream.face[part].mean()), float(stream.speech[part].mean()), calibration,
            remembered=bool((stream.face & stream.speech)[max(tick - REMEMBERED_TICKS, 0) : tick + 1].any()),
            least_confidence=least_confidence(posterior),
        )  # fmt: skip
        yield tick, best.offset_ms if best and state is State.MEASURING else None


def trust(stream: Stream, window_s: float, calibration: Calibration) -> Trust:
    """The figures of one joined recording."""
    reports = list(judged(stream, window_s, calibration))
    begins = np.array(stream.begins)
    numbered = [(tick, offset_ms) for tick, offset_ms in reports if offset_ms is not None]
    right = np.array([abs(offset_ms - stream.truth_ms[tick]) <= TOLERANCE_MS for tick, offset_ms in numbered], np.bool_)
    age = np.array([tick - begins[begins <= tick][-1] for tick, _ in numbered])
    settled = right[age >= _TICKS_PER_S] if len(numbered) else right
    first = list(_first_right_s(stream, [tick for (tick, _), ok in zip(numbered, right, strict=True) if ok]))
    return Trust(
        len(reports), len(numbered), _mean(right), _mean(settled), len(first),
        _mean(np.isfinite(first)), float(np.median(came)) if (came := [s for s in first if np.isfinite(s)]) else None,
    )  # fmt: skip


def _first_right_s(stream: Stream, right_ticks: Sequence[int]) -> Iterator[float]:
    ends = [*stream.begins[1:], len(stream.rows)]
    for begin, end in zip(stream.begins, ends, strict=True):
        part = slice(begin, begin + _STRETCH_TICKS)
        if end - begin < _STRETCH_TICKS or stream.speech[part].mean() < 0.8 or stream.face[part].mean() < 0.95:
            continue
        found = [tick for tick in right_ticks if begin <= tick < begin + _STRETCH_TICKS + _TICKS_PER_S]
        yield (found[0] + 1 - begin) / _TICKS_PER_S if found else float("inf")


def _mean(flags: npt.NDArray[np.bool_]) -> float | None:
    return float(np.mean(flags)) if len(flags) else None
