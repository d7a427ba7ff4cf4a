"""Figures as the page of results writes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from train.evaluation.tables import share

__all__ = ["of", "ranged", "seconds", "share"]


def of(count: int, total: int) -> str:
    return f"{count:,} of {total:,}"


def seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:g} s"


def ranged(figures: Mapping[str, Any], value: str, low: str, high: str, *, scale: float = 100, digits: int = 1) -> str:
    """A figure with its interval in brackets, if it has one."""
    if figures.get(value) is None:
        return "-"
    found = f"{scale * figures[value]:.{digits}f}"
    if figures.get(low) is None:
        return found
    return f"{found} ({scale * figures[low]:.{digits}f} to {scale * figures[high]:.{digits}f})"
