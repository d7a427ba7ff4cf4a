"""The initial state of the direct network's branches: random, from the two-tower model's pretraining, or a bundle's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from device.bundles.bundle import DEFAULT_BUNDLE
from train.data.augment import Augmentation
from train.fit.config import FitConfig
from train.fit.pretraining import pretrain_phonemes, pretrain_shapes
from train.fit.strategies import Workers
from train.models.bundle_weights import take_weights
from train.models.towers import TwoTowerModel

_EXAMPLES = 8  # batches for the statistics of normalization


def initialize(
    model: TwoTowerModel, start: str, batches: Iterator[Any], pretraining: FitConfig, augmentation: Augmentation
) -> None:
    """Give a fresh model its initial state: one of STARTS.

    `pretraining`: lip shapes from the frames of `batches`, then phonemes from synthetic voices, as long as
    `pretraining` says. `bundle`: the built-in two-tower model; its training has seen the training clips already.
    """
    if start == "pretraining":
        pretrain_phonemes(model, pretraining, augmentation, Workers())
        pretrain_shapes(model, ([batch] for batch in batches), pretraining, Workers())
    if start == "bundle":
        first = [next(batches) for _ in range(_EXAMPLES)]
        longest = max(x["crops"].shape[1] for x, _ in first)
        alike = [x for x, _ in first if x["crops"].shape[1] == longest]
        crops, rows = (np.concatenate([x[key] for x in alike]) for key in ("crops", "rows"))
        take_weights(model, DEFAULT_BUNDLE, crops, rows)
