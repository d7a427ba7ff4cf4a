"""TFLite of the towers: float32 is the Keras tower, int8 is integers throughout and close to it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from convert.models.towers import examples
from convert.pack import golden_input
from convert.quantize import to_tflite
from device.errors import ModelContractError
from device.litert import Model
from device.sync.curve import unit
from train.data.shards import load_clips

Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def inputs(shards: Path) -> dict[str, Floats]:
    """Stretches that are not those of the build."""
    found = examples([clip for clip in load_clips([shards]) if clip.split == "valid"], 4)
    return {Path(file).stem: given for file, given in found.items()}


def load(built: Path, fmt: str, tower: str) -> Model:
    return Model((built / fmt / f"{tower}.tflite").read_bytes(), name=tower)


@pytest.mark.parametrize("tower", ["lips", "audio"])
def test_float32_is_the_keras_tower(tower: str, built: Path, model: Any, inputs: dict[str, Floats]) -> None:
    converted = load(built, "float32", tower)
    for example in inputs[tower]:
        expected = np.asarray(getattr(model, tower)(example[None], training=False))
        np.testing.assert_allclose(converted(example[None])[0], expected, atol=1e-4 * float(np.abs(expected).max()))


@pytest.mark.parametrize("tower", ["lips", "audio"])
def test_int8_points_where_float32_points(tower: str, built: Path, inputs: dict[str, Floats]) -> None:
    reference, candidate = (load(built, fmt, tower) for fmt in ("float32", "int8"))
    cosines = [
        (unit(reference(example[None])[0][0]) * unit(candidate(example[None])[0][0])).sum(-1)
        for example in inputs[tower]
    ]
    assert np.mean(cosines) > 0.99
    assert np.min(cosines) > 0.9


@pytest.mark.parametrize("tower", ["lips", "audio"])
def test_int8_holds_integers_only(tower: str, built: Path) -> None:
    interpreter = Interpreter(model_path=str(built / "int8" / f"{tower}.tflite"))
    interpreter.allocate_tensors()
    assert interpreter.get_input_details()[0]["dtype"] is np.int8
    assert interpreter.get_output_details()[0]["dtype"] is np.int8
    kinds = {np.dtype(tensor["dtype"]).name for tensor in interpreter.get_tensor_details()}
    assert kinds <= {"int8", "int32"}, "int32: biases and shapes"
    operators = {operator["op_name"] for operator in interpreter._get_ops_details()}
    assert not operators & {"QUANTIZE", "DEQUANTIZE", "MUL", "ADD", "RSQRT", "SUB"}, "batch normalization is folded"


@pytest.mark.parametrize("tower", ["lips", "audio"])
def test_int8_takes_its_input_scale_from_the_examples(tower: str, built: Path, shards: Path) -> None:
    given = examples([clip for clip in load_clips([shards]) if clip.split == "train"], 12)[f"{tower}.tflite"]
    interpreter = Interpreter(model_path=str(built / "int8" / f"{tower}.tflite"))
    scale, zero_point = interpreter.get_input_details()[0]["quantization"]
    low, high = (float((end - zero_point) * scale) for end in (-128, 127))
    assert low == pytest.approx(float(given.min()), abs=2 * scale)
    assert high == pytest.approx(float(given.max()), abs=2 * scale)


def test_one_second_goes_in_and_one_batch(built: Path) -> None:
    assert load(built, "int8", "lips").input_shape == (1, 29, 64, 64)
    assert load(built, "int8", "lips").output_shapes == [(1, 25, 128)]
    assert load(built, "int8", "audio").input_shape == (1, 132, 40)
    assert load(built, "int8", "audio").output_shapes == [(1, 100, 128)]


@pytest.mark.parametrize("tower", ["lips", "audio"])
@pytest.mark.parametrize(("fmt", "cosine", "size"), [("float16", 0.9999, 0.55), ("dynamic", 0.99, 0.35)])
def test_the_formats_between(
    fmt: str, cosine: float, size: float, tower: str, built: Path, inputs: dict[str, Floats]
) -> None:
    """Weights are small, what goes in and comes out is float32, and the answer is nearly the same."""
    file = f"{tower}.tflite"
    assert (built / fmt / file).stat().st_size < size * (built / "float32" / file).stat().st_size
    details = Interpreter(model_path=str(built / fmt / file))
    assert details.get_input_details()[0]["dtype"] is details.get_output_details()[0]["dtype"] is np.float32
    wanted = np.float16 if fmt == "float16" else np.int8
    assert any(tensor["dtype"] is wanted for tensor in details.get_tensor_details())
    reference, candidate = (load(built, each, tower) for each in ("float32", fmt))
    for example in inputs[tower]:
        a, b = (unit(model(example[None])[0][0]) for model in (reference, candidate))
        assert (a * b).sum(-1).min() > cosine


def test_both_formats_answer_the_golden_input_alike(built: Path) -> None:
    for tower in ("lips", "audio"):
        reference, candidate = (load(built, fmt, tower) for fmt in ("float32", "int8"))
        given = golden_input(reference.input_shape)
        a, b = reference(given)[0], candidate(given)[0]
        assert np.linalg.norm(a - b) < 0.15 * np.linalg.norm(a)


class Floating(keras.Model):
    """A tower that cannot be made of integers."""

    def call(self, values: Any, training: bool | None = None) -> Any:
        return tf.abs(tf.signal.rfft(values))


def test_a_tower_that_needs_floating_point_is_refused() -> None:
    with pytest.raises(ModelContractError, match=r"not integers: .*complex64"):
        to_tflite(Floating(name="floating"), np.ones((2, 4, 16), np.float32), "int8")


class Broken(keras.Model):  # type: ignore[misc, unused-ignore]
    """A tower that fails when it is traced."""

    def call(self, values: Any, training: bool | None = None) -> Any:
        raise NotImplementedError("out of order")


def test_standard_error_is_given_back_after_a_failure(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(NotImplementedError, match="out of order"):
        to_tflite(Broken(name="broken"), np.zeros((2, 4, 16), np.float32), "float32")
    capfd.readouterr()
    os.write(2, b"heard\n")
    assert capfd.readouterr().err == "heard\n"


def test_the_converter_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    tower = keras.Sequential([keras.Input((3, 2)), keras.layers.Dense(2)], name="small")
    to_tflite(tower, np.zeros((2, 3, 2), np.float32), "float32")
    seen = capfd.readouterr()
    assert seen.out == "" and "Saved" not in seen.err and "Converter" not in seen.err
