"""The table of offsets that `avdrift-train clean` writes: each clip's own offset."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from device.errors import InputFormatError, InputMissingError


def read_offsets(path: Path) -> dict[str, float]:
    """Clip name to offset in ms, without dropped clips, from `{clip: {"offset_ms": …, "dropped": …}}`.

    Raises InputMissingError or InputFormatError.
    """
    remedy = "Give the file that avdrift-train clean wrote"
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        found = {str(clip): float(row["offset_ms"]) for clip, row in table.items() if not row.get("dropped", False)}
    except OSError as error:
        raise InputMissingError(f"cannot be read ({error.strerror})", where=str(path), remedy=remedy) from error
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise InputFormatError(f"not a table of offsets ({error!r})", where=str(path), remedy=remedy) from error
    if not all(np.isfinite(value) for value in found.values()):
        raise InputFormatError("an offset is not finite", where=str(path), remedy=remedy)
    return found
