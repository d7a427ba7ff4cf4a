"""The files of a training run, and its configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from device.bundles.model_kinds import TOWERS
from device.errors import ModelCorruptError

WATCHED = "watched.json"  # beside the log: the reliability of the confidence, and the worst windows
# Its provenance, its weights, and its progress.
PROVENANCE, CHECKPOINT, STATE = "provenance.json", "last.weights.h5", "state.json"


def run_config(run: Path) -> dict[str, Any]:
    """The configuration of its training; empty if there is none. Raises OSError, ValueError or TypeError."""
    path = run / "config.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def run_data(run: Path) -> dict[str, Any]:
    """What it was trained on, by corpus; empty if that is not recorded. Raises ModelCorruptError."""
    path = run / "data.json"
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
    except (OSError, ValueError, TypeError, RecursionError) as error:
        remedy = "Give the folder that fit wrote"
        raise ModelCorruptError(f"cannot be read ({error})", where=str(path), remedy=remedy) from error


def run_kind(run: Path) -> str:
    """The kind of model that a run trains; by default a two-tower model."""
    try:
        return str(run_config(run).get("model", TOWERS.name))
    except (OSError, ValueError, TypeError) as error:
        remedy = "Give the folder that fit wrote"
        raise ModelCorruptError(f"its config.json cannot be read ({error})", where=str(run), remedy=remedy) from error
