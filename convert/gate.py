"""The gate's entry in a manifest: the result of `avdrift-train gate` for a run, and the cost of both models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convert.card import read_object
from convert.pack import write_json
from device.bundles.bundle import MANIFEST
from device.bundles.gate import gate_problem
from device.errors import InputFormatError
from train.files import sha256
from train.models.run_files import CHECKPOINT

_KEYS = {"passed": bool, "verdict": str, "sentence": str, "rows": list, "hopeless": list, "weights_sha256": str}


def read_gate(path: Path, run: Path) -> dict[str, Any]:
    """Read the gate's result for this run. Raises InputMissingError, InputFormatError."""
    remedy = "Give the gate.json that avdrift-train gate --run wrote of the run that is built"
    found = read_object(path, remedy)
    wrong = [key for key, kind in _KEYS.items() if not isinstance(found.get(key), kind)]
    if wrong:
        raise InputFormatError(f"not a gate: {wrong[0]} is missing", where=str(path), remedy=remedy)
    if found["weights_sha256"] != sha256(run / CHECKPOINT):
        raise InputFormatError("made for other weights", where=str(path), remedy=remedy)
    return found


def accept(bundle: Path, manifest: Mapping[str, Any]) -> None:
    """Record in a bundle's manifest that it is accepted although it did not pass the gate."""
    if gate_problem(manifest):
        path = bundle / MANIFEST
        content = json.loads(path.read_text(encoding="utf-8"))
        gate = content.get("gate")
        write_json(path, content | {"gate": (gate if isinstance(gate, dict) else {}) | {"accepted": True}})
