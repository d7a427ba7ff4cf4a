"""A .tflite model in LiteRT: float arrays in, float arrays out, whatever the model's own number format."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

try:
    from ai_edge_litert.interpreter import Interpreter
except ImportError:  # the same interpreter under its old name, on older systems
    from tflite_runtime.interpreter import Interpreter

from device.errors import ModelContractError, ModelCorruptError

Floats = npt.NDArray[np.float32]

# XNNPACK of this package gives the same integers on x86-64 and ARM; LiteRT's fallback kernels do not.
_SAME_EVERYWHERE = "ai_edge_litert"

_STDERR = 2
_REMEDY = "Install the bundle or the package again"


def quantize(values: Floats, scale: float, zero_point: int, dtype: Any) -> npt.NDArray[Any]:
    """Quantize real values: rounded to the nearest integer, clipped to the type's range."""
    limits = np.iinfo(dtype)
    scaled = values / scale
    np.rint(scaled, out=scaled)
    scaled += zero_point
    return np.clip(scaled, limits.min, limits.max, out=scaled).astype(dtype)


def dequantize(values: npt.NDArray[Any], scale: float, zero_point: int) -> Floats:
    """Dequantize a model's integers."""
    return ((values.astype(np.float32) - zero_point) * scale).astype(np.float32)


_greeted, _greeting = threading.Event(), threading.Lock()


@contextmanager
def _without_greeting() -> Iterator[None]:
    """Suppress the line that LiteRT's library prints on standard error for the first interpreter of a process.

    There is no setting for it. The reason for rejecting a model is raised, not printed.
    """
    if _greeted.is_set():
        yield
        return
    with _greeting:  # other threads wait, or one of theirs would be the first
        if _greeted.is_set():
            yield
            return
        with _without_stderr():
            yield
        _greeted.set()


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Nothing that this process writes on standard error is seen."""
    kept = None
    try:
        sys.stderr.flush()
        kept = os.dup(_STDERR)
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), _STDERR)
    except (OSError, ValueError, AttributeError):
        kept = None  # standard error is closed, so nobody reads it either
    try:
        yield
    finally:
        if kept is not None:
            os.dup2(kept, _STDERR)
            os.close(kept)


class Model:
    """One loaded model with a single input. Raises ModelCorruptError if LiteRT rejects the bytes."""

    def __init__(self, content: bytes, *, name: str, threads: int = 1) -> None:
        self.name = name
        try:
            with _without_greeting():
                self._interpreter = Interpreter(model_content=content, num_threads=threads)
                self._interpreter.allocate_tensors()
            inputs, self._outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        except (ValueError, RuntimeError) as error:
            what = f"LiteRT rejects it ({str(error) or 'it gives no reason'})"
            raise ModelCorruptError(what, where=name, remedy=_REMEDY) from error
        if len(inputs) != 1:
            raise ModelCorruptError(f"{len(inputs)} inputs instead of one", where=name, remedy=_REMEDY)
        self._input = inputs[0]
        if not self._outputs:
            raise ModelCorruptError("no outputs", where=name, remedy=_REMEDY)
        if not self._input["quantization"][0] and self._input["dtype"] is not np.float32:
            raise ModelCorruptError("its input is neither float32 nor quantized", where=name, remedy=_REMEDY)
        self._read_shapes()

    def _read_shapes(self) -> None:
        self.input_shape: tuple[int, ...] = tuple(int(n) for n in self._input["shape"])
        self.output_shapes: list[tuple[int, ...]] = [tuple(int(n) for n in o["shape"]) for o in self._outputs]

    @property
    def same_step(self) -> float | None:
        """The quantization step of its first output, if its integers are the same on every processor.

        Raises ValueError if LiteRT cannot tell, for example because a name is not text.
        """
        step = float(self._outputs[0]["quantization"][0])
        delegated = any(each["op_name"] == "DELEGATE" for each in self._interpreter._get_ops_details())
        return step if step and delegated and Interpreter.__module__.startswith(_SAME_EVERYWHERE) else None

    def resize(self, shape: tuple[int, ...]) -> None:
        """Use inputs of another shape with as many axes from now on, if every operator can.

        Raises ModelContractError.
        """
        try:
            if len(shape) != len(self.input_shape) or min(shape, default=0) < 1:
                raise ValueError("not as many axes of at least 1")  # LiteRT may crash on it
            self._interpreter.resize_tensor_input(self._input["index"], list(shape), strict=False)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            what = f"it cannot take {shape} instead of {self.input_shape} ({error})"
            raise ModelContractError(what, where=self.name, remedy="Give a bundle made for that") from error
        self._input, self._outputs = self._interpreter.get_input_details()[0], self._interpreter.get_output_details()
        self._read_shapes()

    def __call__(self, values: Floats) -> list[Floats]:
        """Run once on an array of the model's input shape; return all outputs as real numbers."""
        scale, zero_point = self._input["quantization"]
        if scale:
            values = quantize(values, scale, zero_point, self._input["dtype"])
        self._interpreter.set_tensor(self._input["index"], values)
        self._interpreter.invoke()
        return [self._read(output) for output in self._outputs]

    def _read(self, output: dict[str, Any]) -> Floats:
        values = self._interpreter.get_tensor(output["index"])
        scale, zero_point = output["quantization"]
        return dequantize(values, scale, zero_point) if scale else np.asarray(values, np.float32)
