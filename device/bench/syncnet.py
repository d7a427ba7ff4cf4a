"""SyncNet's network as published, with random weights, as two .tflite models: the reference of `avdrift bench`.

Cost does not depend on the weights, so nothing is downloaded. Batch norm is folded and ReLU fused, as in any
deployment; weights are float32, as published. The first Conv3d of the video tower covers all of its 5 frames and the
others have a temporal kernel of 1, so over one window each is a 2-D convolution, the first over 5 x 3 channels.

References: J. S. Chung and A. Zisserman, "Out of time: automated lip sync in the wild", ACCV workshops 2016; dimensions
from the authors' PyTorch code (joonson/syncnet_python, SyncNetModel.py), without its 1x1 pool, which has no effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import flatbuffers
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from device.bench.timing import MS_PER_S, StageCost, best_of
from device.litert import Model
from device.towers.macs import count_macs

WINDOWS_PER_S: Final = 25  # one embedding of each tower per video frame
EMBEDDING_SIZE: Final = 1024
VIDEO_INPUT: Final = (1, 224, 224, 15)  # 5 RGB frames, stacked as channels
AUDIO_INPUT: Final = (1, 13, 20, 1)  # 13 MFCC x 20 steps of 10 ms

Pair = tuple[int, int]  # height, width
Shape = tuple[int, ...]
F32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Conv:
    name: str
    channels: int
    kernel: Pair
    stride: Pair = (1, 1)
    pad: int = 0


@dataclass(frozen=True, slots=True)
class Pool:
    name: str
    stride: Pair
    kernel: Pair = (3, 3)
    pad: int = 0


@dataclass(frozen=True, slots=True)
class Dense:
    name: str
    units: int
    relu: bool


Layer = Conv | Pool | Dense

VIDEO_LAYERS: Final[tuple[Layer, ...]] = (
    Conv("conv1", 96, (7, 7), stride=(2, 2)),
    Pool("pool1", (2, 2)),
    Conv("conv2", 256, (5, 5), stride=(2, 2), pad=1),
    Pool("pool2", (2, 2), pad=1),
    Conv("conv3", 256, (3, 3), pad=1),
    Conv("conv4", 256, (3, 3), pad=1),
    Conv("conv5", 256, (3, 3), pad=1),
    Pool("pool5", (2, 2)),
    Conv("conv6", 512, (6, 6)),
    Dense("fc7", 512, relu=True),
    Dense("fc8", EMBEDDING_SIZE, relu=False),
)
AUDIO_LAYERS: Final[tuple[Layer, ...]] = (
    Conv("conv1", 64, (3, 3), pad=1),
    Conv("conv2", 192, (3, 3), pad=1),
    Pool("pool2", (1, 2)),
    Conv("conv3", 384, (3, 3), pad=1),
    Conv("conv4", 256, (3, 3), pad=1),
    Conv("conv5", 256, (3, 3), pad=1),
    Pool("pool5", (2, 2)),
    Conv("conv6", 512, (5, 4)),
    Dense("fc7", 512, relu=True),
    Dense("fc8", EMBEDDING_SIZE, relu=False),
)


def build_video_tower(seed: int) -> bytes:
    """A .tflite file: [1, 224, 224, 15] float32 to [1, 1024] float32, 1.56 GMAC. The same seed gives the same bytes."""
    return _build(VIDEO_INPUT, VIDEO_LAYERS, np.random.default_rng(seed))


def build_audio_tower(seed: int) -> bytes:
    """A .tflite file: [1, 13, 20, 1] float32 to [1, 1024] float32, 0.24 GMAC. The same seed gives the same bytes."""
    return _build(AUDIO_INPUT, AUDIO_LAYERS, np.random.default_rng(seed))


def measure_syncnet(seed: int = 0, repeat: int = 5, min_time_s: float = 0.2) -> tuple[StageCost, StageCost]:
    """Time both towers in LiteRT on one thread, video first; one second of audio-video is 25 windows."""
    return (
        _measure("SyncNet video tower", build_video_tower(seed), repeat, min_time_s),
        _measure("SyncNet audio tower", build_audio_tower(seed), repeat, min_time_s),
    )


def _measure(name: str, model: bytes, repeat: int, min_time_s: float) -> StageCost:
    tower = Model(model, name=name, threads=1)
    # Noise, because values that all underflow to denormals would slow down the arithmetic.
    window = np.random.default_rng(0).standard_normal(tower.input_shape, dtype=np.float32)
    timing = best_of(lambda: tower(window), repeat, min_time_s)
    return StageCost(name, timing.median_s * MS_PER_S * WINDOWS_PER_S, count_macs(model) / 1e6 * WINDOWS_PER_S)


def _build(input_shape: Shape, layers: Sequence[Layer], rng: np.random.Generator) -> bytes:
    graph = _Graph(input_shape, rng)
    for layer in layers:
        graph.add(layer)
    return graph.pack()


class _Graph:
    """A chain of layers in flatbuffer objects; each layer reads the last tensor added."""

    def __init__(self, input_shape: Shape, rng: np.random.Generator) -> None:
        self._rng = rng
        self._buffers: list[Any] = [schema.BufferT()]  # by convention, buffer 0 is the empty one
        self._tensors: list[Any] = []
        self._operators: list[Any] = []
        self._codes: list[int] = []
        self._shape = input_shape
        self._head = self._tensor("input", input_shape)

    def add(self, layer: Layer) -> None:
        match layer:
            case Conv():
                self._conv(layer)
            case Pool():
                self._pool(layer)
            case Dense():
                self._dense(layer)

    def pack(self) -> bytes:
        graph = schema.SubGraphT(
            tensors=self._tensors, inputs=[0], outputs=[self._head], operators=self._operators, name="main"
        )
        codes = [schema.OperatorCodeT(deprecatedBuiltinCode=code, builtinCode=code, version=1) for code in self._codes]
        model = schema.ModelT(
            version=3, operatorCodes=codes, subgraphs=[graph], buffers=self._buffers, description="SyncNet, random"
        )
        weights_bytes = sum(len(buffer.data) for buffer in self._buffers if buffer.data is not None)
        builder = flatbuffers.Builder(weights_bytes + 65536)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    def _conv(self, layer: Conv) -> None:
        self._pad(layer.name, layer.pad)
        _, height, width, channels_in = self._shape
        inputs = self._weights(layer.name, (layer.channels, *layer.kernel, channels_in))
        options = schema.Conv2DOptionsT(
            padding=schema.Padding.VALID,
            strideH=layer.stride[0],
            strideW=layer.stride[1],
            fusedActivationFunction=schema.ActivationFunctionType.RELU,
            dilationHFactor=1,
            dilationWFactor=1,
        )
        shape = (1, *_valid((height, width), layer.kernel, layer.stride), layer.channels)
        self._operator("CONV_2D", inputs, layer.name, shape, schema.BuiltinOptions.Conv2DOptions, options)

    def _pool(self, layer: Pool) -> None:
        self._pad(layer.name, layer.pad)  # zeros never win, because the input has been through a ReLU
        _, height, width, channels = self._shape
        options = schema.Pool2DOptionsT(
            padding=schema.Padding.VALID,
            strideH=layer.stride[0],
            strideW=layer.stride[1],
            filterHeight=layer.kernel[0],
            filterWidth=layer.kernel[1],
        )
        shape = (1, *_valid((height, width), layer.kernel, layer.stride), channels)
        self._operator("MAX_POOL_2D", [], layer.name, shape, schema.BuiltinOptions.Pool2DOptions, options)

    def _dense(self, layer: Dense) -> None:
        inputs = self._weights(layer.name, (layer.units, self._shape[-1]))
        activation = schema.ActivationFunctionType.RELU if layer.relu else schema.ActivationFunctionType.NONE
        options = schema.FullyConnectedOptionsT(fusedActivationFunction=activation)
        kind = schema.BuiltinOptions.FullyConnectedOptions
        self._operator("FULLY_CONNECTED", inputs, layer.name, (1, layer.units), kind, options)

    def _pad(self, name: str, pad: int) -> None:
        """A separate operator, because TFLite's SAME pads less than PyTorch on the left and top for a stride of 2."""
        if pad == 0:
            return
        _, height, width, channels = self._shape
        amounts = np.array([[0, 0], [pad, pad], [pad, pad], [0, 0]], np.int32)
        margins = self._tensor(f"{name}/pad_amounts", amounts.shape, amounts)
        shape = (1, height + 2 * pad, width + 2 * pad, channels)
        self._operator("PAD", [margins], f"{name}/pad", shape, schema.BuiltinOptions.PadOptions, schema.PadOptionsT())

    def _weights(self, name: str, shape: Shape) -> list[int]:
        """Weights and bias; He's scale keeps activations at any depth near 1, away from overflow and denormals."""
        scale = np.float32(np.sqrt(2 / np.prod(shape[1:])))
        weights: F32 = self._rng.standard_normal(shape, dtype=np.float32) * scale
        bias: F32 = self._rng.standard_normal(shape[:1], dtype=np.float32) * np.float32(0.1)
        return [self._tensor(f"{name}/weights", shape, weights), self._tensor(f"{name}/bias", shape[:1], bias)]

    def _tensor(self, name: str, shape: Shape, data: npt.NDArray[Any] | None = None) -> int:
        kind = schema.TensorType.INT32 if data is not None and data.dtype == np.int32 else schema.TensorType.FLOAT32
        buffer = 0
        if data is not None:
            buffer = len(self._buffers)
            self._buffers.append(schema.BufferT(data=np.frombuffer(data.tobytes(), np.uint8)))
        self._tensors.append(schema.TensorT(shape=list(shape), type=kind, buffer=buffer, name=name))
        return len(self._tensors) - 1

    def _operator(self, code: str, inputs: list[int], name: str, shape: Shape, kind: int, options: Any) -> None:
        number = getattr(schema.BuiltinOperator, code)
        if number not in self._codes:
            self._codes.append(number)
        source, self._head, self._shape = self._head, self._tensor(name, shape), shape
        self._operators.append(
            schema.OperatorT(
                opcodeIndex=self._codes.index(number),
                inputs=[source, *inputs],
                outputs=[self._head],
                builtinOptionsType=kind,
                builtinOptions=options,
            )
        )


def _valid(size: Pair, kernel: Pair, stride: Pair) -> Pair:
    return (size[0] - kernel[0]) // stride[0] + 1, (size[1] - kernel[1]) // stride[1] + 1
