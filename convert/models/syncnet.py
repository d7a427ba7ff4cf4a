"""SyncNet in a bundle: one window per run, MFCC and upscaling inside, L2 distances outside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from convert.kinds import SYNCNET
from convert.models import towers
from convert.models.trained import Models, Trained
from device.bundles.calibration import Calibration
from device.bundles.model_kinds import AUDIO, LIPS
from device.features.contract import AUDIO_RATE_HZ, FRONT_END
from train.data.shards import Clip
from train.evaluation.tracks import Track, track
from train.models.encoders import model_towers
from train.models.load import load_weights
from train.models.syncnet import (
    EMBEDDING_SIZE,
    MFCC,
    SOUND_ROWS,
    SyncNet,
    SyncNetConfig,
    build_syncnet,
    distance_evidence,
    mfcc_matrix,
)

Floats = npt.NDArray[np.float32]

_JUDGED_CLIPS, _JUDGED_S = 6, 6.0  # it costs two hundred times as much as the towers


def open_syncnet(run: Path, config: Mapping[str, Any]) -> Trained:
    """Open a run. Raises ModelError."""
    known = {field.name: config[field.name] for field in fields(SyncNetConfig) if field.init and field.name in config}
    made = replace(SyncNetConfig(**known), precision="float32")
    net = load_weights(run, lambda: build_syncnet(made))
    scale = float(np.exp(min(float(ops.convert_to_numpy(net.log_scale)), 4.0)))
    compared = partial(distance_evidence, normalized=made.loss != "contrastive", scale=scale)

    def answers(models: Models, clips: list[Clip]) -> list[Track]:
        longest = sorted(clips, key=lambda clip: -len(clip.valid))[:_JUDGED_CLIPS]
        encoders = replace(model_towers(models["lips"], models["audio"], scale), score=compared)
        return [track(_beginning(clip), encoders) for clip in longest]

    return Trained(SYNCNET, windows_of(net), Calibration(logit_scale=scale, temperature=1.0), examples, answers)


def windows_of(net: SyncNet) -> dict[str, keras.Model]:
    """Both networks on the front end's own values: [1, 5, 64, 64] and [1, 33, 40] to [1, 1, 256]."""
    size, px = FRONT_END.crop_px, net.input_px
    crops = keras.Input((FRONT_END.lip_window_ticks, size, size))
    frames = ops.transpose(crops, (0, 2, 3, 1))
    frames = ops.image.resize(frames, (px, px)) if px != size else frames
    rows = keras.Input((FRONT_END.audio_window_ticks, FRONT_END.mel_bands))
    first = (FRONT_END.audio_window_ticks - SOUND_ROWS) // 2
    mfcc = ops.matmul(rows[:, first : first + SOUND_ROWS], ops.convert_to_tensor(mfcc_matrix()))
    spectrum = ops.reshape(ops.transpose(mfcc, (0, 2, 1)), (-1, MFCC, SOUND_ROWS, 1))

    def named(inputs: Any, vectors: Any, name: str) -> keras.Model:
        return keras.Model(inputs, ops.reshape(vectors, (-1, 1, EMBEDDING_SIZE)), name=name)

    return {LIPS: named(crops, net.lips(frames), "lips"), AUDIO: named(rows, net.audio(spectrum), "audio")}


def examples(clips: list[Clip], count: int) -> dict[str, Floats]:
    """The first window of each stretch from which the towers' scales are taken."""
    whole = towers.examples(clips, count)
    windows = {LIPS: FRONT_END.lip_window_ticks, AUDIO: FRONT_END.audio_window_ticks}
    return {file: values[:, : windows[file]] for file, values in whole.items()}


def _beginning(clip: Clip) -> Clip:
    ticks = round(_JUDGED_S * 1000 / FRONT_END.lip_tick_ms)
    samples = clip.samples[: round(_JUDGED_S * AUDIO_RATE_HZ)]
    return replace(clip, crops=clip.crops[:ticks], valid=clip.valid[:ticks], samples=samples)
