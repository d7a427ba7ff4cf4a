"""Golden vectors: an input for each model of a bundle, and the output that it must reproduce on the device."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from device.bundles.model_kinds import Kind
from device.errors import ModelContractError, ModelCorruptError
from device.litert import Floats, Model

GOLDEN = "golden.npz"

# Where a model's output is the same on every processor, a newer LiteRT may at most round a tie the other way.
_MAX_STEPS, _MAX_SHARE = 1, 0.01
# Elsewhere, relative to the expected vector's norm. tflite-runtime 2.14 and kernels other than XNNPACK's round
# differently and are off by 0.03, as far as int8 is from float32; another model's output is off by about 1.
_TOLERANCE = 0.05
_MAX_ARRAY_BYTES = 1 << 24  # the largest of a model so far has half a megabyte
_REMEDY = "Install the bundle again"


def read_golden(content: bytes, kind: Kind, where: str) -> dict[str, tuple[Floats, Floats]]:
    """Return input and expected output by the stem of the model's file. Raises ModelCorruptError."""
    stems = [Path(file).stem for file in kind.files]
    try:
        _check_sizes(content, [f"{stem}_{end}" for stem in stems for end in ("in", "out")])
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {
                stem: (np.asarray(arrays[f"{stem}_in"], np.float32), np.asarray(arrays[f"{stem}_out"], np.float32))
                for stem in stems
            }
    except Exception as error:  # numpy, zipfile and zlib raise more for a damaged archive than they document
        what = f"golden vectors cannot be read ({str(error)[:200]})"  # zipfile may quote half of the archive
        raise ModelCorruptError(what, where=where, remedy=_REMEDY) from error


def _check_sizes(content: bytes, names: Iterable[str]) -> None:
    """Raises ValueError for an array that would take too much memory, before it is loaded."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in names:
            member = archive.getinfo(f"{name}.npy")
            # For other compression methods, Python unpacks whole blocks, however long they become.
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{name} is packed by method {member.compress_type}, allowed is deflate")
            with archive.open(member) as stream:
                version = np.lib.format.read_magic(stream)
                read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
                shape, _, dtype = read[version](stream)
            # numpy allocates what the header says, zipfile what the archive's directory says
            if max(math.prod(shape) * dtype.itemsize, member.file_size) > _MAX_ARRAY_BYTES:
                raise ValueError(f"{name} would take more than {_MAX_ARRAY_BYTES >> 20} MB")


def check_golden(model: Model, given: Floats, expected: Floats, where: str) -> None:
    """Check that a model reproduces its output. Raises ModelContractError, ModelCorruptError."""
    if given.shape != model.input_shape or expected.shape != model.output_shapes[0]:
        raise ModelContractError("golden vectors do not fit the models", where=where, remedy=_REMEDY)
    try:
        answer, step = model(given)[0], model.same_step
    except (ValueError, RuntimeError) as failure:
        what = f"the models cannot be run ({failure})"
        raise ModelCorruptError(what, where=where, remedy=_REMEDY) from failure
    if differs := difference(answer, expected, step):
        raise ModelCorruptError(f"golden vectors differ by {differs}", where=where, remedy=_REMEDY)


def difference(answer: Floats, expected: Floats, step: float | None) -> str:
    """Describe how far an output is from the expected one; empty if it is close enough.

    `step` is the quantization step, if the integers must be the same on every processor.
    """
    if step is None:
        share = distance(answer, expected)
        return "" if share < _TOLERANCE else f"{share:.3f}, allowed is {_TOLERANCE}"
    steps = np.abs(answer - expected) / step
    most, share = float(steps.max(initial=0)), float(np.mean(~(steps < 0.5)))
    if most < _MAX_STEPS + 0.5 and share <= _MAX_SHARE:
        return ""
    return f"up to {most:.0f} steps in {share:.1%} of the values, allowed is {_MAX_STEPS} in {_MAX_SHARE:.0%}"


def distance(answer: Floats, expected: Floats) -> float:
    """Distance of an output from the expected one, relative to the expected one's norm."""
    return float(np.linalg.norm(answer - expected) / max(float(np.linalg.norm(expected)), 1e-9))
