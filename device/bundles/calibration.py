"""Calibration: the parameters that turn evidence into probability, stored in a bundle beside its models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

NEGATIVE_REACH_TICKS = 20  # 0.8 s before and after: later lips would come after the audio that a row waits for
MAX_NEGATIVE_REACH_TICKS = 250  # bounds memory and the delay of a row
_MIN_ODDS = 1e-6
_REACH_KEY = "rival_ticks"  # name in manifests, for bundles in use


@dataclass(frozen=True, slots=True)
class ConfidenceWeights:
    """A logistic model that maps a posterior's own probability to one that holds on unseen speakers.

    Its inputs are the log odds of the posterior, the log of the seconds of evidence over 2 s, and their product.
    Neighbouring windows are correlated, so a posterior is overconfident after long evidence and underconfident after
    short.
    """

    bias: float = 0.0
    posterior: float = 1.0
    length: float = 0.0
    posterior_length: float = 0.0

    def __call__(self, near: float, evidence_s: float) -> float:
        """The probability of being right to within 40 ms."""
        log_odds, length = confidence_inputs(near, evidence_s)
        # the result must not fall as the posterior rises
        slope = max(self.posterior + self.posterior_length * length, 0.0)
        return float(1 / (1 + np.exp(-(self.bias + slope * log_odds + self.length * length))))


def confidence_inputs(near: float, evidence_s: float) -> tuple[float, float]:
    """Inputs of `ConfidenceWeights`: the log odds of a posterior, and the log of its evidence over 2 s."""
    near = min(max(near, _MIN_ODDS), 1 - _MIN_ODDS)
    return float(np.log(near / (1 - near))), float(np.log(max(evidence_s, 0.04) / 2))


@dataclass(frozen=True, slots=True)
class Calibration:
    """Parameters from evidence to probability, fitted on speakers that the encoders were not trained on."""

    logit_scale: float = 7.4  # of the cosine, trained with the encoders
    temperature: float = 8.0  # overlapping windows are correlated: evidence counts this many times less
    null_log_odds: float = 4.0  # against "none of the candidates": the evidence that a posterior needs
    zero_offset_ms: float = 0.0  # the encoders' answer for audio and video that are in sync
    zero_uncertainty_ms: float | None = None  # its standard error for a recording from elsewhere; None: never measured
    negative_reach_ticks: int = NEGATIVE_REACH_TICKS  # of `evidence` when temperature and null were fitted; 0: none
    confidence: ConfidenceWeights = ConfidenceWeights()

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Calibration:
        """The inverse of `to_dict`; older files may lack the uncertainty and the negatives.

        Raises KeyError, TypeError, ValueError or OverflowError if a value is missing or is not a finite number.
        """
        given = {"zero_uncertainty_ms": None, _REACH_KEY: 0, **table}
        names = [f.name for f in fields(cls) if f.name not in ("confidence", "negative_reach_ticks")]
        values: dict[str, Any] = {name: given[name] for name in (*names, _REACH_KEY)}
        weights = {name: float(value) for name, value in dict(table.get("confidence", {})).items()}
        if values["zero_uncertainty_ms"] is None:  # the only value that may be unknown
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
        """As stored in manifests."""
        table = asdict(self)
        table[_REACH_KEY] = table.pop("negative_reach_ticks")
        return table
