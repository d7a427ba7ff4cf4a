"""Versions of bundles and of this software: numbers separated by dots, compared number by number."""

from __future__ import annotations

import re
from typing import Any

from device import __version__
from device.errors import ModelContractError

_VERSION = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9}){0,7}")


def version_key(version: Any, where: str) -> tuple[int, ...]:
    """Sort key of a version: 1.10 after 1.9, and 1.0 equal to 1. Raises ModelContractError."""
    if not (isinstance(version, str) and _VERSION.fullmatch(version)):
        raise ModelContractError(
            f"version {brief(version)} is not of the form 1.2.3",
            where=where,
            remedy="Build the bundle again with one that is",
        )
    numbers = [int(field) for field in version.split(".")]
    while len(numbers) > 1 and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def check_software(min_software: Any, where: str, running: str = __version__) -> None:
    """Check that the running software is new enough for a bundle. Raises ModelContractError."""
    if version_key(min_software, where) > version_key(running, "device.__version__"):
        raise ModelContractError(
            f"needs avdrift {min_software} or newer, this is {running}", where=where, remedy="Update avdrift"
        )


def brief(value: Any) -> str:
    """Shorten a manifest's value for a message."""
    return repr(value)[:60] if value is None or isinstance(value, str | int | float) else f"a {type(value).__name__}"
