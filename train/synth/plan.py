"""When the synthetic people speak, and what is heard and seen then: sentences, pauses, offsets, motion; no drawing.

A positive offset means that the audio is early: what is heard at audio time t is seen at video time t + offset.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from device.errors import UsageError
from device.records import Samples
from train.synth.articulation import Mouth, Trajectory, move_mouth
from train.synth.face import Pose
from train.synth.speech import Phoneme, Utterance, Voice, synthesize
from train.synth.text import ENGLISH, OTHERS, VARIANTS, random_sentence

MAX_OFFSET_MS = 5000.0
_TAIL_S = 0.25  # silence kept at the end of a recording
_MARGIN_S = 0.15  # more silence than the offsets themselves need, around a change


@dataclass(frozen=True, slots=True)
class Segment:
    """From `t_s` on, the audio is `offset_ms` ahead of the video."""

    t_s: float
    offset_ms: float


@dataclass(frozen=True, slots=True)
class Sentence:
    """Something said, in audio time."""

    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Truth:
    """What is true of a rendered recording. Phonemes and sentences are in audio time, segments in video time."""

    file: str
    seed: int
    duration_s: float
    fps: float
    voice: Voice
    segments: tuple[Segment, ...]
    sentences: tuple[Sentence, ...]
    phonemes: tuple[Phoneme, ...]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; times rounded to 0.1 ms."""
        rounded: dict[str, Any] = _rounded(asdict(self))
        return {"format": 1, "sign": "positive offset_ms: audio early"} | rounded

    def offset_ms(self, t_s: float) -> float:
        """The offset at video time `t_s`."""
        index = bisect_right([segment.t_s for segment in self.segments], t_s)
        return self.segments[max(0, index - 1)].offset_ms


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return round(value, 4) if isinstance(value, float) else value


def check_schedule(schedule: Sequence[tuple[float, float]], duration_s: float) -> tuple[Segment, ...]:
    """Turn (t_s, offset_ms) pairs into segments. Raises UsageError unless they start at 0, ascend and are in range."""
    times = [t_s for t_s, _ in schedule]
    ascending = all(a < b for a, b in pairwise(times))
    if not times or times[0] != 0.0 or not ascending or times[-1] >= duration_s:
        raise UsageError(
            f"times {times} must start at 0, ascend, and end before {duration_s} s",
            where="offset schedule",
            remedy="Give (time in s, offset in ms) pairs such as (0, 80), (16, -160)",
        )
    if not all(abs(offset_ms) <= MAX_OFFSET_MS for _, offset_ms in schedule):
        raise UsageError(
            "an offset is out of range", where="offset schedule", remedy=f"Keep within ±{MAX_OFFSET_MS:.0f} ms"
        )
    return tuple(Segment(float(t_s), float(offset_ms)) for t_s, offset_ms in schedule)


def random_voice(rng: np.random.Generator) -> Voice:
    """Somebody to speak: mostly English, one in four in another language."""
    language = str(rng.choice(ENGLISH if rng.random() < 0.75 else OTHERS))
    return Voice(
        language=language,
        variant=str(rng.choice(VARIANTS)),
        words_per_min=int(rng.integers(130, 215)),
        pitch=int(rng.integers(25, 80)),
        pitch_range=int(rng.integers(30, 75)),
    )


@dataclass(frozen=True, slots=True)
class Talk:
    """A whole recording's speech on the audio clock."""

    samples: Samples
    rate_hz: int
    sentences: tuple[Sentence, ...]
    phonemes: tuple[Phoneme, ...]


def plan_talk(
    rng: np.random.Generator,
    voice: Voice,
    segments: Sequence[Segment],
    duration_s: float,
    script: Sequence[str] = (),
) -> Talk:
    """Fill `duration_s` with sentences that keep clear of every change of offset: no sound is cut or seen twice.

    `script` is spoken in order as far as it fits; a sentence too long for its segment makes way for a later one.
    """
    placed: list[tuple[float, str, Utterance]] = []
    waiting = list(script)
    for start_s, stop_s in _quiet_edges(segments, duration_s):
        t_s = start_s + float(rng.uniform(0.1, 0.35))
        while (found := _next_fitting(rng, voice, waiting, stop_s - t_s, scripted=bool(script))) is not None:
            text, utterance = found
            placed.append((t_s, text, utterance))
            t_s += utterance.duration_s + float(rng.uniform(0.12, 0.45))
    if not placed:
        raise UsageError(
            f"{duration_s} s with {len(segments)} offsets leaves no room for a sentence",
            where="synthetic recording",
            remedy="Make it longer, or change the offset less often",
        )
    return _lay_out(placed, duration_s)


def _quiet_edges(segments: Sequence[Segment], duration_s: float) -> list[tuple[float, float]]:
    """Where sentences may lie in audio time, so that both clocks are silent at each change."""
    spans = []
    for index, segment in enumerate(segments):
        own_s = abs(segment.offset_ms) / 1000.0
        before_s = max(own_s, abs(segments[index - 1].offset_ms) / 1000.0) + _MARGIN_S if index else 0.0
        start_s = segment.t_s + before_s if index else max(0.0, -segment.offset_ms / 1000.0)
        if index + 1 < len(segments):
            stop_s = segments[index + 1].t_s - max(own_s, abs(segments[index + 1].offset_ms) / 1000.0) - _MARGIN_S
        else:
            stop_s = duration_s - _TAIL_S - max(0.0, segment.offset_ms / 1000.0)
        spans.append((start_s, stop_s))
    return spans


def _next_fitting(
    rng: np.random.Generator, voice: Voice, waiting: list[str], room_s: float, *, scripted: bool
) -> tuple[str, Utterance] | None:
    if room_s < 0.4:
        return None
    if scripted:
        for text in waiting:
            utterance = trimmed(synthesize(text, voice))
            if utterance.duration_s <= room_s:
                waiting.remove(text)
                return text, utterance
        return None
    for attempt in range(5):
        text = random_sentence(rng, voice.language, short=attempt >= 2 or room_s < 1.2)
        utterance = trimmed(synthesize(text, voice))
        if utterance.duration_s <= room_s:
            return text, utterance
    return None


def trimmed(utterance: Utterance) -> Utterance:
    """Without the long silence that espeak-ng appends to a sentence."""
    loud = np.flatnonzero(np.abs(utterance.samples) > 0.003)
    stop = min(len(utterance.samples), int(loud[-1]) + int(0.03 * utterance.rate_hz)) if len(loud) else 1
    last_s = stop / utterance.rate_hz
    kept = tuple(phoneme for phoneme in utterance.phonemes if phoneme.start_s < last_s)
    return Utterance(utterance.samples[:stop], utterance.rate_hz, kept)


def _lay_out(placed: Sequence[tuple[float, str, Utterance]], duration_s: float) -> Talk:
    rate_hz = placed[0][2].rate_hz
    samples = np.zeros(round(duration_s * rate_hz), np.float32)
    sentences, phonemes = [], []
    for start_s, text, utterance in placed:
        first = round(start_s * rate_hz)
        samples[first : first + len(utterance.samples)] += utterance.samples[: len(samples) - first]
        exact_s = first / rate_hz
        sentences.append(Sentence(text, exact_s, exact_s + utterance.duration_s))
        phonemes += [phoneme.shifted(exact_s) for phoneme in utterance.phonemes if phoneme.ipa]
    return Talk(samples, rate_hz, tuple(sentences), tuple(phonemes))


class Performance:
    """What the camera sees at any video time: the mouth, exactly on its offset, and the head on a course of its own."""

    def __init__(
        self, rng: np.random.Generator, talk: Talk, truth: Truth, *, effort: float, base: Pose, restless: float
    ) -> None:
        self._truth, self._base, self._restless = truth, base, restless
        self._trajectory: Trajectory = move_mouth(talk.phonemes, truth.duration_s, effort)
        self._blinks_s = np.cumsum(rng.uniform(1.2, 5.5, size=int(truth.duration_s / 1.2) + 2))
        self._rates_hz = rng.uniform(0.07, 0.9, (6, 4))
        self._phases = rng.uniform(0, 2 * np.pi, (6, 4))

    def mouth(self, t_s: float) -> Mouth:
        return self._trajectory.at(t_s - self._truth.offset_ms(t_s) / 1000.0)

    def pose(self, t_s: float) -> Pose:
        # Slow motions are large and fast ones small, as with a seated speaker.
        waves = np.sin(2 * np.pi * self._rates_hz * t_s + self._phases) / (1.0 + 3.0 * self._rates_hz)
        yaw, pitch, roll, shift_x, shift_y, gaze = waves.sum(axis=1) * self._restless
        return Pose(
            yaw=self._base.yaw + 0.060 * yaw,
            pitch=self._base.pitch + 0.035 * pitch,
            roll=self._base.roll + 0.022 * roll,
            shift_x=0.012 * shift_x,
            shift_y=0.007 * shift_y,
            eyes_open=self._eyes_open(t_s),
            gaze_x=float(np.clip(-0.5 * yaw + 0.3 * np.round(gaze), -1, 1)),
        )

    def _eyes_open(self, t_s: float) -> float:
        """Lids fall in 0.08 s and rise in 0.16 s."""
        since_s = t_s - self._blinks_s
        falling = np.clip(1.0 - np.abs(since_s) / 0.08, 0, 1) * (since_s < 0)
        rising = np.clip(1.0 - since_s / 0.16, 0, 1) * (since_s >= 0)
        return float(1.0 - np.maximum(falling, rising).max())
