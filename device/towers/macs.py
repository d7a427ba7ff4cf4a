"""Counts the multiply-accumulates of one invocation of a .tflite model from the file, without running it.

Conventions: only convolutions and matrix products count, as in the published figures for comparison; scaling,
activation, pooling and moving data count 0. Stored shapes are used as they are, so a dynamic dimension counts as 1.
Only the first subgraph runs by itself, so operators that call another one are refused.
References: schema.fbs of LiteRT; the axes of each weight tensor are those of the built-in kernels.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from math import prod
from typing import Any, Final

from ai_edge_litert import schema_py_generated as schema

from device.errors import ModelContractError, ModelCorruptError

Shape = tuple[int, ...]

_IDENTIFIER: Final = b"TFL3"  # at byte 4 of every .tflite file
_WHERE: Final = "counting multiply-accumulates"
# What the flatbuffer reader raises if an offset or a length leads out of the file.
_READ_ERRORS: Final = (struct.error, IndexError, ValueError, TypeError, OverflowError, AttributeError)

# None of these convolves or multiplies matrices. An operator that is in neither table is refused, so that none is
# silently left out.
_FREE: Final = """
    ABS ADD ADD_N ARG_MAX ARG_MIN AVERAGE_POOL_2D BATCH_TO_SPACE_ND BITCAST BROADCAST_ARGS BROADCAST_TO CAST CEIL
    CONCATENATION COS CUMSUM DENSIFY DEPTH_TO_SPACE DEQUANTIZE DIV ELU EMBEDDING_LOOKUP EQUAL EXP EXPAND_DIMS FAKE_QUANT
    FILL FLOOR FLOOR_DIV FLOOR_MOD GATHER GATHER_ND GELU GREATER GREATER_EQUAL HARD_SWISH L2_NORMALIZATION L2_POOL_2D
    LEAKY_RELU LESS LESS_EQUAL LOG LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC LOG_SOFTMAX MAXIMUM MAX_POOL_2D MEAN
    MINIMUM MIRROR_PAD MUL NEG NOT_EQUAL ONE_HOT PACK PAD PADV2 POW PRELU QUANTIZE RANGE RANK REDUCE_ALL REDUCE_ANY
    REDUCE_MAX REDUCE_MIN REDUCE_PROD RELU RELU6 RELU_0_TO_1 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR
    RESIZE_NEAREST_NEIGHBOR REVERSE_SEQUENCE REVERSE_V2 ROUND RSQRT SELECT SELECT_V2 SHAPE SIGN SIN SLICE SOFTMAX
    SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM TANH
    TILE TOPK_V2 TRANSPOSE UNPACK WHERE ZEROS_LIKE
"""
FREE_OPERATORS: Final = frozenset(_FREE.split())


def count_macs(model_bytes: bytes) -> int:
    """Multiply-accumulates of one invocation of the model.

    Raises ModelCorruptError for bytes that are not a complete .tflite file, and ModelContractError for an operator
    whose cost is unknown or a shape that is wrong for its operator.
    """
    if model_bytes[4:8] != _IDENTIFIER:
        raise _corrupt("the bytes are not a TFLite model (identifier TFL3 missing)")
    try:
        model = schema.Model.GetRootAs(model_bytes, 0)
        _touch_buffers(model)
        codes = [_operator_name(model.OperatorCodes(i)) for i in range(model.OperatorCodesLength())]
        if model.SubgraphsLength() < 1:
            raise _corrupt("the model has no subgraph")
        graph = model.Subgraphs(0)
        if graph.OperatorsLength() < 1:
            raise _corrupt("the model has no operators")
        return sum(_operator_macs(graph, i, codes) for i in range(graph.OperatorsLength()))
    except _READ_ERRORS as error:
        raise _corrupt(f"the model cannot be read to its end ({type(error).__name__}: {error})") from error


def _corrupt(what: str) -> ModelCorruptError:
    return ModelCorruptError(what, where=_WHERE, remedy="Copy or build the model again")


def _touch_buffers(model: Any) -> None:
    """Raises ValueError if the weights reach beyond the end of the file, because it is truncated."""
    for i in range(model.BuffersLength()):
        model.Buffers(i).DataAsNumpy()


def _operator_name(code: Any) -> str:
    # Files written before there were more than 127 operators carry the number in the older, one-byte field only.
    number = max(code.DeprecatedBuiltinCode(), code.BuiltinCode())
    if number == schema.BuiltinOperator.CUSTOM:
        return f"CUSTOM {(code.CustomCode() or b'').decode()!r}"
    return _NAMES.get(number, f"number {number}")


def _operator_macs(graph: Any, index: int, codes: list[str]) -> int:
    operator = graph.Operators(index)
    name = codes[operator.OpcodeIndex()]
    if name in FREE_OPERATORS:
        return 0
    if name not in _COSTS:
        raise ModelContractError(
            f"operator {name} has no known cost",
            where=f"{_WHERE}, operator {index}",
            remedy="Convert the model without it, or add its cost to device/towers/macs.py",
        )
    inputs = [_shape(graph, operator.Inputs(i)) for i in range(operator.InputsLength())]
    outputs = [_shape(graph, operator.Outputs(i)) for i in range(operator.OutputsLength())]
    try:
        return _COSTS[name](operator, inputs, outputs[0])
    except IndexError as error:
        raise ModelContractError(
            f"operator {name} has inputs {inputs} and outputs {outputs}, from which its cost cannot be read",
            where=f"{_WHERE}, operator {index}",
            remedy="Convert the model again with fixed shapes",
        ) from error


def _shape(graph: Any, tensor: int) -> Shape:
    if tensor == -1:  # an optional input that is absent
        return ()
    if not 0 <= tensor < graph.TensorsLength():
        raise IndexError(f"tensor {tensor} of {graph.TensorsLength()}")
    table = graph.Tensors(tensor)
    shape = tuple(int(table.Shape(axis)) for axis in range(table.ShapeLength()))
    if any(size < 0 for size in shape):
        raise ValueError(f"tensor {tensor} has shape {shape}")
    return shape


# Each takes the operator, the shapes of its inputs and the shape of its first output; a missing axis is an IndexError.


def _conv_2d(_: Any, inputs: list[Shape], output: Shape) -> int:
    weights = inputs[1]  # [out, height, width, in / groups]
    return prod(output) * weights[1] * weights[2] * weights[3]


def _depthwise_conv_2d(_: Any, inputs: list[Shape], output: Shape) -> int:
    weights = inputs[1]  # [1, height, width, in * multiplier]
    return prod(output[:3]) * weights[1] * weights[2] * weights[3]


def _fully_connected(_: Any, inputs: list[Shape], output: Shape) -> int:
    weights = inputs[1]  # [out, in]
    return prod(output) * weights[1]


def _transpose_conv(_: Any, inputs: list[Shape], __: Shape) -> int:
    weights, source = inputs[1], inputs[2]  # [out, height, width, in]; each input value is spread over a whole kernel
    return prod(source) * weights[0] * weights[1] * weights[2]


def _conv_3d(_: Any, inputs: list[Shape], output: Shape) -> int:
    weights = inputs[1]  # [depth, height, width, in, out]
    return prod(output) * weights[0] * weights[1] * weights[2] * weights[3]


def _batch_matmul(operator: Any, inputs: list[Shape], output: Shape) -> int:
    options = schema.BatchMatMulOptions()
    table = operator.BuiltinOptions()
    if table is not None:
        options.Init(table.Bytes, table.Pos)
    transposed = table is not None and options.AdjX()
    return prod(output) * inputs[0][-2 if transposed else -1]


_COSTS: Final[dict[str, Callable[[Any, list[Shape], Shape], int]]] = {
    "CONV_2D": _conv_2d,
    "DEPTHWISE_CONV_2D": _depthwise_conv_2d,
    "FULLY_CONNECTED": _fully_connected,
    "TRANSPOSE_CONV": _transpose_conv,
    "CONV_3D": _conv_3d,
    "BATCH_MATMUL": _batch_matmul,
}
_NAMES: Final[dict[int, str]] = {
    number: name for name, number in vars(schema.BuiltinOperator).items() if not name.startswith("_")
}
