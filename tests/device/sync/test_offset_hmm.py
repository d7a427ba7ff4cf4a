"""After a step only what came since counts, and in between nothing is sure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from device.bundles.calibration import Calibration
from device.sync.curve import estimate
from device.sync.offset_hmm import curve_now

SIZE = 201
CALIBRATION = Calibration(temperature=4.0, null_log_odds=0.0)


def rows_for(offset_ms: float | None, count: int, random: np.random.Generator) -> npt.NDArray[np.float32]:
    """Evidence as the towers give it: noise everywhere, more at the truth, a little less than none on average."""
    rows = random.normal(-0.5, 1.0, (count, SIZE))
    if offset_ms is not None:
        ticks = np.arange(SIZE) - SIZE // 2
        rows += 3 * np.exp(-0.5 * ((ticks - offset_ms / 10) / 4) ** 2)
    return rows.astype(np.float32)


def said(rows: npt.NDArray[np.float32]) -> tuple[float, float]:
    found = estimate(curve_now(rows, CALIBRATION), CALIBRATION)
    assert found is not None
    return found.offset_ms, found.confidence


@pytest.mark.parametrize("offset_ms", [-600.0, 0.0, 120.0])
def test_without_a_change_it_says_what_the_sum_says(offset_ms: float) -> None:
    rows = rows_for(offset_ms, 125, np.random.default_rng(1))
    whole = estimate(rows.sum(0), CALIBRATION)
    assert whole is not None
    found, confidence = said(rows)
    assert found == pytest.approx(whole.offset_ms, abs=5)
    assert confidence > 0.95


@pytest.mark.parametrize("step_ms", [-500.0, -90.0, 90.0, 500.0])
def test_every_sure_answer_over_a_step_is_one_of_the_two(step_ms: float) -> None:
    random = np.random.default_rng(2)
    rows = np.concatenate([rows_for(100, 125, random), rows_for(100 + step_ms, 125, random)])
    for end in range(125, 251, 5):
        found, confidence = said(rows[end - 125 : end])
        if confidence >= 0.95:
            assert min(abs(found - 100), abs(found - 100 - step_ms)) <= 40, f"{end - 125} rows after the step"
    assert said(rows[75:200])[0] == pytest.approx(100 + step_ms, abs=20), "before half of the window is new"
    assert said(rows[75:200])[1] >= 0.95


def test_a_plain_sum_would_hold_on_to_the_old_offset_for_longer() -> None:
    random = np.random.default_rng(3)
    rows = np.concatenate([rows_for(0, 85, random), rows_for(300, 40, random)])
    whole = estimate(rows.sum(0), CALIBRATION)
    assert whole is not None and abs(whole.offset_ms) <= 40
    assert said(rows)[0] == pytest.approx(300, abs=20)


def test_an_offset_that_no_longer_fits_is_doubted_before_it_has_left_the_window() -> None:
    random = np.random.default_rng(4)
    rows = np.concatenate([rows_for(0, 65, random), rows_for(None, 60, random)])
    whole = estimate(rows.sum(0), CALIBRATION)
    assert whole is not None and whole.confidence > 0.95
    assert said(rows)[1] < 0.95


def test_a_pause_makes_a_number_less_sure_and_does_not_erase_it() -> None:
    random = np.random.default_rng(7)
    heard, silence = rows_for(0, 75, random), np.zeros((50, SIZE), np.float32)
    before, after = said(heard)[1], said(np.concatenate([heard, silence]))[1]
    assert 0.95 < after < before


def test_of_several_changes_in_a_window_the_last_counts() -> None:
    random = np.random.default_rng(8)
    rows = np.concatenate([rows_for(offset_ms, 50, random) for offset_ms in (0.0, 400.0, -300.0)])
    found, confidence = said(rows)
    assert found == pytest.approx(-300, abs=20) and confidence > 0.95


def test_noise_alone_is_never_sure() -> None:
    random = np.random.default_rng(5)
    assert all(said(rows_for(None, 125, random))[1] < 0.5 for _ in range(50))


def test_silence_says_nothing() -> None:
    assert estimate(curve_now(np.zeros((125, SIZE), np.float32), CALIBRATION), CALIBRATION) is None


@pytest.mark.parametrize("count", [1, 4, 5])
def test_few_rows_are_their_sum(count: int) -> None:
    rows = rows_for(0, count, np.random.default_rng(6))
    np.testing.assert_allclose(curve_now(rows, CALIBRATION), rows.sum(0), rtol=1e-4, atol=1e-4)


def test_strong_evidence_does_not_overflow() -> None:
    rows = np.zeros((1500, SIZE), np.float32)
    rows[:700, 50], rows[700:, 150] = 1000, 1000
    curve = curve_now(rows, Calibration(temperature=0.5))
    assert np.isfinite(curve).all() and int(np.argmax(curve)) == 150
