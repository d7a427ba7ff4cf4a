"""A training run of any kind of model, as input for building a bundle."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from device.bundles.calibration import Calibration
from device.bundles.model_kinds import TOWERS, Kind
from device.errors import ModelContractError, ModelCorruptError
from device.litert import Model
from train.data.shards import Clip
from train.evaluation.tracks import Track
from train.models.kinds import KINDS

Floats = npt.NDArray[np.float32]
Models = Mapping[str, Model]  # by the stems of their files


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained model. Networks and examples are keyed by the names of the resulting files."""

    kind: Kind
    networks: dict[str, keras.Model]
    calibration: Calibration  # the default, at the networks' own scale
    examples: Callable[[list[Clip], int], dict[str, Floats]]  # [n, ...]: real inputs, including silence and noise
    answers: Callable[[Models, list[Clip]], list[Track]]


def open_run(run: Path) -> Trained:
    """Open the output folder of `avdrift-train fit`. Raises ModelError."""
    config = read_config(run)
    name = config.get("model", TOWERS.name)
    if name not in KINDS:
        what = f"models of kind {str(name)[:60]!r}, known are {', '.join(KINDS)}"
        raise ModelContractError(what, where=str(run / "config.json"), remedy="Train with this version of avdrift")
    module = import_module(f"convert.models.{name}")  # one module per kind, beside this one
    opened: Trained = getattr(module, f"open_{name}")(run, config)
    return opened


def read_config(run: Path) -> dict[str, Any]:
    path = run / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return dict(config)
    except (OSError, ValueError, RecursionError, TypeError) as error:
        remedy = "Give the folder that fit wrote"
        raise ModelCorruptError(f"cannot be read ({error})", where=str(path), remedy=remedy) from error
