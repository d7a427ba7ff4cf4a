"""Counts against hand calculation, operator by operator, and files that are not what they claim to be.

Each model is built from the flatbuffer's own objects, with only the fields that the count reads.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st

from device.errors import ModelContractError, ModelCorruptError
from device.towers.macs import FREE_OPERATORS, count_macs

Op = tuple[str, list[tuple[int, ...]], tuple[int, ...], Any]  # name, input shapes, output shape, options


def pack(*ops: Op, custom_code: str | None = None, buffers: int = 1) -> bytes:
    tensors: list[Any] = []
    operators: list[Any] = []
    codes: list[Any] = []
    for name, input_shapes, output_shape, options in ops:
        first = len(tensors)
        tensors += [schema.TensorT(shape=list(shape), name=name) for shape in [*input_shapes, output_shape]]
        number = getattr(schema.BuiltinOperator, name)
        codes.append(
            schema.OperatorCodeT(deprecatedBuiltinCode=min(number, 127), builtinCode=number, customCode=custom_code)
        )
        kind = schema.BuiltinOptions.BatchMatMulOptions if options else schema.BuiltinOptions.NONE
        operators.append(
            schema.OperatorT(
                opcodeIndex=len(codes) - 1,
                inputs=list(range(first, first + len(input_shapes))),
                outputs=[first + len(input_shapes)],
                builtinOptionsType=kind,
                builtinOptions=options,
            )
        )
    graph = schema.SubGraphT(tensors=tensors, inputs=[0], outputs=[len(tensors) - 1], operators=operators)
    weights = [schema.BufferT(data=np.arange(64, dtype=np.uint8)) for _ in range(buffers)]
    return finish(schema.ModelT(version=3, operatorCodes=codes, subgraphs=[graph], buffers=weights))


def finish(model: Any) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


CONV: Op = ("CONV_2D", [(1, 11, 13, 4), (6, 3, 5, 4), (6,)], (1, 5, 5, 6), None)
ADJ_X = schema.BatchMatMulOptionsT(adjX=True)
ADJ_Y = schema.BatchMatMulOptionsT(adjY=True)


@pytest.mark.parametrize(
    ("op", "macs"),
    [
        (CONV, 5 * 5 * 6 * 3 * 5 * 4),
        # 2 groups: the filter sees half of the channels
        (("CONV_2D", [(1, 8, 8, 4), (6, 3, 3, 2), (6,)], (1, 8, 8, 6), None), 64 * 6 * 9 * 2),
        # depth multiplier 2
        (("DEPTHWISE_CONV_2D", [(1, 8, 9, 4), (1, 3, 3, 8), (8,)], (1, 8, 9, 8), None), 72 * 9 * 8),
        (("FULLY_CONNECTED", [(2, 7), (9, 7), (9,)], (2, 9), None), 2 * 7 * 9),
        # dimensions kept: 3 x 4 rows
        (("FULLY_CONNECTED", [(3, 4, 7), (9, 7)], (3, 4, 9), None), 3 * 4 * 7 * 9),
        (("TRANSPOSE_CONV", [(4,), (5, 3, 3, 4), (1, 8, 9, 4)], (1, 16, 18, 5), None), 72 * 4 * 5 * 9),
        (("CONV_3D", [(1, 5, 8, 9, 4), (2, 3, 3, 4, 6), (6,)], (1, 4, 6, 7, 6), None), 4 * 6 * 7 * 6 * 2 * 9 * 4),
        (("BATCH_MATMUL", [(3, 4, 5), (3, 5, 7)], (3, 4, 7), None), 3 * 4 * 5 * 7),
        (("BATCH_MATMUL", [(3, 5, 4), (3, 5, 7)], (3, 4, 7), ADJ_X), 3 * 4 * 5 * 7),
        (("BATCH_MATMUL", [(3, 4, 5), (3, 7, 5)], (3, 4, 7), ADJ_Y), 3 * 4 * 5 * 7),
    ],
)
def test_one_operator_costs_what_the_hand_calculation_says(op: Op, macs: int) -> None:
    assert count_macs(pack(op)) == macs


@pytest.mark.parametrize("name", sorted(FREE_OPERATORS))
def test_free_operators_exist_in_the_schema_and_cost_nothing(name: str) -> None:
    assert count_macs(pack((name, [(1, 8, 8, 4)], (1, 8, 8, 4), None))) == 0


def test_operators_add_up() -> None:
    pool: Op = ("MAX_POOL_2D", [(1, 5, 5, 6)], (1, 2, 2, 6), None)
    dense: Op = ("FULLY_CONNECTED", [(1, 24), (10, 24)], (1, 10), None)
    assert count_macs(pack(CONV, pool, dense)) == count_macs(pack(CONV)) + 240


@pytest.mark.parametrize(
    "name", ["UNIDIRECTIONAL_SEQUENCE_LSTM", "SVDF", "CONV_3D_TRANSPOSE", "RFFT2D", "WHILE", "CALL"]
)
def test_operator_that_may_multiply_is_refused_by_name(name: str) -> None:
    with pytest.raises(ModelContractError, match=f"operator 1: operator {name} has no known cost"):
        count_macs(pack(CONV, (name, [(1, 8)], (1, 8), None)))


def test_custom_operator_is_refused_by_its_own_name() -> None:
    with pytest.raises(ModelContractError, match="CUSTOM 'MyFusedAttention'"):
        count_macs(pack(("CUSTOM", [(1, 8)], (1, 8), None), custom_code="MyFusedAttention"))


def test_operator_number_beyond_the_schema_is_refused() -> None:
    code = schema.OperatorCodeT(deprecatedBuiltinCode=127, builtinCode=30_000)
    operator = schema.OperatorT(opcodeIndex=0, inputs=[0], outputs=[0])
    graph = schema.SubGraphT(tensors=[schema.TensorT(shape=[1])], operators=[operator])
    with pytest.raises(ModelContractError, match="number 30000"):
        count_macs(finish(schema.ModelT(version=3, operatorCodes=[code], subgraphs=[graph])))


def test_weights_of_the_wrong_rank_are_refused() -> None:
    with pytest.raises(ModelContractError, match="cost cannot be read"):
        count_macs(pack(("CONV_2D", [(1, 8, 8, 4), (6, 36)], (1, 8, 8, 6), None)))


def test_number_in_the_old_field_only_is_understood() -> None:
    code = schema.OperatorCodeT(deprecatedBuiltinCode=schema.BuiltinOperator.FULLY_CONNECTED)
    tensors = [schema.TensorT(shape=shape) for shape in ([1, 7], [9, 7], [1, 9])]
    operator = schema.OperatorT(opcodeIndex=0, inputs=[0, 1, -1], outputs=[2])  # -1: no bias
    graph = schema.SubGraphT(tensors=tensors, operators=[operator])
    assert count_macs(finish(schema.ModelT(version=3, operatorCodes=[code], subgraphs=[graph]))) == 63


@pytest.mark.parametrize("content", [b"", b"TFL3", b"\0" * 64, b"\x1c\0\0\0TFL3", b"<html>not found</html>" * 9])
def test_bytes_that_are_no_model_are_corrupt(content: bytes) -> None:
    with pytest.raises(ModelCorruptError, match="Copy or build the model again"):
        count_macs(content)


@pytest.mark.parametrize(
    "model",
    [
        schema.ModelT(version=3),
        schema.ModelT(version=3, subgraphs=[schema.SubGraphT()]),
        schema.ModelT(version=3, subgraphs=[schema.SubGraphT(operators=[schema.OperatorT(opcodeIndex=3)])]),
    ],
    ids=["no subgraph", "no operators", "operator code out of range"],
)
def test_model_without_substance_is_corrupt(model: Any) -> None:
    with pytest.raises(ModelCorruptError, match=r"no operators|no subgraph|cannot be read"):
        count_macs(finish(model))


@pytest.mark.parametrize("tensor", [5, -2])
def test_tensor_number_out_of_range_is_corrupt(tensor: int) -> None:
    code = schema.OperatorCodeT(deprecatedBuiltinCode=schema.BuiltinOperator.FULLY_CONNECTED)
    operator = schema.OperatorT(opcodeIndex=0, inputs=[0, tensor], outputs=[0])
    graph = schema.SubGraphT(tensors=[schema.TensorT(shape=[1, 1])], operators=[operator])
    with pytest.raises(ModelCorruptError, match=f"tensor {tensor} of 1"):
        count_macs(finish(schema.ModelT(version=3, operatorCodes=[code], subgraphs=[graph])))


def test_negative_dimension_is_corrupt() -> None:
    with pytest.raises(ModelCorruptError, match="has shape"):
        count_macs(pack(("FULLY_CONNECTED", [(1, 7), (9, -7)], (1, 9), None)))


def test_every_cut_is_noticed_or_harmless() -> None:
    """Half a download must not pass as a cheaper model."""
    whole = pack(CONV, CONV, buffers=3)
    noticed = 0
    for size in range(len(whole)):
        try:
            assert count_macs(whole[:size]) == count_macs(whole)
        except ModelCorruptError:
            noticed += 1
    assert noticed > 0.99 * len(whole)


def test_weights_that_reach_beyond_the_end_are_corrupt() -> None:
    """Converters write the weights last, so they are what a broken download lacks."""
    content = bytearray(pack(CONV))
    start = content.index(bytes(range(64)))
    content[start - 4 : start] = (len(content) + 1).to_bytes(4, "little")  # a vector's length stands before it
    with pytest.raises(ModelCorruptError, match="cannot be read to its end"):
        count_macs(bytes(content))


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(8, 10_000), st.integers(0, 255)), min_size=1, max_size=8))
def test_flipped_bytes_give_a_count_or_an_error_of_ours(flips: list[tuple[int, int]]) -> None:
    content = bytearray(pack(CONV, ("BATCH_MATMUL", [(3, 5, 4), (3, 5, 7)], (3, 4, 7), ADJ_X)))
    for position, value in flips:
        content[8 + position % (len(content) - 8)] = value
    with suppress(ModelCorruptError, ModelContractError):
        assert count_macs(bytes(content)) >= 0
