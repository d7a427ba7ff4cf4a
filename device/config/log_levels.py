"""Log levels, for all of avdrift and for its single modules."""

from __future__ import annotations

import re
from pathlib import Path

LEVELS = ("debug", "info", "warning", "error")
PACKAGE = "device"

_FOLDER = Path(__file__).resolve().parents[1]  # device/
_MODULE = re.compile(PACKAGE + r"(\.[a-z][a-z0-9_]{0,40}){1,4}")
_LONGEST = 1000


def parse_levels(text: str) -> dict[str, str] | None:
    """Parse `device.capture=debug, device.telemetry.mqtt=error` into a level per module; None if anything is wrong.

    A module that avdrift does not have is wrong too, because a misspelt one would have no effect.
    """
    levels: dict[str, str] = {}
    if len(text) > _LONGEST or not text.isascii():
        return None
    for pair in text.split(",") if text.strip(" ") else ():
        module, _, level = (part.strip(" ") for part in pair.partition("="))
        if level not in LEVELS or module in levels or not _is_module(module):
            return None
        levels[module] = level
    return levels


def _is_module(name: str) -> bool:
    if not _MODULE.fullmatch(name):
        return False
    path = _FOLDER.joinpath(*name.split(".")[1:])
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()
