"""Loads the towers of a training run or of a bundle, ready to encode clips, with their calibration.

The direct network's branches count as towers here, with a score of their own instead of the cosine.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from device.bundles.bundle import load_bundle
from device.bundles.calibration import Calibration
from device.bundles.model_kinds import DIRECT, MEASURING
from device.errors import InputFormatError, InputMissingError, ModelCorruptError, ModelMissingError
from device.sync.direct import direct_evidence
from train.models.backend import require_keras
from train.models.encoders import Floats, Towers, bundle_towers
from train.models.run_files import CHECKPOINT, run_config, run_kind

if TYPE_CHECKING:
    from train.models.direct import CorrelationNet
    from train.models.towers import TwoTowerModel

Network = TypeVar("Network", bound=Any)


def towers_of_bundle(folder: Path) -> tuple[Towers, Calibration, str]:
    """A bundle's towers, its calibration and its label. Raises ModelError."""
    bundle = load_bundle(folder, MEASURING)
    return bundle_towers(bundle), bundle.calibration, bundle.label


def towers_of_run(run: Path) -> tuple[Towers, Calibration, str]:
    """A training run's towers, the default calibration at their own scale, and its name. Raises ModelError."""
    if run_kind(run) == DIRECT.name:
        return direct_towers(load_direct(run)), Calibration(logit_scale=1.0, temperature=1.0), run.name
    model = load_model(run)
    from train.models.towers import keras_towers

    towers = keras_towers(model)
    return towers, Calibration(logit_scale=towers.logit_scale), run.name


def load_model(run: Path) -> TwoTowerModel:
    """The Keras model of a training run. Raises ModelMissingError, ModelCorruptError."""

    def build() -> TwoTowerModel:
        from train.models.towers import build_model

        return build_model()

    return load_weights(run, build)


def load_direct(run: Path) -> CorrelationNet:
    """The Keras network of a run of `--form correlation`. Raises ModelError."""
    require_keras()
    from train.models.direct import CorrelationNet, DirectConfig, build_direct

    config = DirectConfig(**{key: value for key, value in run_config(run).items() if key != "model"})
    net = load_weights(run, lambda: build_direct(config))
    if not isinstance(net, CorrelationNet):
        what = "the concatenation baseline measures windows of one length only"
        raise ModelCorruptError(what, where=str(run), remedy="Give a run of --form correlation")
    return net


def direct_towers(net: CorrelationNet) -> Towers:
    """Its branches as encoders of whole clips, and its head as their score."""

    def whole(network: Any) -> Any:
        return lambda values: np.asarray(network(values[None], training=False))[0]

    def head(image: Floats) -> Floats:
        return np.asarray(net.head(image[None], training=False))[0, ..., 0]

    return Towers(whole(net.lips), whole(net.audio), 1.0, partial(direct_evidence, head=head))


def load_weights(run: Path, build: Callable[[], Network]) -> Network:
    """A network with the weights of a training run. Raises ModelMissingError, ModelCorruptError."""
    weights = run / CHECKPOINT
    if not weights.is_file():
        raise ModelMissingError("no trained weights", where=str(weights), remedy="Give the folder that fit wrote")
    require_keras()
    network = build()
    try:
        network.load_weights(weights)
    except (OSError, ValueError, KeyError) as error:
        remedy = "Train again with this version of avdrift"
        what = f"not the weights of this network ({error})"
        raise ModelCorruptError(what, where=str(weights), remedy=remedy) from error
    return network


def read_calibration(path: Path, logit_scale: float) -> Calibration:
    """The output of calibrate, at the scale of the given towers. Raises InputMissingError or InputFormatError."""
    remedy = "Give the file that avdrift-train calibrate wrote"
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        found = Calibration.from_dict(table)
    except OSError as error:
        raise InputMissingError(f"cannot be read ({error.strerror})", where=str(path), remedy=remedy) from error
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise InputFormatError(f"not a calibration ({error!r})", where=str(path), remedy=remedy) from error
    if not found.temperature > 0:
        raise InputFormatError("the temperature is not positive", where=str(path), remedy=remedy)
    return replace(found, logit_scale=logit_scale)
