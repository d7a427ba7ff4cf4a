"""Parses JSON from files that may be damaged or malicious: its numbers are finite and fit 64 bits."""

from __future__ import annotations

import json
import math
from typing import Any

_MAX_DIGITS = 19  # of a 64-bit integer


def parse_json(content: bytes | str) -> Any:
    """Return parsed JSON. Raises ValueError for invalid input, and for numbers that would overflow later."""
    try:
        return json.loads(content, parse_int=_whole, parse_float=_finite, parse_constant=_no_number)
    except RecursionError as error:
        raise ValueError("brackets nested too deeply") from error


def _whole(text: str) -> int:
    if len(text.lstrip("-")) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text[:40]} is not a finite number")
    return value


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
