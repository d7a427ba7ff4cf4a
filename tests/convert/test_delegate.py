"""Which operators XNNPACK supports: all of the shipped encoders', and no unknown ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from convert.delegate import _left_over, left_over
from convert.quantize import to_tflite
from device.bundles.bundle import DEFAULT_BUNDLE
from device.errors import ModelContractError
from tests.models.bundles import looping_model


@pytest.mark.parametrize("tower", ["lips", "audio"])
@pytest.mark.parametrize("fmt", ["float32", "float16", "dynamic", "int8"])
def test_xnnpack_takes_every_operator_of_every_format(fmt: str, tower: str, built: Path) -> None:
    assert left_over((built / fmt / f"{tower}.tflite").read_bytes()) == []


@pytest.mark.parametrize("tower", ["lips", "audio"])
def test_xnnpack_takes_every_operator_of_the_shipped_towers(tower: str) -> None:
    assert left_over((DEFAULT_BUNDLE / f"{tower}.tflite").read_bytes()) == []


def test_a_model_that_it_takes_nothing_of() -> None:
    assert left_over(looping_model(endless=True)) is None


class Sorted(keras.Model):
    """Convolution, something that XNNPACK does not know, convolution."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.before, self.after = keras.layers.Conv1D(8, 3), keras.layers.Conv1D(4, 3)

    def call(self, values: Any, training: bool | None = None) -> Any:
        return self.after(tf.cumsum(self.before(values), axis=1))


def sorted_model(fmt: Any) -> bytes:
    model = Sorted(name="sorted")
    given = np.random.default_rng(0).standard_normal((4, 16, 4)).astype(np.float32)
    model(given)
    return to_tflite(model, given, fmt)


def test_what_it_leaves_in_the_middle_is_named() -> None:
    assert left_over(sorted_model("float32")) == ["CUMSUM"]


def test_an_int8_network_that_it_cannot_take_is_refused() -> None:
    with pytest.raises(ModelContractError, match=r"int8 of sorted: (XNNPACK does not take|not integers).*"):
        sorted_model("int8")


def operator(name: str, inputs: list[int], outputs: list[int]) -> dict[str, Any]:
    return {"op_name": name, "inputs": np.array(inputs), "outputs": np.array(outputs)}


CHAIN = [operator("A", [0], [1]), operator("B", [1, 9], [2]), operator("C", [2], [3]), operator("D", [3, 1], [4])]


@pytest.mark.parametrize(
    ("delegates", "left"),
    [
        ([([0, 9], [4])], []),
        ([([0], [1]), ([2], [4]), ([1, 9], [2])], []),
        ([([1, 9], [3])], ["A", "D"]),
        ([([0], [1])], ["B", "C", "D"]),
        ([([2, 1], [4])], ["A", "B"]),
    ],
)
def test_walking_back_from_what_a_delegate_gives(delegates: list[tuple[list[int], list[int]]], left: list[str]) -> None:
    assert _left_over([*CHAIN, *(operator("DELEGATE", *ends) for ends in delegates)]) == left


def test_no_delegate_at_all() -> None:
    assert _left_over(CHAIN) is None
