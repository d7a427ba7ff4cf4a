"""Robust location and slope: right values in spite of outliers, with correct standard errors."""

from __future__ import annotations

import numpy as np
import pytest

from device.sync.robust_stats import Doubles, centre, line, spread


def test_spread_of_normal_noise_is_its_standard_deviation() -> None:
    values = np.random.default_rng(1).normal(50, 7, 20_000)
    assert spread(values) == pytest.approx(7, rel=0.03)
    assert spread(np.array([])) == 0


def test_centre_ignores_one_sided_wrong_values() -> None:
    random = np.random.default_rng(2)
    values = np.concatenate([random.normal(80, 5, 80), random.uniform(300, 900, 20)])
    assert centre(values, 5.0) == pytest.approx(80, abs=2)
    assert abs(values.mean() - 80) > 50, "where the plain mean is lost"


def test_centre_of_one_value_and_of_equal_values() -> None:
    assert centre(np.array([3.0]), 1.0) == 3
    assert centre(np.full(9, -4.0), 1.0) == -4


def test_centre_of_two_camps_lies_between_them() -> None:
    assert -100 <= centre(np.array([-100.0, 100.0]), 1.0) <= 100


@pytest.mark.parametrize("slope", [0.0, 0.05, -0.2])
def test_a_clean_line_is_found_exactly(slope: float) -> None:
    t = np.arange(30, dtype=np.float64) * 20
    found = line(t, 80 + slope * t, np.ones(30), 1.0)
    assert found is not None and found.slope == pytest.approx(slope, abs=1e-9)
    assert found.level == pytest.approx(80 + slope * found.t_mid)
    assert found.slope_std > 0, "a clean series is no proof"


def test_wrong_points_do_not_turn_the_line() -> None:
    t = np.arange(40, dtype=np.float64) * 20
    y = 0.05 * t + np.random.default_rng(3).normal(0, 3, 40)
    y[30:38] += 500  # a lever at one end
    found = line(t, y, np.ones(40), 1.0)
    assert found is not None and abs(found.slope - 0.05) < 3 * found.slope_std < 0.02


@pytest.mark.parametrize(
    "t", [np.arange(5.0), np.zeros(9), np.array([])], ids=["too few", "all at one time", "none"]
)  # fmt: skip
def test_no_line_where_none_can_be(t: Doubles) -> None:
    assert line(t, np.zeros(len(t)), np.ones(len(t)), 1.0) is None


def zs(resemblance: float, wrong: float, count: int = 30) -> Doubles:
    """Slope over its told error, for many series without a slope whose points resemble their neighbours."""
    random, found = np.random.default_rng(4), []
    for _ in range(90):
        noise = random.normal(0, 5, count + 20)
        for k in range(1, len(noise)):
            noise[k] = resemblance * noise[k - 1] + np.sqrt(1 - resemblance**2) * noise[k]
        y = noise[20:] + (random.random(count) < wrong) * random.uniform(-900, 900, count)
        fit = line(np.arange(count, dtype=np.float64) * 20, y, np.ones(count), 0.5)
        assert fit is not None
        found.append(fit.slope / fit.slope_std)
    return np.array(found)


@pytest.mark.parametrize("wrong", [0.0, 0.2])
def test_the_standard_error_is_the_real_error(wrong: float) -> None:
    assert 0.6 < zs(0.0, wrong).std() < 1.25


def test_resembling_neighbours_widen_the_error() -> None:
    assert zs(0.4, 0.0).std() < 1.3, "1.5 where each point is counted as if it stood alone"


def test_a_point_with_more_observations_counts_more() -> None:
    t, y = np.arange(12.0), np.zeros(12)
    y[6:] += np.where(np.arange(6) % 2, 4.0, -4.0)
    looks = np.where(np.arange(12) < 6, 1.0, 0.01)
    found = line(t, y, looks, 1.0)
    assert found is not None and abs(found.slope) < 0.05


def test_points_of_the_same_time_have_no_slope_between_them() -> None:
    t = np.repeat(np.arange(10.0), 2)
    found = line(t, 3.0 * t, np.ones(20), 1e-3)
    assert found is not None and found.slope == pytest.approx(3.0)
