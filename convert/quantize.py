"""Converts Keras networks to TFLite in four number formats.

float32: unchanged. float16: weights, which the processor widens again. dynamic: int8 weights and float32 activations.
int8: everything, with scales from representative data.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Literal, get_args

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from convert.delegate import left_over
from device.errors import ModelContractError

Floats = npt.NDArray[np.float32]
Format = Literal["float32", "float16", "dynamic", "int8"]
FORMATS: tuple[Format, ...] = get_args(Format)


def to_tflite(tower: keras.Model, examples: Floats, fmt: Format) -> bytes:
    """Convert one network to a .tflite file with batch size 1 and a fixed input length.

    examples: [n, ticks, ...] real inputs of that length, including silence and still images; int8 takes its scales from
    them. int8 is full-integer, including input and output. Raises ModelContractError if something is left in floating
    point, which the converter does silently, or to slower kernels than XNNPACK's.
    """
    inputs = keras.Input(batch_shape=(1, *examples.shape[1:]), name=f"{tower.name}_in")
    with _quiet():
        model = keras.Model(inputs, tower(inputs, training=False))
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        if fmt != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if fmt == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if fmt == "int8":

            def representative() -> Iterator[list[Floats]]:
                yield from ([example[None]] for example in examples)

            converter.representative_dataset = representative
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = tf.int8
            converter.inference_output_type = tf.int8
        content = bytes(converter.convert())
    if fmt == "int8":
        _require_integers(content, where=tower.name)
        require_xnnpack(content, where=f"int8 of {tower.name}")
    return content


def require_xnnpack(content: bytes, *, where: str) -> None:
    """Raises ModelContractError if XNNPACK leaves operators out; passes if this LiteRT has no XNNPACK."""
    if others := left_over(content):
        raise ModelContractError(
            f"XNNPACK does not support {', '.join(others)}", where=where,
            remedy="Build the network from layers that it has int8 kernels for",
        )  # fmt: skip


def _require_integers(content: bytes, *, where: str) -> None:
    tensors = Interpreter(model_content=content).get_tensor_details()
    # biases and shapes are int32
    others = sorted({np.dtype(tensor["dtype"]).name for tensor in tensors} - {"int8", "int32"})
    if others:
        raise ModelContractError(
            f"not integers: {', '.join(others)}", where=f"int8 of {where}",
            remedy="Build the tower from layers that fold into int8 only",
        )  # fmt: skip


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the converter, which prints on stdout and, past Python, on file descriptor 2. Failures still raise."""
    sys.stderr.flush()
    saved = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        sys.stderr.flush()
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
