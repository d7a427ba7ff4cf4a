"""Finds the operators of a .tflite model that XNNPACK does not support, so that far slower kernels run them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ai_edge_litert.interpreter import Interpreter

_DELEGATE = "DELEGATE"


def left_over(content: bytes) -> list[str] | None:
    """Names of the operators that XNNPACK leaves to the built-in kernels, in order; None if it takes none at all.

    Raises ValueError and RuntimeError for bytes that are not a model.
    """
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    # After delegation, the list holds all original operators, followed by one more for each delegated part.
    return _left_over(interpreter._get_ops_details())


def _left_over(operators: Iterable[dict[str, Any]]) -> list[str] | None:
    """The operators between input and output that no delegate runs."""
    delegates = [operator for operator in operators if operator["op_name"] == _DELEGATE]
    others = [operator for operator in operators if operator["op_name"] != _DELEGATE]
    if not delegates:
        return None
    makers = {int(tensor): number for number, operator in enumerate(others) for tensor in operator["outputs"]}
    taken: set[int] = set()
    for delegate in delegates:
        given = {int(tensor) for tensor in delegate["inputs"]}
        wanted = [int(tensor) for tensor in delegate["outputs"]]
        while wanted:
            number = makers.get(tensor := wanted.pop())
            if tensor in given or number is None or number in taken:
                continue
            taken.add(number)
            wanted += [int(each) for each in others[number]["inputs"]]
    return [operator["op_name"] for number, operator in enumerate(others) if number not in taken]
