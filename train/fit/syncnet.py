"""`avdrift-train fit --model syncnet`: SyncNet with its published recipe, or with the multi-way loss."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from train.data.augment import Augmentation
from train.data.batches import Batches
from train.data.shards import Clip
from train.fit.loop import JIT_COMPILE, describe_run, resumes, train, training_data
from train.models.load import load_weights
from train.models.syncnet import SyncNet, SyncNetConfig, build_syncnet, distances

# The paper augments images only by crops, flips and colour, and audio only by its volume.
_AUGMENTATION = Augmentation(
    noise=0.05, blur_share=0.0, repeat_share=0.0, erase_share=0.0, speed_share=0.0, noise_share=0.0, babble_share=0.0,
    colour_db=0.0, log_tract=0.0, mask_share=0.0,
)  # fmt: skip
_JUDGED_BATCHES = 3


def share_of(clips: list[Clip], share: float) -> list[Clip]:
    """A share of the clips' time: whole clips by the hashes of their names, so larger shares include smaller ones."""
    ordered = sorted(clips, key=lambda clip: hashlib.sha256(clip.name.encode()).digest())
    until = np.cumsum([len(clip.valid) for clip in ordered])
    count = int(np.searchsorted(until, share * until[-1] * (1 - 1e-9))) + 1
    return ordered[:count]


def _optimizer(config: SyncNetConfig) -> keras.optimizers.Optimizer:
    steps = config.epochs * config.steps_per_epoch
    if config.loss == "contrastive":  # published: momentum 0.9, from 1e-2 down to 1e-4
        start = config.learning_rate or 0.01
        return keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(start, steps, 0.01), 0.9, clipnorm=5.0)
    schedule = keras.optimizers.schedules.CosineDecay(config.learning_rate or 0.001, steps, alpha=0.01)
    return keras.optimizers.AdamW(schedule, weight_decay=0.02, clipnorm=1.0)


def _with_false(batches: Batches, seed: int) -> Iterator[Any]:
    """Batches with the audio that each lip window is wrongly paired with: another one of the same stretch."""
    random = np.random.default_rng(seed)
    for x, y in batches:
        shape = y["lip_weight"].shape
        false = (np.arange(shape[1]) + random.integers(1, shape[1], shape)) % shape[1]
        yield x, y | {"false": false}


def hits(model: SyncNet, batches: list[Any]) -> float:
    """Share of lip windows whose nearest audio of the same stretch is within one frame of their own."""
    right: list[bool] = []
    for x, y in batches:
        lips = keras.ops.convert_to_numpy(model.embed_lips(x["crops"], training=False))
        audio = keras.ops.convert_to_numpy(model.embed_audio(x["rows"], training=False))
        nearest = np.argmin(keras.ops.convert_to_numpy(distances(lips, audio)), axis=2)
        near = np.abs(nearest - np.arange(nearest.shape[1])) <= 1
        right += near[y["lip_weight"] > 0].tolist()
    return float(np.mean(right)) if right else float("nan")


def fit_syncnet(clips: list[Clip], validation: list[Clip], out: Path, config: SyncNetConfig) -> SyncNet:
    """Train, checkpointing after each epoch into `out`; resumes from the last checkpoint there."""
    clips = share_of(clips, config.data_share)
    describe_run(out, training_data(clips), config)
    keras.utils.set_random_seed(config.seed)
    warm = config.start and not resumes(out)
    model = load_weights(Path(config.start), lambda: build_syncnet(config)) if warm else build_syncnet(config)
    model.compile(optimizer=_optimizer(config), jit_compile=JIT_COMPILE)

    def made(which: list[Clip], seed: int, augmentation: Augmentation | None) -> Iterator[Any]:
        batches = Batches(
            which, lip_ticks=config.lip_ticks, batch_size=config.stretches, seed=seed, augmentation=augmentation
        )
        return _with_false(batches, seed)

    judged = {"train_hits": made(clips, 7, None)} | ({"valid_hits": made(validation, 7, None)} if validation else {})
    kept = {name: [next(source) for _ in range(_JUDGED_BATCHES)] for name, source in judged.items()}
    train(
        model, lambda epoch: made(clips, config.seed + epoch, _AUGMENTATION), out,
        epochs=config.epochs, steps_per_epoch=config.steps_per_epoch,
        judge=lambda _: {name: hits(model, batches) for name, batches in kept.items()},
    )  # fmt: skip
    return model
