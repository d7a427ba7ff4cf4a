"""The two-tower model in a bundle: the data for its scales, and the comparison of its number formats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from convert.models.trained import Models, Trained
from device.bundles.calibration import Calibration
from device.bundles.model_kinds import AUDIO, LIPS, TOWERS
from device.features.contract import AUDIO_RATE_HZ, FRONT_END
from train.data.shards import Clip, front_end
from train.evaluation.tracks import Track, track
from train.models.encoders import model_towers
from train.models.load import load_model
from train.models.towers import keras_towers

Floats = npt.NDArray[np.float32]

LIP_EMBEDDINGS_PER_RUN = 25  # one second at a time: windows overlap, so longer runs share more but wait longer
AUDIO_EMBEDDINGS_PER_RUN = 100
LIP_TICKS = LIP_EMBEDDINGS_PER_RUN + FRONT_END.lip_window_ticks - 1
AUDIO_TICKS = AUDIO_EMBEDDINGS_PER_RUN + FRONT_END.audio_window_ticks - 1
_NOISE_DB = (-60.0, -40.0, -20.0)  # of full scale
_PRE_ROLL_S = 1.0  # before the stretch of noise, so that the running level can settle


def open_towers(run: Path, config: Mapping[str, Any]) -> Trained:
    """Open a run. Raises ModelError."""
    model = load_model(run)
    scale = keras_towers(model).logit_scale

    def answers(models: Models, clips: list[Clip]) -> list[Track]:
        towers = model_towers(models["lips"], models["audio"], scale)
        return [track(clip, towers) for clip in clips]

    networks = {LIPS: model.lips, AUDIO: model.audio}
    return Trained(TOWERS, networks, Calibration(logit_scale=scale), examples, answers)


def examples(clips: list[Clip], count: int) -> dict[str, Floats]:
    """Inputs of both towers, [n, ticks, ...]: stretches of many clips, then stillness, darkness, silence and noise.

    At least `count` stretches, one clip of each speaker in turn, so that no large corpus alone determines the scales.
    """
    random = np.random.default_rng(0)
    by_speaker: dict[str, list[Clip]] = {}
    for clip in clips:
        by_speaker.setdefault(clip.speaker, []).append(clip)
    lips: list[Floats] = []
    audio: list[Floats] = []
    while len(lips) < count:
        for choices in by_speaker.values():
            crops, _, _, rows, _ = front_end(choices[int(random.integers(len(choices)))])
            lips.append(_stretch(crops, LIP_TICKS, random))
            audio.append(_stretch(rows, AUDIO_TICKS, random))
    lips += [np.repeat(lips[0][:1], LIP_TICKS, 0), np.zeros_like(lips[0])]
    audio.append(np.zeros_like(audio[0]))
    for noisy in _noise(clips[0], random):
        crops, _, _, rows, _ = front_end(noisy)
        lips.append(crops[-LIP_TICKS:])
        audio.append(rows[-AUDIO_TICKS:])
    return {LIPS: np.stack(lips), AUDIO: np.stack(audio)}


def _stretch(values: Floats, ticks: int, random: np.random.Generator) -> Floats:
    if len(values) < ticks:
        return np.concatenate([values, np.repeat(values[-1:], ticks - len(values), 0)])
    start = int(random.integers(len(values) - ticks + 1))
    return values[start : start + ticks]


def _noise(clip: Clip, random: np.random.Generator) -> Iterator[Clip]:
    """An empty room: sensor noise in the dark, and microphone noise at several levels."""
    seconds = _PRE_ROLL_S + AUDIO_TICKS * FRONT_END.audio_tick_ms / 1000
    ticks = round(seconds * 1000 / FRONT_END.lip_tick_ms)
    for level_db in _NOISE_DB:
        loud = 32767 * 10 ** (level_db / 20)
        yield replace(
            clip,
            crops=np.clip(random.normal(20, 4, (ticks, *clip.crops.shape[1:])), 0, 255).astype(np.uint8),
            valid=np.ones(ticks, np.bool_),
            samples=np.clip(random.normal(0, loud, round(seconds * AUDIO_RATE_HZ)), -32768, 32767).astype(np.int16),
        )
