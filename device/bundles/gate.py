"""The gate: what a bundle's manifest says of its models beside those before them, and whether that lets them in.

`avdrift-train gate` measures it, `avdrift-convert build` writes it down. Whoever signs or installs a bundle that has
not passed answers for it: `accepted` in the manifest, or an option of the command.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from device.errors import ModelGateError

GATED_FORMAT = 2  # of manifests; older ones know of no gate
_LONGEST = 300


def gate_problem(manifest: Mapping[str, Any]) -> str | None:
    """Why a bundle is not let in by itself; None where nothing is against it, or somebody has accepted it."""
    if manifest.get("format", 0) < GATED_FORMAT:
        return None
    gate = manifest.get("gate")
    if not isinstance(gate, dict):
        return "never compared with the models before it"
    if gate.get("passed") is True or gate.get("accepted") is True:
        return None
    sentence = gate.get("sentence")
    said = sentence[:_LONGEST].rstrip(".") if isinstance(sentence, str) else "it does not say why"
    return f"not shown to be as good as the models before it ({said})"


def require_gate(manifest: Mapping[str, Any], where: str) -> None:
    """Raises ModelGateError for a bundle that is not let in by itself."""
    if problem := gate_problem(manifest):
        remedy = "Retrain with more clips or batches, or give --accept-worse if it is meant"
        raise ModelGateError(problem, where=where, remedy=remedy)
