"""The files of a training run, and what its configuration says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from device.bundles.model_kinds import TOWERS
from device.errors import ModelCorruptError

WATCHED = "watched.json"  # beside the log: how far confidence holds, and the worst windows
# Where it comes from, what it has learnt, and how far it has come.
PROVENANCE, CHECKPOINT, STATE = "provenance.json", "last.weights.h5", "state.json"


def run_config(run: Path) -> dict[str, Any]:
    """Of its training; nothing where the run says nothing. Raises OSError, ValueError or TypeError."""
    path = run / "config.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def run_kind(run: Path) -> str:
    """Of the model that a run trains; a run of which nothing is known is taken for a two-tower model's."""
    try:
        return str(run_config(run).get("model", TOWERS.name))
    except (OSError, ValueError, TypeError) as error:
        remedy = "Give the folder that fit wrote"
        raise ModelCorruptError(f"its config.json cannot be read ({error})", where=str(run), remedy=remedy) from error
