"""LiteRT behind `Model`: quantizing and dequantizing, and invalid models."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import example, given, settings
from hypothesis import strategies as st

from device.bench.syncnet import Dense, _Graph
from device.errors import ModelContractError, ModelCorruptError
from device.litert import Model, dequantize, quantize
from tests.models.bundles import audio_encoder, head, identity_int8, reshape

SCALES = st.floats(1e-4, 10)
ZERO_POINTS = st.integers(-128, 127)


def test_a_value_beyond_the_range_is_clipped_and_never_wraps() -> None:
    assert quantize(np.array([26.1, -26.1], np.float32), 0.102, 0, np.int8).tolist() == [127, -128]
    assert quantize(np.array([26.1, -26.1], np.float32), 0.102, 0, np.uint8).tolist() == [255, 0]
    assert quantize(np.array([1e30, -1e30], np.float32), 0.102, -7, np.int8).tolist() == [127, -128]


def test_values_are_rounded_to_the_nearest_not_cut() -> None:
    assert quantize(np.array([0.9, 1.1, -0.9, -1.1, 0.4], np.float32), 1.0, 3, np.int8).tolist() == [4, 4, 2, 2, 3]


@given(SCALES, ZERO_POINTS, st.integers(0, 2**32 - 1))
def test_there_and_back_is_within_half_a_step(scale: float, zero_point: int, seed: int) -> None:
    low, high = (-128 - zero_point) * scale, (127 - zero_point) * scale
    values = np.random.default_rng(seed).uniform(low, high, 64).astype(np.float32)
    back = dequantize(quantize(values, scale, zero_point, np.int8), scale, zero_point)
    assert np.abs(back - values).max() <= scale * 0.5 + 1e-5 * max(abs(low), abs(high))


@given(SCALES, ZERO_POINTS)
def test_every_integer_comes_back_as_itself(scale: float, zero_point: int) -> None:
    integers = np.arange(-128, 128).astype(np.int8)
    assert np.array_equal(quantize(dequantize(integers, scale, zero_point), scale, zero_point, np.int8), integers)


def test_a_quantized_model_speaks_real_numbers() -> None:
    model = Model(identity_int8(0.102, 5), name="identity")
    answer = model(np.array([[26.1, -26.1, 0.0, 1.0]], np.float32))[0]
    assert answer.dtype == np.float32
    assert answer[0] == pytest.approx([0.102 * 122, 0.102 * -133, 0.0, 0.102 * 10], abs=1e-5)


def test_a_float_model_keeps_its_shapes_and_its_answers() -> None:
    content = audio_encoder()
    model = Model(content, name="audio")
    assert model.input_shape == (1, 52, 40) and model.output_shapes == [(1, 20, 8)]
    values = np.random.default_rng(0).standard_normal(model.input_shape).astype(np.float32)
    assert np.array_equal(model(values)[0], Model(content, name="again")(values)[0])


def test_an_answer_is_not_overwritten_by_the_next_one() -> None:
    model = Model(audio_encoder(), name="audio")
    rng = np.random.default_rng(0)
    first = model(rng.standard_normal(model.input_shape).astype(np.float32))[0]
    kept = first.copy()
    model(rng.standard_normal(model.input_shape).astype(np.float32))
    assert np.array_equal(first, kept)


@pytest.mark.parametrize("content", [b"", b"x", b"TFL3" * 200, bytes(1000), b"PK\x03\x04" + bytes(64)])
def test_bytes_that_are_no_model_are_corrupt(content: bytes) -> None:
    with pytest.raises(ModelCorruptError, match=r"^towers/lips\.tflite: LiteRT rejects it .*Install"):
        Model(content, name="towers/lips.tflite")


def test_a_truncated_model_is_corrupt() -> None:
    content = audio_encoder()
    for share in (0.1, 0.5, 0.9, 0.99):
        with pytest.raises(ModelCorruptError):
            Model(content[: int(len(content) * share)], name="cut")


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1))
@example(164229)  # a name that is not UTF-8
def test_a_damaged_model_never_raises_anything_else(seed: int) -> None:
    dice = random.Random(seed)
    content = bytearray(identity_int8(0.1, 0))
    for _ in range(dice.randint(1, 6)):
        content[dice.randrange(len(content))] = dice.randrange(256)
    try:
        Model(bytes(content), name="damaged")
    except ModelCorruptError as error:
        assert error.where == "damaged"


def repacked(content: bytes, change: Callable[[Any], None]) -> bytes:
    """The model with its first subgraph changed."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))
    change(model.subgraphs[0])
    builder = flatbuffers.Builder(len(content) + 4096)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def test_two_inputs_are_refused() -> None:
    graph = _Graph((1, 4), np.random.default_rng(0))
    graph.add(Dense("dense", 4, relu=False))
    second = graph._tensor("second", (1, 4))
    content = graph.pack()
    assert Model(content, name="one").input_shape == (1, 4)
    with pytest.raises(ModelCorruptError, match="2 inputs instead of one"):
        Model(repacked(content, lambda subgraph: setattr(subgraph, "inputs", [0, second])), name="two")


def test_no_outputs_are_refused() -> None:
    content = repacked(identity_int8(0.1, 0), lambda subgraph: setattr(subgraph, "outputs", []))
    with pytest.raises(ModelCorruptError, match="no outputs"):
        Model(content, name="mute")


def test_integers_without_a_scale_are_refused() -> None:
    graph = _Graph((1, 4), np.random.default_rng(0))
    reshape(graph, (1, 4))
    for tensor in graph._tensors[0], graph._tensors[graph._head]:
        tensor.type = schema.TensorType.INT32
    with pytest.raises(ModelCorruptError, match="neither float32 nor quantized"):
        Model(graph.pack(), name="integers")


def test_a_model_takes_another_shape_where_it_can() -> None:
    model = Model(head(lags=21), name="head")
    given = np.random.default_rng(0).standard_normal((1, 5, 21, 4), np.float32)
    whole = model(given)[0]
    model.resize((1, 2, 9, 4))
    assert (model.input_shape, model.output_shapes) == ((1, 2, 9, 4), [(1, 2, 9, 1)])
    np.testing.assert_allclose(model(np.ascontiguousarray(given[:, :2, :9]))[0], whole[:, :2, :9], atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 41, 40), (1, 40), (), (1, 0, 40), (1, -40, 40)])
def test_a_shape_that_cannot_be(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelContractError, match="audio: it cannot take"):
        Model(audio_encoder(), name="audio").resize(shape)


def test_the_library_prints_no_banner() -> None:
    """In a process of its own, as it greets once only."""
    code = """
from device.features.model_download import require_face_model
from device.litert import Model
Model(require_face_model().read_bytes(), name="face detector")
import os; os.write(2, b"still there")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "still there"


def test_nor_does_it_when_many_threads_load_models_at_once() -> None:
    code = """
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from device.features.model_download import require_face_model
from device.litert import Model
content, together = require_face_model().read_bytes(), Barrier(8)
sys.setswitchinterval(1e-6)
def load(number):
    together.wait()
    return Model(content, name="face detector")
with ThreadPoolExecutor(8) as pool:
    assert len(list(pool.map(load, range(8)))) == 8
"""
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stderr == ""
