"""The gate: the comparison of a bundle's models with their predecessors in its manifest, and whether it passes.

`avdrift-train gate` measures it, `avdrift-convert build` writes it to the manifest. A bundle that has not passed must
be accepted explicitly by whoever signs or installs it: by `accepted` in the manifest, or by an option of the command.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from device.errors import ModelGateError

GATED_FORMAT = 2  # of manifests; older ones have no gate
_MAX_REASON = 300


def gate_problem(manifest: Mapping[str, Any]) -> str | None:
    """Why a bundle does not pass the gate; None if it passes or was accepted."""
    if manifest.get("format", 0) < GATED_FORMAT:
        return None
    gate = manifest.get("gate")
    if not isinstance(gate, dict):
        return "never compared with the models before it"
    if gate.get("passed") is True or gate.get("accepted") is True:
        return None
    sentence = gate.get("sentence")
    reason = sentence[:_MAX_REASON].rstrip(".") if isinstance(sentence, str) else "it gives no reason"
    return f"not shown to be as good as the models before it ({reason})"


def require_gate(manifest: Mapping[str, Any], where: str) -> None:
    """Raises ModelGateError if a bundle neither passes nor was accepted."""
    if problem := gate_problem(manifest):
        remedy = "Retrain with more clips or batches, or give --accept-worse if it is meant"
        raise ModelGateError(problem, where=where, remedy=remedy)
