"""SyncNet's towers: published shapes and costs, and the arithmetic against an independent numpy forward pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from ai_edge_litert.interpreter import Interpreter

from device.bench.syncnet import (
    AUDIO_INPUT,
    AUDIO_LAYERS,
    VIDEO_INPUT,
    VIDEO_LAYERS,
    Conv,
    Layer,
    Pool,
    build_audio_tower,
    build_video_tower,
    measure_syncnet,
)
from device.bench.timing import best_of
from device.litert import Model
from device.towers.macs import count_macs

F32 = npt.NDArray[np.float32]

# LiteRT warns that keeping the tensors between the layers is for debugging, which is what the tests do.
pytestmark = pytest.mark.filterwarnings("ignore:.*experimental_preserve_all_tensors")

# Height, width and channels after each layer, worked out by hand from the published kernels, strides and paddings.
VIDEO_SHAPES = {
    "conv1": (109, 109, 96),
    "pool1": (54, 54, 96),
    "conv2": (26, 26, 256),
    "pool2": (13, 13, 256),
    "conv3": (13, 13, 256),
    "conv4": (13, 13, 256),
    "conv5": (13, 13, 256),
    "pool5": (6, 6, 256),
    "conv6": (1, 1, 512),
    "fc7": (512,),
    "fc8": (1024,),
}
AUDIO_SHAPES = {
    "conv1": (13, 20, 64),
    "conv2": (13, 20, 192),
    "pool2": (11, 9, 192),
    "conv3": (11, 9, 384),
    "conv4": (11, 9, 256),
    "conv5": (11, 9, 256),
    "pool5": (5, 4, 256),
    "conv6": (1, 1, 512),
    "fc7": (512,),
    "fc8": (1024,),
}


@dataclass
class Tower:
    build: Callable[[int], bytes]
    input_shape: tuple[int, ...]
    layers: tuple[Layer, ...]
    shapes: dict[str, tuple[int, ...]]
    gmac: float
    weights: int  # of the published network, without batch norm's
    model: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.model = self.build(7)

    def window(self) -> F32:
        return np.random.default_rng(1).standard_normal(self.input_shape, dtype=np.float32)

    def interpreter(self) -> Any:
        loaded = Interpreter(model_content=self.model, num_threads=1, experimental_preserve_all_tensors=True)
        loaded.allocate_tensors()
        return loaded


@pytest.fixture(scope="module", params=["video", "audio"])
def tower(request: pytest.FixtureRequest) -> Tower:
    if request.param == "video":
        kernels = 96 * 735 + 256 * 25 * 96 + 3 * 256 * 9 * 256 + 512 * 36 * 256 + 512 * 512 + 1024 * 512
        biases = 96 + 256 + 3 * 256 + 512 + 512 + 1024
        return Tower(build_video_tower, VIDEO_INPUT, VIDEO_LAYERS, VIDEO_SHAPES, 1.56, kernels + biases)
    kernels = 64 * 9 + 192 * 9 * 64 + 384 * 9 * 192 + 256 * 9 * 384 + 256 * 9 * 256 + 512 * 20 * 256 + 512 * 1536
    biases = 64 + 192 + 384 + 256 + 256 + 512 + 512 + 1024
    return Tower(build_audio_tower, AUDIO_INPUT, AUDIO_LAYERS, AUDIO_SHAPES, 0.24, kernels + biases)


def test_cost_is_the_published_one(tower: Tower) -> None:
    # The audio tower's exact figure is 0.24398; 1 % of the two published digits would be finer than their rounding.
    assert count_macs(tower.model) / 1e9 == pytest.approx(tower.gmac, rel=0.01, abs=0.005)


def test_cost_is_exact() -> None:
    video = 109**2 * 96 * 735 + 26**2 * 256 * 25 * 96 + 3 * 13**2 * 256 * 9 * 256 + 512 * 36 * 256 + 512 * 1536
    audio = 260 * 9 * (64 + 64 * 192) + 99 * 9 * (192 * 384 + 384 * 256 + 256 * 256) + 512 * 20 * 256 + 512 * 1536
    assert count_macs(build_video_tower(0)) == video
    assert count_macs(build_audio_tower(0)) == audio


def test_shapes_after_each_layer_are_the_published_ones(tower: Tower) -> None:
    found = {detail["name"]: tuple(detail["shape"][1:]) for detail in tower.interpreter().get_tensor_details()}
    assert {name: found[name] for name in tower.shapes} == tower.shapes
    assert [layer.name for layer in tower.layers] == list(tower.shapes)


def test_one_embedding_of_finite_values(tower: Tower) -> None:
    loaded = tower.interpreter()
    (source,), (target,) = loaded.get_input_details(), loaded.get_output_details()
    assert tuple(source["shape"]) == tower.input_shape
    assert source["dtype"] == target["dtype"] == np.float32
    loaded.set_tensor(source["index"], tower.window())
    loaded.invoke()
    embedding = loaded.get_tensor(target["index"])
    assert embedding.shape == (1, 1024)
    assert np.isfinite(embedding).all()
    assert 0.1 < embedding.std() < 10  # neither faded out nor blown up on the way
    assert (embedding < 0).any()  # no ReLU at the end


def test_every_layer_computes_what_numpy_does(tower: Tower) -> None:
    loaded = tower.interpreter()
    loaded.set_tensor(loaded.get_input_details()[0]["index"], tower.window())
    loaded.invoke()
    index = {detail["name"]: detail["index"] for detail in loaded.get_tensor_details() if detail["name"]}

    values = tower.window()[0]
    for layer in tower.layers:
        if isinstance(layer, Pool):
            values = pool(values, layer)
        else:
            weights = loaded.get_tensor(index[f"{layer.name}/weights"])
            bias = loaded.get_tensor(index[f"{layer.name}/bias"])
            values = conv(values, layer, weights, bias) if isinstance(layer, Conv) else weights @ values.ravel() + bias
            values = values if layer.name == "fc8" else np.maximum(values, 0)
        assert values.shape == tower.shapes[layer.name]
    np.testing.assert_allclose(loaded.get_tensor(loaded.get_output_details()[0]["index"])[0], values, atol=1e-3)


def patches(values: F32, layer: Conv | Pool) -> F32:
    """[height, width, channels] to [height', width', channels, kernel height, kernel width]; pads on all four sides."""
    padded = np.pad(values, [(layer.pad, layer.pad), (layer.pad, layer.pad), (0, 0)])
    windows: F32 = np.lib.stride_tricks.sliding_window_view(padded, layer.kernel, axis=(0, 1))
    return windows[:: layer.stride[0], :: layer.stride[1]]


def conv(values: F32, layer: Conv, weights: F32, bias: F32) -> F32:
    product: F32 = np.tensordot(patches(values, layer), weights, axes=([2, 3, 4], [3, 1, 2]))
    return product + bias


def pool(values: F32, layer: Pool) -> F32:
    largest: F32 = patches(values, layer).max(axis=(3, 4))
    return largest


def test_number_of_weights_is_the_published_one(tower: Tower) -> None:
    found = [d for d in tower.interpreter().get_tensor_details() if d["name"].endswith(("/weights", "/bias"))]
    assert sum(int(np.prod(detail["shape"])) for detail in found) == tower.weights
    assert {detail["dtype"] for detail in found} == {np.float32}


def test_same_seed_same_bytes(tower: Tower) -> None:
    assert tower.build(7) == tower.model
    assert tower.build(8) != tower.model


def test_measured_cost_is_for_25_windows_a_second() -> None:
    video, audio = measure_syncnet(repeat=1, min_time_s=0.0)
    assert video.mmac_per_s == pytest.approx(25 * 1558.2, rel=0.01)
    assert audio.mmac_per_s == pytest.approx(25 * 244.0, rel=0.01)
    assert video.ms_per_s > audio.ms_per_s > 0

    tower = Model(build_audio_tower(0), name="audio tower")
    window = np.ones(AUDIO_INPUT, np.float32)
    once = best_of(lambda: tower(window), repeat=3, min_time_s=0.0)
    assert 1 / 5 < audio.ms_per_s / (25_000 * once.min_s) < 5  # wide, for a busy machine; a forgotten 25 is wider
