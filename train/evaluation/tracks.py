"""Offsets of prepared clips by a two-tower model: evidence rows, each clip's own offset, right or wrong per window."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from device.bundles.calibration import NEGATIVE_REACH_TICKS, Calibration
from device.features.contract import AUDIO_TICKS_PER_LIP_TICK, FRONT_END
from device.sync.curve import TICK_MS, estimate, evidence
from device.sync.evidence_stream import Score
from device.sync.offset_hmm import posterior_of
from train.data.shards import AUDIO_REACH, LIP_REACH, Clip, front_end
from train.models.encoders import Flags, Floats, Towers

OWN_SEARCH_TICKS = 100


@dataclass(frozen=True, slots=True)
class Track:
    """Embeddings of a whole clip at the ticks of their windows' middles; `heard`: which audio counts, None: all."""

    clip: Clip
    lips: Floats
    lips_valid: Flags
    lips_first: int
    audio: Floats
    audio_first: int
    logit_scale: float
    score: Score | None = None
    negative_reach_ticks: int = NEGATIVE_REACH_TICKS
    heard: Flags | None = None

    @property
    def reach_ticks(self) -> int:
        """How far before and after a stretch of lips other lips affect its evidence."""
        return 0 if self.score else self.negative_reach_ticks

    def evidence(
        self, search_ticks: int, *, audio_from: int = 0, sound_of: Track | None = None, part: slice = slice(None)
    ) -> Floats:
        """Evidence rows of all lip windows, or a part of them; with `sound_of`, against another clip's audio."""
        other = sound_of or self
        reach = self.reach_ticks
        score = self.score or partial(evidence, logit_scale=self.logit_scale, negative_reach_ticks=reach)
        start, stop, _ = part.indices(len(self.lips))
        around = slice(max(start - reach, 0), min(stop + reach, len(self.lips)))
        # Only the audio that the candidates need, because a clip is longer than a window.
        audio_first = other.audio_first + audio_from
        first_needed = (self.lips_first + start) * AUDIO_TICKS_PER_LIP_TICK - search_ticks - audio_first
        end_needed = (self.lips_first + stop) * AUDIO_TICKS_PER_LIP_TICK + search_ticks - audio_first
        near = slice(max(first_needed, 0), max(end_needed, 0))
        heard = np.ones(len(other.audio), np.bool_) if other.heard is None else other.heard
        rows = score(
            self.lips[around], self.lips_valid[around], self.lips_first + around.start,
            other.audio[near], heard[near], audio_first + near.start, search_ticks,
        )  # fmt: skip
        return rows[start - around.start : stop - around.start]

    def speech(self) -> Flags:
        """Whether there is speech at each lip window."""
        ticks = (self.lips_first + np.arange(len(self.lips))) * AUDIO_TICKS_PER_LIP_TICK
        return self.clip.is_speech(ticks - round(self.clip.shift_ms / TICK_MS))


def track(clip: Clip, towers: Towers) -> Track:
    """Run both encoders over a clip."""
    crops, lips_first, valid, rows, audio_first = front_end(clip)
    seen = np.asarray(np.lib.stride_tricks.sliding_window_view(valid, FRONT_END.lip_window_ticks).all(1))
    return Track(
        clip, towers.lips(crops), seen, lips_first + LIP_REACH, towers.audio(rows), audio_first + AUDIO_REACH,
        towers.logit_scale, towers.score, towers.negative_reach_ticks,
    )  # fmt: skip


def own_offset(clip_track: Track, calibration: Calibration) -> tuple[float, float]:
    """A clip's own offset in ms over its whole length, and its confidence."""
    rows = clip_track.evidence(OWN_SEARCH_TICKS)
    found = estimate(rows[clip_track.speech()].sum(0), calibration) if len(rows) else None
    return (found.offset_ms, found.confidence) if found else (0.0, 0.0)


def sure_tracks(tracks: Iterable[Track], calibration: Calibration, least: float) -> list[tuple[Track, float]]:
    """The tracks whose own offset has at least this confidence, each with it in ms, as the truth of an evaluation."""
    found = ((t, *own_offset(t, calibration)) for t in tracks)
    return [(t, offset_ms) for t, offset_ms, confidence in found if confidence >= least]


@dataclass(frozen=True, slots=True)
class Window:
    """One measured window of a clip with a known truth."""

    clip: Clip
    error_ms: float
    confidence: float
    speech_ratio: float
    std_ms: float
    true_ms: float
    at_edge: bool


def window_parts(clip_track: Track, window_s: float, *, apart: bool = False) -> Iterator[slice]:
    """Consecutive stretches of lip windows that each see `window_s` of video (0.2 s at least).

    apart: no two of them see the same frame; otherwise, none of them has a lip window of another.
    """
    shared = FRONT_END.lip_window_ticks - 1
    length = max(round(window_s * 1000 / FRONT_END.lip_tick_ms) - shared, 1)
    for start in range(0, len(clip_track.lips) - length + 1, length + shared * apart):
        yield slice(start, start + length)


def _cut_out(clip_track: Track, part: slice) -> Track:
    """A stretch whose evidence knows no lips around it. Its audio reaches as far as the candidates do."""
    lips_first = clip_track.lips_first + part.start
    return replace(
        clip_track, lips=clip_track.lips[part], lips_valid=clip_track.lips_valid[part], lips_first=lips_first
    )


def window_curve(clip_track: Track, part: slice, search_ticks: int, shift_ticks: int = 0) -> Floats:
    """The summed evidence of a stretch of lip windows, with the audio sliced to be `shift_ticks` earlier."""
    return clip_track.evidence(search_ticks, audio_from=-shift_ticks, part=part).sum(0)


def windows(
    clip_track: Track, truth_ms: float, *, window_s: float, search_ms: float, calibration: Calibration,
    random: np.random.Generator, max_shift_ms: float, cut_out: bool = False,
) -> Iterator[Window]:  # fmt: skip
    """Measure consecutive windows of `window_s` (5 lip ticks at least), each sliced with its own random shift.

    Slicing the audio earlier by u is a shift of its ticks, so the truth becomes exactly truth_ms + u.
    cut_out: no two windows share a frame, and the lips around a window do not compete with its own.
    """
    speech, search_ticks = clip_track.speech(), round(search_ms / TICK_MS)
    for part in window_parts(clip_track, window_s, apart=cut_out):
        shift_ticks = round(float(random.uniform(-max_shift_ms, max_shift_ms)) / TICK_MS)
        seen, inside = (_cut_out(clip_track, part), slice(None)) if cut_out else (clip_track, part)
        posterior = posterior_of(seen.evidence(search_ticks, audio_from=-shift_ticks, part=inside), calibration)
        found = posterior.estimate(calibration) if posterior else None
        true_ms = truth_ms + shift_ticks * TICK_MS
        yield Window(
            clip_track.clip,
            found.offset_ms - true_ms if found else float("inf"),
            found.confidence if found else 0.0,
            float(speech[part].mean()),
            found.offset_std_ms if found else 0.0,
            true_ms,
            found.at_edge if found else True,
        )


SPEECH_RATIO = 0.5
TOLERANCE_MS = 40.0  # one frame: the tolerance of a right answer


def accuracy(measured: list[Window], tolerance_ms: float = TOLERANCE_MS) -> float:
    """Share of the windows with speech whose offset is within one frame of the truth."""
    with_speech = [w for w in measured if w.speech_ratio >= SPEECH_RATIO]
    return float(np.mean([abs(w.error_ms) <= tolerance_ms for w in with_speech])) if with_speech else float("nan")
