"""Calibrations: optional and required values of a manifest."""

from __future__ import annotations

import pytest

from device.bundles.calibration import Calibration


def test_an_older_calibration_has_no_temporal_negatives() -> None:
    table = {"logit_scale": 12.0, "temperature": 4.0, "null_log_odds": 1.0, "zero_offset_ms": 8.0}
    assert Calibration.from_dict(table) == Calibration(12.0, 4.0, 1.0, 8.0, None, negative_reach_ticks=0)
    assert Calibration.from_dict(Calibration().to_dict()) == Calibration()


@pytest.mark.parametrize("name", ["logit_scale", "temperature", "null_log_odds", "zero_offset_ms", "rival_ticks"])
def test_a_calibration_lacks_nothing_but_the_doubt_about_its_zero(name: str) -> None:
    with pytest.raises(KeyError, match=name):
        Calibration.from_dict(Calibration().to_dict() | {name: None})


@pytest.mark.parametrize("reach", [-1, 251, 2.5, 1e9, float("nan"), float("inf"), "x", [1]])
def test_an_impossible_reach_is_refused(reach: object) -> None:
    with pytest.raises((ValueError, TypeError, OverflowError)):
        Calibration.from_dict(Calibration().to_dict() | {"rival_ticks": reach})
