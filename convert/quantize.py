"""Keras towers to TFLite: float32 as they are, int8 throughout with scales from representative data."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Literal

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from device.errors import ModelContractError

Floats = npt.NDArray[np.float32]
Format = Literal["float32", "int8"]


def to_tflite(tower: keras.Model, examples: Floats, fmt: Format) -> bytes:
    """One tower as a .tflite file with batch size 1 and a fixed input length.

    examples: [n, ticks, ...] real inputs of that length, silence and still pictures among them; int8 takes its scales
    from them. int8 is full-integer, input and output too; raises ModelContractError where something is left in
    floating point, which the converter does without a word.
    """
    inputs = keras.Input(batch_shape=(1, *examples.shape[1:]), name=f"{tower.name}_in")
    with _quiet():
        model = keras.Model(inputs, tower(inputs, training=False))
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        if fmt == "int8":

            def representative() -> Iterator[list[Floats]]:
                yield from ([example[None]] for example in examples)

            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = representative
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = tf.int8
            converter.inference_output_type = tf.int8
        content = bytes(converter.convert())
    if fmt == "int8":
        _require_integers(content, where=tower.name)
    return content


def _require_integers(content: bytes, *, where: str) -> None:
    tensors = Interpreter(model_content=content).get_tensor_details()
    others = sorted({np.dtype(tensor["dtype"]).name for tensor in tensors} - {"int8", "int32"})  # biases, shapes: int32
    if others:
        raise ModelContractError(
            f"not integers: {', '.join(others)}", where=f"int8 of tower {where}",
            remedy="Build the tower from layers that fold into int8 only",
        )  # fmt: skip


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The converter tells its progress on stdout and, past Python, on file descriptor 2; a failure still raises."""
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
