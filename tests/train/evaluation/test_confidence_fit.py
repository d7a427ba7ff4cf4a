"""The fitted confidence is calibrated, and rises with the posterior."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.bundles.calibration import Calibration, ConfidenceWeights, confidence_inputs
from tests.train.made import make_track
from train.evaluation.confidence_fit import ScoredWindows, fitted_confidence, scored_windows
from train.evaluation.metrics import calibration_error

TRUE = ConfidenceWeights(bias=1.0, posterior=1.2, length=-0.5, posterior_length=-0.1)


def drawn(weights: ConfidenceWeights, count: int, seed: int) -> tuple[ScoredWindows, npt.NDArray[np.float64]]:
    """Windows that are right as often as these weights say."""
    random = np.random.default_rng(seed)
    near, window_s = random.uniform(0.02, 0.999, count), random.choice([0.6, 1.0, 2.0, 5.0], count)
    inputs = np.array([confidence_inputs(n, s) for n, s in zip(near, window_s, strict=True)])
    said = np.array([weights(n, s) for n, s in zip(near, window_s, strict=True)])
    return ScoredWindows(inputs, random.random(count) < said, np.zeros(count, np.bool_), window_s), said


def test_the_weights_that_the_windows_follow_are_found_again() -> None:
    windows, said = drawn(TRUE, 20_000, 1)
    found = fitted_confidence(windows)
    assert found.bias == pytest.approx(TRUE.bias, abs=0.15)
    assert found.posterior == pytest.approx(TRUE.posterior, abs=0.1)
    assert calibration_error(said, windows.right) < 0.02


def test_windows_without_an_offset_make_it_less_sure() -> None:
    windows, _ = drawn(TRUE, 5000, 2)
    none = ScoredWindows(
        np.concatenate([windows.inputs, windows.inputs]), np.concatenate([windows.right, np.zeros(5000, np.bool_)]),
        np.repeat([False, True], 5000), np.concatenate([windows.window_s, windows.window_s]),
    )  # fmt: skip
    assert fitted_confidence(none)(0.8, 2.0) < fitted_confidence(windows)(0.8, 2.0) - 0.05


@pytest.mark.parametrize("right", [True, False])
def test_without_both_outcomes_nothing_is_fitted(right: bool) -> None:
    windows, _ = drawn(TRUE, 100, 3)
    same = ScoredWindows(windows.inputs, np.full(100, right), windows.unmeasurable, windows.window_s)
    assert fitted_confidence(same) == ConfidenceWeights()


@given(st.builds(ConfidenceWeights, *[st.floats(-5, 5)] * 4), st.floats(0, 1), st.floats(0, 1), st.floats(0.04, 15))
def test_a_surer_posterior_never_gets_less_confidence(
    weights: ConfidenceWeights, one: float, other: float, evidence_s: float
) -> None:
    low, high = sorted((one, other))
    assert 0 <= weights(low, evidence_s) <= weights(high, evidence_s) <= 1


def test_windows_are_scored_against_their_truth() -> None:
    tracks = [make_track(seed=k, speaker="abc"[k], seconds=8) for k in range(3)]
    found = scored_windows(tracks, [0.0] * 3, Calibration(logit_scale=14.0, temperature=6.0), np.random.default_rng(0))
    long = (found.window_s >= 2) & ~found.unmeasurable
    assert found.right[long].all() and not found.right[found.unmeasurable].any()
    assert found.inputs.shape == (len(found.right), 2)
    wrong = scored_windows(tracks, [300.0] * 3, Calibration(14.0, 6.0), np.random.default_rng(0))
    assert not wrong.right[wrong.window_s >= 2].any()
