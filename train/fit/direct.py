"""`avdrift-train fit --model direct`: the origin's direct network with its remedies, and the form that fits."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from device.features.contract import AUDIO_TICKS_PER_LIP_TICK, FRONT_END
from train.data.augment import Augmentation
from train.data.shards import Clip
from train.fit.config import FitConfig
from train.fit.direct_batches import concat_batches, correlation_batches, judge_concat, judge_correlation, longest
from train.fit.direct_init import STARTS, begin
from train.fit.loop import JIT_COMPILE, describe_run, resumes, train
from train.fit.towers import build_pair
from train.models.direct import ConcatNet, CorrelationNet


@dataclass(frozen=True, slots=True)
class DirectConfig:
    """Everything that decides a training run; written beside its checkpoints.

    The form `linear` is the origin's, with its remedies: `picture` (mouth in place of the whole face), `differences`,
    `window_ticks`, `conv_layers`, `dense_layers`, `clips` (1: a single training video), `max_offset` (frames). `bins`
    is the same with a softmax over the offsets in place of its linear neuron. Of `correlation`, `start` is where the
    branches begin (train/fit/direct_init.py), with `shape_steps` and `phone_steps` of the lessons.
    """

    model: str = field(default="direct", init=False)
    form: str = field(default="correlation", metadata={"choices": ("correlation", "linear", "bins")})
    picture: str = field(default="mouth", metadata={"choices": ("mouth", "face")})
    differences: bool = False
    window_ticks: int = 25
    conv_layers: int = 3
    dense_layers: int = 2
    clips: int = 0  # 0: all; otherwise the longest ones
    max_offset: int = 12
    start: str = field(default="bundle", metadata={"choices": STARTS})
    shape_steps: int = 400
    shape_weight: float = 1.0
    phone_steps: int = 400
    phone_voices: int = 200
    dropout: float = 0.1
    epochs: int = 10
    steps_per_epoch: int = 100
    stretches: int = 12
    learning_rate: float = 1e-3
    none_share: float = 0.1
    seed: int = 1


def build_direct(config: DirectConfig) -> ConcatNet | CorrelationNet:
    """A direct network with its weights made."""
    net, ticks, steps = CorrelationNet(build_pair(config.dropout, config.shape_weight)), 8, 48
    if config.form != "correlation":
        net = ConcatNet(
            differences=config.differences, conv_layers=config.conv_layers, dense_layers=config.dense_layers,
            max_offset=config.max_offset if config.form == "bins" else 0,
        )  # fmt: skip
        ticks, steps = config.window_ticks, AUDIO_TICKS_PER_LIP_TICK * config.window_ticks
    size, bands = FRONT_END.crop_px, FRONT_END.mel_bands
    net({
        "crops": np.zeros((1, ticks, size, size), np.float32), "rows": np.zeros((1, steps, bands), np.float32),
        "foreign": np.zeros(1, np.float32),
    })  # fmt: skip
    return net


def fit_direct(
    clips: list[Clip], validation: list[Clip], out: Path, config: DirectConfig
) -> ConcatNet | CorrelationNet:
    """Train, checkpointing after each epoch into `out`; goes on from the last checkpoint found there."""
    clips = longest(clips, config.clips)
    describe_run(out, clips, config)
    keras.utils.set_random_seed(config.seed)
    model = build_direct(config)
    steps = config.epochs * config.steps_per_epoch
    warmup = steps // 10
    schedule = keras.optimizers.schedules.CosineDecay(
        1e-5, steps - warmup, alpha=0.01, warmup_target=config.learning_rate, warmup_steps=warmup
    )
    # XLA would compile each length of windows anew.
    model.compile(optimizer=keras.optimizers.AdamW(schedule, weight_decay=0.01, clipnorm=1.0), jit_compile=JIT_COMPILE)
    correlates = isinstance(model, CorrelationNet)
    make: Any = correlation_batches if correlates else concat_batches
    judge: Any = judge_correlation if correlates else judge_concat
    # The origin's form is shown recordings as they are: it does not even learn these by heart.
    augmentation = Augmentation() if correlates else None
    if correlates and not resumes(out):
        lessons = FitConfig(
            learning_rate=config.learning_rate, shape_steps=config.shape_steps, phone_steps=config.phone_steps,
            phone_voices=config.phone_voices, seed=config.seed,
        )  # fmt: skip
        begin(model.pair, config.start, make(clips, config, config.seed, augmentation), lessons, Augmentation())

    def figures(_: int) -> dict[str, float]:
        found = {f"train_{k}": v for k, v in judge(model, make(clips, config, 7, None)).items()}
        if validation:
            found |= {f"valid_{k}": v for k, v in judge(model, make(validation, config, 7, None)).items()}
        return found

    train(
        model, lambda done: make(clips, config, config.seed + 10 * done, augmentation), out,
        epochs=config.epochs, steps_per_epoch=config.steps_per_epoch, judge=figures,
    )  # fmt: skip
    return model
