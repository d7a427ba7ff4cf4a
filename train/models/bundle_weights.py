"""Restores the weights of a bundle's towers in Keras: a start for training if only the bundle is left.

A .tflite tower is one chain of convolutions and dense layers, in the order of the Keras tower's own. Batch
normalization is folded into them, and int8 weights are multiples of a scale per filter. Unfolding gives each
normalization the statistics of its actual input, so that training continues from the bundle's output.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema
from keras import layers

from device.bundles.bundle import load_bundle
from device.bundles.model_kinds import AUDIO, LIPS
from device.errors import ModelContractError
from device.features.contract import FRONT_END
from train.data.batches import Batches
from train.data.shards import Clip
from train.models.towers import LONG_TICKS, TwoTowerModel, build_model

Floats = npt.NDArray[np.float32]
Weights = tuple[Floats, Floats]  # kernel as stored, [out, …], and bias

_STORED = {schema.TensorType.INT8: np.int8, schema.TensorType.INT32: np.int32, schema.TensorType.FLOAT32: np.float32}
_WEIGHTED = (schema.BuiltinOperator.CONV_2D, schema.BuiltinOperator.FULLY_CONNECTED)


_STRETCHES = 16


def model_of_bundle(bundle: Path, clips: list[Clip]) -> TwoTowerModel:
    """A bundle's towers in Keras; the clips provide the statistics of normalization. Raises ModelError."""
    found = build_model()
    x, _ = next(iter(Batches(clips, lip_ticks=LONG_TICKS, batch_size=_STRETCHES, seed=0, augmentation=None)))
    take_weights(found, bundle, x["crops"], x["rows"])
    scale = load_bundle(bundle).calibration.logit_scale
    found.log_scale.assign(np.float32(np.log(scale)))
    return found


def stored_weights(content: bytes) -> list[Weights]:
    """Kernel and bias of each convolution and dense layer of a float32 or int8 .tflite file, in order, as real numbers.

    Raises ModelContractError for other number formats.
    """
    model = schema.Model.GetRootAs(content, 0)
    graph = model.Subgraphs(0)
    found = []
    for operator in (graph.Operators(k) for k in range(graph.OperatorsLength())):
        if model.OperatorCodes(operator.OpcodeIndex()).BuiltinCode() in _WEIGHTED:
            kernel, bias = (_real(model, graph.Tensors(operator.Inputs(k))) for k in (1, 2))
            found.append((kernel, bias))
    return found


def _real(model: Any, tensor: Any) -> Floats:
    """A constant tensor's values; it has one scale, or one per filter, which is the first axis."""
    if tensor.Type() not in _STORED:
        where, remedy = str(tensor.Name()), "Give the bundle in float32 or int8"
        raise ModelContractError(f"weights of type {tensor.Type()}", where=where, remedy=remedy)
    values = model.Buffers(tensor.Buffer()).DataAsNumpy().view(_STORED[tensor.Type()])
    real = values.reshape(tensor.ShapeAsNumpy()).astype(np.float32)
    scales = tensor.Quantization()
    if scales is None or not scales.ScaleLength():
        return real
    scale = np.asarray(scales.ScaleAsNumpy(), np.float32)
    return np.asarray(real * scale.reshape(-1, *[1] * (real.ndim - 1)), np.float32)


def take_weights(model: TwoTowerModel, bundle: Path, crops: Floats, rows: Floats) -> None:
    """Give a model the weights of a bundle's towers, so that it answers as they do. Raises ModelError.

    crops [batch, ticks, 64, 64] and rows [batch, ticks, bands], normalized as in training: they give the statistics of
    batch normalization.
    """
    load_bundle(bundle)  # it is complete, and its towers use this front end
    lips, audio = (stored_weights((bundle / name).read_bytes()) for name in (LIPS, AUDIO))
    seen = _unfold(model.lips.frames, lips, _stacks(model, crops))
    _unfold(model.lips.windows, lips, np.reshape(seen, (len(crops), -1, seen.shape[-1])))
    heard = _unfold(model.audio.spectrum, audio, rows[..., None])
    _unfold(model.audio.windows, audio, np.reshape(heard, (len(rows), heard.shape[1], -1)))
    if lips or audio:
        what = f"{len(lips)} and {len(audio)} layers more than these towers have"
        raise ModelContractError(what, where=str(bundle), remedy="Give a bundle of this version's towers")


def _stacks(model: TwoTowerModel, crops: Floats) -> Floats:
    """The input of the lip tower's first half: each tick with its neighbours."""
    frames = model.lips.frames.input_shape[-1]
    windows = np.lib.stride_tricks.sliding_window_view(crops, frames, axis=1)
    return np.ascontiguousarray(windows.reshape(-1, FRONT_END.crop_px, FRONT_END.crop_px, frames))


def _unfold(network: keras.Sequential, weights: list[Weights], values: Floats) -> Floats:
    """Assign the next weights to each layer of a chain that has any; return the chain's output for `values`."""
    bias = np.zeros(0, np.float32)
    for layer in network.layers:
        if isinstance(layer, layers.BatchNormalization):
            axes = tuple(range(values.ndim - 1))
            mean, variance = values.mean(axes), values.var(axes)
            layer.set_weights([np.sqrt(variance + layer.epsilon), bias + mean, mean, variance])
        elif hasattr(layer, "kernel"):
            stored, bias = _next(weights, layer)
            layer.set_weights([stored, bias] if layer.use_bias else [stored])
        values = np.asarray(layer(values, training=False))
    return values


def _next(weights: list[Weights], layer: Any) -> Weights:
    """The next kernel in this layer's axis order; stored kernels have the filters first."""
    stored, bias = weights.pop(0) if weights else (np.zeros(0, np.float32), np.zeros(0, np.float32))
    kernel = np.moveaxis(stored, 0, -1) if stored.ndim else stored
    if kernel.size != np.prod(layer.kernel.shape) or len(bias) != layer.kernel.shape[-1]:
        what = f"weights {stored.shape} where {layer.name} has {tuple(layer.kernel.shape)}"
        raise ModelContractError(what, where="bundle", remedy="Give a bundle of this version's towers")
    return np.ascontiguousarray(kernel.reshape(layer.kernel.shape)), bias
