"""The kinds of models in bundles: the files of each kind, and the input contract that they must be made for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device.bundles.version import brief
from device.errors import ModelContractError
from device.features.contract import FRONT_END
from device.litert import Model

LIPS, AUDIO, HEAD = "lips.tflite", "audio.tflite", "head.tflite"
_REMEDY = "Build the bundle again, with this version of avdrift"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of models. `front_end` is the exact content that a manifest must have under `contract.front_end`.

    `fits` takes models by the stems of their files and raises ModelContractError if their shapes do not match.
    """

    name: str
    files: tuple[str, ...]
    front_end: Mapping[str, Any]
    fits: Callable[[Mapping[str, Model]], None]


def kind_of(manifest: Mapping[str, Any], wanted: tuple[Kind, ...], where: str) -> Kind:
    """The kind that a manifest names, by default the two-tower model. Raises ModelContractError."""
    name = manifest.get("kind", TOWERS.name)
    for kind in wanted:
        if name == kind.name:
            return kind
    raise ModelContractError(
        f"models of kind {brief(name)}, and only {' or '.join(kind.name for kind in wanted)} can be used here",
        where=where, remedy="Give another bundle",
    )  # fmt: skip


def refuse_shapes(model: Model) -> ModelContractError:
    """For `fits`: the error for a model whose tensors match neither its front end nor its reader."""
    what = f"input {model.input_shape} and output {model.output_shapes[0]} do not fit the contract"
    return ModelContractError(what, where=model.name, remedy=_REMEDY)


def _fits_towers(models: Mapping[str, Model]) -> None:
    size, bands = FRONT_END.crop_px, FRONT_END.mel_bands
    lips, audio = models["lips"], models["audio"]
    for model, tail, window in (
        (lips, (size, size), FRONT_END.lip_window_ticks),
        (audio, (bands,), FRONT_END.audio_window_ticks),
    ):
        shape, out = model.input_shape, model.output_shapes[0]
        if shape[:1] != (1,) or shape[2:] != tail or len(out) != 3 or out[1] != shape[1] - window + 1 or out[1] < 1:
            raise refuse_shapes(model)
    if lips.output_shapes[0][2] != audio.output_shapes[0][2]:
        where = str(Path(lips.name).parent)
        raise ModelContractError("the towers' embeddings differ in size", where=where, remedy=_REMEDY)


def _fits_direct(models: Mapping[str, Model]) -> None:
    """The head maps products of features at each tick and lag, [1, ticks, lags, groups], to one value each."""
    _fits_towers(models)
    head, size = models["head"], models["lips"].output_shapes[0][2]
    shape, out = head.input_shape, head.output_shapes[0]
    if len(shape) != 4 or min(shape) < 1 or shape[0] != 1 or size % shape[3] or out != (*shape[:3], 1):
        raise refuse_shapes(head)


TOWERS = Kind("towers", (LIPS, AUDIO), FRONT_END.to_dict(), _fits_towers)
DIRECT = Kind("direct", (LIPS, AUDIO, HEAD), FRONT_END.to_dict(), _fits_direct)
MEASURING = (TOWERS, DIRECT)  # kinds whose output becomes offsets in the same way
