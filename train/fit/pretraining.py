"""Pretraining of each tower by itself, before both learn to match: lip shapes and phonemes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from train.data.augment import Augmentation
from train.fit.config import FitConfig
from train.fit.loop import SEEDS_APART, prefetch
from train.fit.phonemes import CLASSES, phone_batches, talks
from train.fit.strategies import Workers
from train.models.towers import PhoneReader, ShapeReader, TwoTowerModel
from train.progress import with_progress

_PHONE_TICKS = 200
_LAST = 50  # steps whose mean is reported


def pretrain_shapes(model: TwoTowerModel, source: Iterator[Any], config: FitConfig, workers: Workers) -> None:
    """Teach the lip tower's first half the positions of lips, so that it starts from shapes rather than identities."""
    reader = ShapeReader(model)
    batches = ([(x["crops"], y["lip_points"]) for x, y in group] for group in source)
    model.lips.windows.trainable = False  # takes no part in it
    errors = _learn(reader, batches, config.shape_steps, "loss", "shapes", config, workers)
    model.lips.windows.trainable = True
    _log_mean("shape_steps", "shape_error", errors)


def pretrain_phonemes(model: TwoTowerModel, config: FitConfig, augmentation: Augmentation, workers: Workers) -> None:
    """Teach the audio tower phonemes, on voices with exact phoneme times."""
    reader = PhoneReader(model.audio, CLASSES)
    spoken = talks(config.phone_voices, config.seed)
    seed = config.seed + SEEDS_APART * workers.index
    batches = phone_batches(spoken, ticks=_PHONE_TICKS, batch_size=24, seed=seed, augmentation=augmentation)
    source, stop = prefetch(workers.grouped(batches))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    right = _learn(
        reader, source, config.phone_steps, "accuracy", "phones", config, workers, loss=loss, metrics=["accuracy"]
    )
    stop.set()
    _log_mean("phone_steps", "phone_accuracy", right)


def _learn(
    reader: keras.Model, source: Iterator[Any], steps: int, figure: str, desc: str, config: FitConfig,
    workers: Workers, **compiled: Any,
) -> list[float]:  # fmt: skip
    """Train a model for some steps; return one of its figures after each."""
    schedule = keras.optimizers.schedules.CosineDecay(2 * config.learning_rate, steps, alpha=0.1)
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=config.weight_decay, clipnorm=1.0)
    reader.compile(optimizer=optimizer, **compiled)
    step = workers.step(reader)
    return [
        step(next(source))[figure]
        for _ in with_progress(range(steps), desc, steps, "batch", quiet=not workers.is_chief)
    ]


def _log_mean(steps: str, figure: str, values: list[float]) -> None:
    print(json.dumps({steps: len(values), figure: round(float(np.mean(values[-_LAST:])), 4)}), flush=True)
