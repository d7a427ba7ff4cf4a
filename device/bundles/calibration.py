"""How evidence becomes probability: the figures that a bundle carries beside its models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

NEGATIVE_REACH_TICKS = 20  # 0.8 s before and after: later lips would come after the sound that a row waits for
MAX_NEGATIVE_REACH_TICKS = 250  # memory, and how long a row may wait
_LEAST_ODDS = 1e-6
_REACH_KEY = "rival_ticks"  # in manifests, for bundles that are in use


@dataclass(frozen=True, slots=True)
class ConfidenceWeights:
    """A logistic model of being right: from a posterior's own probability to one that holds on unseen speakers.

    Its inputs are the log odds of the posterior, the log of the seconds of evidence over 2 s, and their product:
    neighbouring windows repeat each other, so a posterior is too sure after long evidence and not enough after short.
    """

    bias: float = 0.0
    posterior: float = 1.0
    length: float = 0.0
    posterior_length: float = 0.0

    def __call__(self, near: float, evidence_s: float) -> float:
        """The probability of being right to within 40 ms."""
        log_odds, length = confidence_inputs(near, evidence_s)
        slope = max(self.posterior + self.posterior_length * length, 0.0)  # never less sure of a surer posterior
        return float(1 / (1 + np.exp(-(self.bias + slope * log_odds + self.length * length))))


def confidence_inputs(near: float, evidence_s: float) -> tuple[float, float]:
    """What `ConfidenceWeights` weighs: the log odds of a posterior, and the log of its evidence over 2 s."""
    near = min(max(near, _LEAST_ODDS), 1 - _LEAST_ODDS)
    return float(np.log(near / (1 - near))), float(np.log(max(evidence_s, 0.04) / 2))


@dataclass(frozen=True, slots=True)
class Calibration:
    """How evidence becomes probability: fitted on speakers the towers were not trained on, kept in the manifest."""

    logit_scale: float = 7.4  # of the cosine, learnt with the towers
    temperature: float = 8.0  # overlapping windows repeat themselves: evidence is worth this many times less
    null_log_odds: float = 4.0  # against "none of the candidates": how much evidence a posterior needs
    zero_offset_ms: float = 0.0  # what the towers answer for sound and picture that are together
    zero_uncertainty_ms: float | None = None  # of that, one sigma, for a recording from elsewhere; None: never measured
    negative_reach_ticks: int = NEGATIVE_REACH_TICKS  # of `evidence` when temperature and null were fitted; 0: none
    confidence: ConfidenceWeights = ConfidenceWeights()

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Calibration:
        """From what `to_dict` gives; without the uncertainty and the negatives where an older file has none.

        Raises KeyError, TypeError, ValueError or OverflowError where a value is missing or no finite number.
        """
        given = {"zero_uncertainty_ms": None, _REACH_KEY: 0, **table}
        names = [f.name for f in fields(cls) if f.name not in ("confidence", "negative_reach_ticks")]
        values: dict[str, Any] = {name: given[name] for name in (*names, _REACH_KEY)}
        weights = {name: float(value) for name, value in dict(table.get("confidence", {})).items()}
        if values["zero_uncertainty_ms"] is None:  # the only one that may be unknown
            del values["zero_uncertainty_ms"]
        if missing := [name for name, value in values.items() if value is None]:
            raise KeyError(missing[0])
        values = {name: float(value) for name, value in values.items()}
        wrong = [name for name, value in (values | weights).items() if not np.isfinite(value)]
        if wrong:
            raise ValueError(f"{wrong[0]} is not finite")
        reach_ticks = values.pop(_REACH_KEY)
        if reach_ticks not in range(MAX_NEGATIVE_REACH_TICKS + 1):
            raise ValueError(f"{_REACH_KEY} is not a whole number from 0 to {MAX_NEGATIVE_REACH_TICKS}")
        values["negative_reach_ticks"] = int(reach_ticks)
        return cls(**values, confidence=ConfidenceWeights(**weights))

    def to_dict(self) -> dict[str, Any]:
        """As manifests hold it."""
        table = asdict(self)
        table[_REACH_KEY] = table.pop("negative_reach_ticks")
        return table
