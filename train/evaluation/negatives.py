"""Unmeasurable input, for which no offset is right: it shows how far an estimator's confidence can be trusted.

Each case is a `Track` like any other, made of existing embeddings where possible. Its lips are cut to the length of its
audio, so that every window of it could be reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from device.features.contract import AUDIO_RATE_HZ, AUDIO_TICKS_PER_LIP_TICK, FRONT_END
from train.data.augment import MARGIN_PX
from train.data.shards import AUDIO_REACH, front_end
from train.evaluation.tracks import Track
from train.models.encoders import Towers

_VOICES_PER_CLIP = 4
_SOUND_S = 30

Floats = npt.NDArray[np.float32]


def with_json_keys(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a record under their keys in JSON, which keep the older word `hopeless`: readers know it."""
    return {name.replace("unmeasurable", "hopeless"): value for name, value in fields.items()}


def mismatched(tracks: Sequence[Track], random: np.random.Generator) -> Iterator[Track]:
    """The lips of each clip with the audio of up to four clips of other speakers."""
    for t in tracks:
        others = [other for other in tracks if other.clip.speaker != t.clip.speaker]
        for index in random.permutation(len(others))[:_VOICES_PER_CLIP]:
            yield _with_sound(t, others[int(index)])


def still_embeddings(tracks: Sequence[Track], random: np.random.Generator) -> Iterator[Track]:
    """Each clip with one of its lip embeddings repeated throughout, like a frozen image with one mouth."""
    for t in tracks:
        seen = np.flatnonzero(t.lips_valid)
        if len(seen):
            held = t.lips[int(random.choice(seen))]
            yield replace(t, lips=np.tile(held, (len(t.lips), 1)), lips_valid=np.ones(len(t.lips), np.bool_))


def cases(tracks: Sequence[Track], towers: Towers, random: np.random.Generator) -> Iterator[tuple[str, Track]]:
    """(kind, track) of all unmeasurable input that can be made of these clips."""
    for t in mismatched(tracks, random):
        yield "another speaker's voice", t
    for t in tracks:
        still = _still_picture(t, towers, random)
        if still:
            yield "still picture", still
    silence = np.zeros(_SOUND_S * AUDIO_RATE_HZ, np.float32)
    sounds = {"silence": silence, "empty room": _room(random), "music": _music(random)}
    for kind, samples in sounds.items():
        sound = _sound_track(samples, tracks[0], towers)
        for t in tracks:
            yield kind, _with_sound(t, sound)


def _with_sound(lips: Track, sound: Track) -> Track:
    """Lips of one track and audio of another, for the time of both; speech is that of the audio."""
    ticks = (lips.lips_first + np.arange(len(lips.lips))) * AUDIO_TICKS_PER_LIP_TICK - sound.audio_first
    both = np.flatnonzero((ticks >= 0) & (ticks < len(sound.audio)))
    part = slice(int(both[0]), int(both[-1]) + 1) if len(both) else slice(0, 0)
    return replace(
        lips, clip=sound.clip, lips=lips.lips[part], lips_valid=lips.lips_valid[part],
        lips_first=lips.lips_first + part.start, audio=sound.audio, audio_first=sound.audio_first,
    )  # fmt: skip


def _still_picture(t: Track, towers: Towers, random: np.random.Generator) -> Track | None:
    """One crop repeated: every window is the same, so the encoder has a single embedding."""
    seen = np.flatnonzero(t.clip.valid)
    if not len(seen):
        return None
    window = FRONT_END.lip_window_ticks
    crops = np.repeat(t.clip.crops[int(random.choice(seen))][None], window, 0)
    blank = replace(t.clip, crops=crops, valid=np.ones(window, np.bool_))
    held = towers.lips(front_end(blank)[0])
    return replace(t, lips=np.tile(held, (len(t.lips), 1)), lips_valid=np.ones(len(t.lips), np.bool_))


def _sound_track(samples: Floats, like: Track, towers: Towers) -> Track:
    """A track without video whose whole audio counts as speech, so that the speech gate does not mask the encoders."""
    side = FRONT_END.crop_px + 2 * MARGIN_PX
    window = FRONT_END.lip_window_ticks
    clip = replace(
        like.clip, crops=np.zeros((window, side, side), np.uint8), valid=np.ones(window, np.bool_), first_lip_tick=0,
        samples=np.rint(samples * 32767).astype(np.int16), samples_t_ns=0, shift_ms=0.0,
        speech=np.ones(len(samples) * 100 // AUDIO_RATE_HZ, np.bool_), speech_first_tick=0,
    )  # fmt: skip
    rows, first = front_end(clip)[3:]
    return replace(like, clip=clip, audio=towers.audio(rows), audio_first=first + AUDIO_REACH)


def _room(random: np.random.Generator) -> Floats:
    """Air and mains hum at about -50 dB."""
    count = _SOUND_S * AUDIO_RATE_HZ
    air = np.convolve(random.standard_normal(count), np.ones(8) / 8**0.5, "same")
    hum = np.sin(2 * np.pi * 100 * np.arange(count) / AUDIO_RATE_HZ)
    return np.asarray(0.003 * (air + hum), np.float32)


def _music(random: np.random.Generator) -> Floats:
    """Plucked chords of a minor scale, four a second, with a drum on every other one."""
    count = _SOUND_S * AUDIO_RATE_HZ
    out = np.zeros(count)
    t_s = np.arange(AUDIO_RATE_HZ // 2) / AUDIO_RATE_HZ
    scale_hz = 220 * 2 ** (np.array([0, 2, 3, 5, 7, 8, 10, 12]) / 12)
    for beat, start in enumerate(range(0, count - len(t_s), AUDIO_RATE_HZ // 4)):
        for base_hz in random.choice(scale_hz, 3, replace=False):
            tone = sum(np.sin(2 * np.pi * base_hz * n * t_s) / n for n in range(1, 6))
            out[start : start + len(t_s)] += tone * np.exp(-6 * t_s) * random.uniform(0.3, 1)
        if beat % 2:
            out[start : start + len(t_s)] += random.standard_normal(len(t_s)) * np.exp(-40 * t_s)
    return np.asarray(0.3 * out / np.abs(out).max(), np.float32)
