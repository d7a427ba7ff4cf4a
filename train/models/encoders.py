"""Encoders of whole clips, whatever runs them, and the cost of a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from device.bundles.bundle import Bundle
from device.bundles.calibration import NEGATIVE_REACH_TICKS
from device.litert import Model
from device.sync.direct import score_of
from device.sync.evidence_stream import Score
from device.towers.blocks import BlockStream

if TYPE_CHECKING:
    import keras


Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]
Encode = Callable[[Floats], Floats]  # [ticks, ...] of the front end to [windows, embedding]


@dataclass(frozen=True, slots=True)
class Towers:
    """Two encoders of whole clips, run by Keras or LiteRT, and the learnt scale of their cosine.

    `score`: computes evidence instead of the cosine, for the direct network, without negatives.
    """

    lips: Encode
    audio: Encode
    logit_scale: float
    score: Score | None = None
    negative_reach_ticks: int = NEGATIVE_REACH_TICKS


def bundle_towers(bundle: Bundle) -> Towers:
    """A bundle's models as encoders of whole clips."""
    towers = model_towers(bundle.lips, bundle.audio, bundle.calibration.logit_scale)
    return replace(towers, score=score_of(bundle), negative_reach_ticks=bundle.calibration.negative_reach_ticks)


def model_towers(lips: Model, audio: Model, logit_scale: float) -> Towers:
    """Both models as encoders of whole clips, in the same blocks with the same edges as on the device."""

    def encode(model: Model) -> Encode:
        def run(values: Floats) -> Floats:
            stream = BlockStream(model)
            parts = [*stream.push(0, values, np.ones(len(values), np.bool_)), *stream.finish()]
            size = model.output_shapes[0][2]
            return np.concatenate([part.vectors for part in parts]) if parts else np.empty((0, size), np.float32)

        return run

    return Towers(encode(lips), encode(audio), logit_scale)


def layer_macs(network: keras.Sequential) -> float:
    """Multiply-accumulates of one run of a network of convolutions and dense layers; unknown sizes count as 1."""
    total = 0.0
    for layer in network.layers:
        if not hasattr(layer, "kernel"):
            continue
        places = [size or 1 for size in layer.output.shape[1:-1]]
        total += prod(layer.kernel.shape) * prod(places)
    return total
