"""Clips and tracks made for tests, whose right answer is known because it was built in.

A made clip says one random letter each 10 ms: its sound is a tone of the letter's own pitch, its picture a bright bar
at the letter's own column. The made towers read the letter in the middle of their window, so they are perfect towers.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from device.features.contract import AUDIO_RATE_HZ, AUDIO_TICKS_PER_LIP_TICK, FRONT_END
from device.features.logmel import mel_filters
from train.data.augment import MARGIN_PX
from train.data.landmarks import LIP_POINTS
from train.data.shards import SHARD_FORMAT, Clip
from train.evaluation.tracks import Track
from train.models.encoders import Towers

LETTERS = 15
SIDE = FRONT_END.crop_px + 2 * MARGIN_PX
_HOP = AUDIO_RATE_HZ // 100
_BAR_PX = 4

Floats = npt.NDArray[np.float32]


def make_clip(
    name: str = "made", *, seconds: float = 6.0, seed: int = 0, offset_ticks: int = 0, speaker: str = "somebody",
    split: str = "valid", corpus: str = "made", speech: bool = True,
) -> Clip:  # fmt: skip
    """A clip whose sound is `offset_ticks` of 10 ms early. It begins at time 0. All lip landmarks lie on the bar."""
    audio_ticks, lip_ticks = round(seconds * 100), round(seconds * 25)
    said = np.random.default_rng(seed).integers(0, LETTERS, audio_ticks + 400)  # letter k is said at tick k - 200
    samples = np.concatenate([_tone(int(letter)) for letter in said[200 : 200 + audio_ticks + 1]])[_HOP // 2 :]
    shown = said[200 + AUDIO_TICKS_PER_LIP_TICK * np.arange(lip_ticks) - offset_ticks]
    crops = np.full((lip_ticks, SIDE, SIDE), 60, np.uint8)
    for crop, letter in zip(crops, shown, strict=True):
        crop[:, MARGIN_PX + _BAR_PX * letter : MARGIN_PX + _BAR_PX * (letter + 1)] = 220
    points = np.full((lip_ticks, LIP_POINTS, 2), (FRONT_END.crop_px - 1) / 2, np.float32)
    points[..., 0] = (_BAR_PX * shown + (_BAR_PX - 1) / 2)[:, None]
    return Clip(
        name=name, speaker=speaker, split=split, corpus=corpus, crops=crops, lip_points=points,
        valid=np.ones(lip_ticks, np.bool_), first_lip_tick=0,
        samples=np.rint(samples * 32767).astype(np.int16), samples_t_ns=0,
        speech=np.full(audio_ticks, speech), speech_first_tick=0,
    )  # fmt: skip


def _band(letter: int) -> int:
    return 10 + 2 * letter


def _tone(letter: int) -> npt.NDArray[np.float64]:
    pitch_hz = np.argmax(mel_filters()[:, _band(letter)]) * AUDIO_RATE_HZ / FRONT_END.stft_size
    return np.asarray(0.4 * np.sin(2 * np.pi * pitch_hz * np.arange(_HOP) / AUDIO_RATE_HZ))


def _letters(index: npt.NDArray[np.int64]) -> Floats:
    return np.eye(LETTERS + 1, dtype=np.float32)[np.clip(index, 0, LETTERS)]


def perfect_lips(crops: Floats) -> Floats:
    """[ticks, size, size] to the letter in the middle of each window."""
    reach = FRONT_END.lip_window_ticks // 2
    return _letters(np.argmax(crops.mean(1), axis=1)[reach : len(crops) - reach] // _BAR_PX)


def perfect_audio(rows: Floats) -> Floats:
    """[ticks, bands] to the letter in the middle of each window."""
    reach = FRONT_END.audio_window_ticks // 2
    bands = [_band(letter) for letter in range(LETTERS)]
    return _letters(np.argmax(rows[:, bands], axis=1)[reach : len(rows) - reach])


def perfect_towers(logit_scale: float = 8.0) -> Towers:
    return Towers(perfect_lips, perfect_audio, logit_scale)


def blind_towers(seed: int = 0, logit_scale: float = 8.0) -> Towers:
    """Towers that answer noise, whatever they are shown."""
    random = np.random.default_rng(seed)

    def noise(reach: int, values: Floats) -> Floats:
        return random.standard_normal((max(len(values) - reach, 0), 16), np.float32)

    return Towers(
        lambda crops: noise(FRONT_END.lip_window_ticks - 1, crops),
        lambda rows: noise(FRONT_END.audio_window_ticks - 1, rows), logit_scale,
    )  # fmt: skip


def make_track(
    *, offset_ticks: int = 0, seconds: float = 10.0, noise: float = 0.0, seed: int = 0, speaker: str = "somebody",
    size: int = 16, logit_scale: float = 8.0,
) -> Track:  # fmt: skip
    """A track whose lip embeddings are those of its sound, `offset_ticks` early, plus noise."""
    random = np.random.default_rng(seed)
    lip_count, audio_first = round(seconds * 25), -200
    audio = random.standard_normal((4 * lip_count + 400, size), np.float32)
    at = AUDIO_TICKS_PER_LIP_TICK * (2 + np.arange(lip_count)) - offset_ticks - audio_first
    lips = audio[at] + np.float32(noise) * random.standard_normal((lip_count, size), np.float32)
    clip = replace(
        make_clip(f"track {seed}", seconds=0.2, speaker=speaker), speech=np.ones(4 * lip_count + 200, np.bool_),
        speech_first_tick=-100,
    )  # fmt: skip
    return Track(clip, lips, np.ones(lip_count, np.bool_), 2, audio, audio_first, logit_scale)


def write_shard(clip: Clip, folder: Path) -> Path:
    """The clip as `prepare` would have written it."""
    folder.mkdir(parents=True, exist_ok=True)
    meta = {
        "format": SHARD_FORMAT, "file": f"{clip.name}.mkv", "speaker": clip.speaker, "split": clip.split,
        "corpus": clip.corpus, "front_end": FRONT_END.to_dict(),
    }  # fmt: skip
    path = folder / f"{clip.name}.npz"
    np.savez(
        path, crops=clip.crops, valid=clip.valid, first_lip_tick=clip.first_lip_tick, samples=clip.samples,
        samples_t_ns=clip.samples_t_ns, speech=clip.speech, speech_first_tick=clip.speech_first_tick,
        lip_points=clip.lip_points, meta=json.dumps(meta),
    )  # fmt: skip
    return path
