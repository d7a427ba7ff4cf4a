"""A training run of any kind of model, as far as a bundle is to be built of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from convert.parity import Parity
from device.errors import ModelContractError, ModelCorruptError
from device.sync.curve import Calibration
from device.towers.kinds import TOWERS, Kind
from device.towers.litert import Model
from train.data import Clip

Floats = npt.NDArray[np.float32]
Models = Mapping[str, Model]  # by the stems of their files


@dataclass(frozen=True, slots=True)
class Trained:
    """Networks and examples go by the names of the files that the networks become.

    `answers` are what the models make of clips; only `parity`, which compares those of two formats, looks into them.
    """

    kind: Kind
    networks: dict[str, keras.Model]
    calibration: Calibration  # the default one at the networks' own scale
    examples: Callable[[list[Clip], int], dict[str, Floats]]  # [n, ...]: real inputs, silence and noise among them
    answers: Callable[[Models, list[Clip]], Any]
    parity: Callable[[Any, Any, Calibration], Parity]


def open_run(run: Path) -> Trained:
    """What `avdrift-train fit` has left in a folder. Raises ModelError."""
    from convert.towers import open_towers

    openers = {TOWERS.name: open_towers}
    name = _kind_of(run)
    if name not in openers:
        what = f"models of kind {name!r}, known are {', '.join(openers)}"
        raise ModelContractError(what, where=str(run / "config.json"), remedy="Train with this version of avdrift")
    return openers[name](run)


def _kind_of(run: Path) -> str:
    path = run / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return str(config.get("model", TOWERS.name))
    except (OSError, ValueError, RecursionError, AttributeError) as error:
        remedy = "Give the folder that fit wrote"
        raise ModelCorruptError(f"cannot be read ({error})", where=str(path), remedy=remedy) from error
