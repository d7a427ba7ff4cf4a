"""The direct network in a bundle: features of lips and of audio, and the head that scores their lags."""

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

from convert.models import towers
from convert.models.trained import Models, Trained
from device.bundles.calibration import Calibration
from device.bundles.model_kinds import AUDIO, DIRECT, HEAD, LIPS
from device.errors import ModelContractError
from device.features.contract import FRONT_END
from device.litert import Model
from device.sync.direct import direct_evidence
from train.data.shards import Clip
from train.evaluation.tracks import Track, track
from train.models.direct import CorrelationNet, DirectConfig, build_direct
from train.models.encoders import Towers, model_towers
from train.models.load import load_weights

Floats = npt.NDArray[np.float32]

_TICKS, _SEARCH_TICKS = 25, 100  # of the head's input; devices resize it as needed


def open_direct(run: Path, config: Mapping[str, Any]) -> Trained:
    """Open a run. Raises ModelError; refuses the concatenation baseline, which only learns the mean."""
    known = {field.name: config[field.name] for field in fields(DirectConfig) if field.init and field.name in config}
    made = DirectConfig(**known)
    net = load_weights(run, lambda: build_direct(made))
    if not isinstance(net, CorrelationNet):
        what = f"the direct network's form {made.form!r} cannot be used on a device"
        raise ModelContractError(what, where=str(run), remedy="Train it with --form correlation")
    networks = {LIPS: lips_of(net), AUDIO: net.audio, HEAD: net.head}
    return Trained(DIRECT, networks, Calibration(logit_scale=1.0, temperature=1.0), partial(examples, net), answers)


def lips_of(net: CorrelationNet) -> keras.Model:
    """The lip branch with its first step, a mean over pixels, as a convolution, because XNNPACK has no int8 pooling."""
    pool, *layers = net.lips.frames.layers
    if not isinstance(pool, keras.layers.AveragePooling2D):
        return net.lips
    size, side = FRONT_END.crop_px, pool.pool_size[0]
    crops = keras.Input((towers.LIP_TICKS, size, size))
    mean = np.full((side, side, 1, 1), 1 / side**2, np.float32)
    encoded = ops.conv(ops.reshape(crops, (-1, size, size, 1)), mean, side, "valid")
    for layer in layers:
        encoded = layer(encoded)
    windows = net.lips.windows(ops.reshape(encoded, (-1, towers.LIP_TICKS, encoded.shape[-1])))
    return keras.Model(crops, windows, name="lips")


def answers(models: Models, clips: list[Clip]) -> list[Track]:
    score = partial(direct_evidence, head=partial(_in_blocks, models["head"]))
    towers = replace(model_towers(models["lips"], models["audio"], 1.0), score=score)
    return [track(clip, towers) for clip in clips]


def examples(net: CorrelationNet, clips: list[Clip], count: int) -> dict[str, Floats]:
    """The stretches of the towers for both branches; for the head, its input from the same number of clips."""
    found = towers.examples(clips, count)
    encoders = Towers(_whole(net.lips), _whole(net.audio), 1.0)
    dice = np.random.default_rng(0)
    images: list[Floats] = []

    def keep(image: Floats) -> Floats:
        for start in range(0, len(image) - _TICKS + 1, _TICKS):
            images.append(image[start : start + _TICKS])
        return np.zeros(image.shape[:2], np.float32)

    order = dice.permutation(len(clips))
    for index in order:
        at = track(clips[index], encoders)
        direct_evidence(at.lips, at.lips_valid, at.lips_first, at.audio, np.ones(len(at.audio), np.bool_),
                        at.audio_first, _SEARCH_TICKS, keep)  # fmt: skip
        if len(images) >= count:
            break
    return found | {HEAD: np.stack([*images[:count], np.zeros_like(images[0])])}


def _whole(network: Any) -> Any:
    def run(values: Floats) -> Floats:
        return np.asarray(network(values[None], training=False))[0]

    return run


def _in_blocks(head: Model, image: Floats) -> Floats:
    """Apply a model of fixed size, with as many lags, to [ticks, lags, groups]; returns [ticks, lags]."""
    size = head.input_shape[1]
    padded = np.zeros((-(-len(image) // size) * size, *image.shape[1:]), np.float32)
    padded[: len(image)] = image
    blocks = [head(padded[None, start : start + size])[0][0, ..., 0] for start in range(0, len(padded), size)]
    return np.concatenate(blocks)[: len(image)]
