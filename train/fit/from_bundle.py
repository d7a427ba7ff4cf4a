"""`fit --from-bundle BUNDLE`: start with a bundle's models, and train only the layers from encodings to embeddings.

The encoders of frames and of spectra stay unchanged, and so do all statistics: a few minutes of clips hold too few
faces and voices to learn them again. The bundle is also the teacher, so that its knowledge of others is not lost.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from keras import layers

from device.bundles.bundle import load_bundle
from train.data.batches import Batches
from train.data.shards import Clip
from train.models.bundle_weights import take_weights
from train.models.towers import LONG_TICKS, TwoTowerModel, build_model

_STRETCHES = 16


def start_from(model: TwoTowerModel, bundle: Path, clips: list[Clip], teacher_share: float) -> None:
    """Initialize a model from a bundle, with the bundle as its teacher and only its last layers trainable.

    Raises ModelError.
    """
    model.learn_from([pair_of_bundle(bundle, clips)], teacher_share)
    model.shape_weight = 0.0  # their head is new, and what it would teach is frozen
    for frozen in (model.lips.frames, model.audio.spectrum, model.shape_head):
        frozen.trainable = False
    # Normalization keeps using its statistics.
    for network in (model.lips.windows, model.audio.windows):
        for layer in network.layers:
            layer.trainable = not isinstance(layer, layers.BatchNormalization)


def pair_of_bundle(bundle: Path, clips: list[Clip]) -> TwoTowerModel:
    """A bundle's towers in Keras; the clips provide the statistics of normalization."""
    found = build_model()
    x, _ = next(iter(Batches(clips, lip_ticks=LONG_TICKS, batch_size=_STRETCHES, seed=0, augmentation=None)))
    take_weights(found, bundle, x["crops"], x["rows"])
    scale = load_bundle(bundle).calibration.logit_scale
    found.log_scale.assign(np.float32(np.log(scale)))
    return found
