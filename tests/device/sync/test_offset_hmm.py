"""The recursive filter: evidence lasts, a step and a slope move the offset, and chance gives no confidence."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device.bundles.calibration import Calibration
from device.sync.evidence_stream import LipEvidence
from device.sync.offset_hmm import OffsetFilter, Posterior, posterior_of

SEARCH = 100
SIZE = 2 * SEARCH + 1
CALIBRATION = Calibration(temperature=4.0)
Rows = npt.NDArray[np.float32]


def rows_for(
    offset_ms: float | None, count: int, random: np.random.Generator, *, slope_ppm: float = 0.0, height: float = 3.0
) -> Rows:
    """Evidence as the encoders give it: noise everywhere, more at the truth, a little less than none on average."""
    rows = random.normal(-0.5, 1.0, (count, SIZE))
    if offset_ms is not None:
        ticks = np.arange(SIZE) - SEARCH
        now_ms = offset_ms + slope_ppm * 1e-3 * np.arange(count)[:, None] / 25
        rows += height * np.exp(-0.5 * ((ticks - now_ms / 10) / 4) ** 2)
    return rows.astype(np.float32)


def after(*parts: Rows, filtered: OffsetFilter | None = None) -> Posterior:
    """What is known after these rows."""
    filtered = filtered or OffsetFilter(SEARCH, CALIBRATION.temperature)
    for tick, row in enumerate(np.concatenate(parts)):
        filtered.push(LipEvidence(tick, row, bool(row.any())))
    filtered.flush()
    found = filtered.posterior()
    assert found is not None
    return found


def test_before_any_evidence_nothing_is_known() -> None:
    filtered = OffsetFilter(SEARCH, CALIBRATION.temperature)
    assert filtered.posterior() is None
    filtered.push(LipEvidence(0, np.zeros(SIZE, np.float32), False))
    filtered.flush()
    assert filtered.posterior() is None


@settings(max_examples=20, deadline=None)
@given(st.integers(-900, 900), st.integers(0, 1000))
def test_the_true_offset_is_found_and_the_probabilities_are_ones(offset_ms: int, seed: int) -> None:
    found = after(rows_for(offset_ms, 75, np.random.default_rng(seed)))
    assert found.offset_ticks * 10 == pytest.approx(offset_ms, abs=20)
    assert found.near > 0.98 and found.heard > 0.9 and not found.at_edge
    assert 0 <= found.moving <= 1 and found.evidence_s == 3.0 and 2.0 <= found.heard_s <= 3.0


@pytest.mark.parametrize("pause", [25, 250, 25 * 20])
def test_a_pause_makes_it_less_sure_and_erases_nothing(pause: int) -> None:
    random = np.random.default_rng(7)
    heard = rows_for(120, 100, random)
    before, later = after(heard), after(heard, np.zeros((pause, SIZE), np.float32))
    assert later.offset_ticks == pytest.approx(before.offset_ticks, abs=0.5)
    assert 0.95 * np.exp(-pause / 25 / 600) < later.near < before.near
    again = after(heard, np.zeros((pause, SIZE), np.float32), rows_for(120, 25, random))
    assert again.near > 0.99


def test_ticks_that_are_left_out_are_a_pause() -> None:
    heard, filtered = rows_for(120, 100, np.random.default_rng(7)), OffsetFilter(SEARCH, CALIBRATION.temperature)
    after(heard, filtered=filtered)
    filtered.push(LipEvidence(100 + 25 * 60, np.zeros(SIZE, np.float32), False))
    found = filtered.posterior()
    assert found and found.near == pytest.approx(np.exp(-60 / 600), abs=0.02)


@pytest.mark.parametrize("step_ms", [-500.0, -120.0, 120.0, 500.0])
def test_after_a_step_the_old_offset_goes_within_two_seconds_and_the_new_one_comes_within_four(step_ms: float) -> None:
    withdrawn_s, came_s = [], []
    for seed in range(10):
        random, filtered = np.random.default_rng(seed), OffsetFilter(SEARCH, CALIBRATION.temperature)
        rows = np.concatenate([rows_for(100, 500, random), rows_for(100 + step_ms, 150, random)])
        said_ms: dict[int, float] = {}
        for tick, row in enumerate(rows):
            filtered.push(LipEvidence(tick, row, True))
            found = filtered.posterior()
            if found and found.near >= 0.95:
                said_ms[tick] = found.offset_ticks * 10
        assert all(min(abs(ms - 100), abs(ms - 100 - step_ms)) <= 40 for ms in said_ms.values()), "nothing in between"
        old = [tick for tick, ms in said_ms.items() if abs(ms - 100) <= 40]
        new = [tick for tick, ms in said_ms.items() if abs(ms - 100 - step_ms) <= 40]
        withdrawn_s.append((max(old) - 499) / 25)
        came_s.append((min(new) - 499) / 25)
    assert np.median(withdrawn_s) <= 2 and np.median(came_s) <= 4


@pytest.mark.parametrize("slope_ppm", [-15_000.0, -3_700.0, 5_000.0, 8_000.0])
def test_a_slope_is_seen_within_twenty_seconds_and_the_offset_is_the_one_that_holds_now(slope_ppm: float) -> None:
    rows = rows_for(-50 if slope_ppm > 0 else 150, 500, np.random.default_rng(3), slope_ppm=slope_ppm)
    found = after(rows)
    assert found.moving > 0.99
    assert found.slope_ppm == pytest.approx(slope_ppm, rel=0.2)
    assert abs(found.slope_ppm - slope_ppm) < 4 * found.slope_std_ppm
    assert found.offset_ticks * 10 == pytest.approx((-50 if slope_ppm > 0 else 150) + slope_ppm * 1e-3 * 20, abs=20)


def test_without_a_slope_none_is_found() -> None:
    for seed in range(20):
        assert after(rows_for(80, 750, np.random.default_rng(seed))).moving < 0.9


def test_another_voice_erases_nothing_and_shows_in_what_is_heard() -> None:
    random = np.random.default_rng(5)
    talk, other = rows_for(-80, 250, random), rows_for(None, 125, random)
    found = after(talk, other)
    assert found.heard < 0.5 and found.offset_ticks * 10 == pytest.approx(-80, abs=12)


def test_only_evidence_that_fits_some_offset_counts_as_heard() -> None:
    random = np.random.default_rng(4)
    other_voice, own_voice = rows_for(None, 750, random), rows_for(70, 250, random)
    assert after(own_voice).heard_s > 9.5
    found = after(other_voice)
    assert found.evidence_s == 15.0 and found.heard_s < 1.0


def test_chance_is_never_sure() -> None:
    found = [after(rows_for(None, 1000, np.random.default_rng(seed))) for seed in range(20)]
    assert max(posterior.near for posterior in found) < 0.5


def test_an_offset_beyond_the_search_range_is_at_the_edge() -> None:
    assert after(rows_for(1010, 100, np.random.default_rng(1))).at_edge


def test_strong_evidence_does_not_overflow() -> None:
    rows = np.zeros((1500, SIZE), np.float32)
    rows[:700, 50], rows[700:, 150] = 1000, 1000
    found = after(rows)
    assert found.offset_ticks == pytest.approx(50) and np.isfinite([found.near, found.std_ticks, found.slope_ppm]).all()


def test_a_window_by_itself_is_a_filter_that_has_seen_nothing_else() -> None:
    rows = rows_for(60, 50, np.random.default_rng(2))
    assert posterior_of(rows, CALIBRATION) == after(rows)
    assert posterior_of(np.zeros((50, SIZE), np.float32), CALIBRATION) is None


@settings(max_examples=10, deadline=None)
@given(st.floats(1e-3, 1e6), st.integers(0, 1000))
def test_whatever_the_scale_of_the_evidence_the_posterior_is_a_number(scale: float, seed: int) -> None:
    rows = (np.random.default_rng(seed).normal(0, scale, (200, SIZE))).astype(np.float32)
    found = after(rows)
    assert np.isfinite([found.offset_ticks, found.std_ticks, found.near, found.heard, found.slope_ppm]).all()
    assert 0 <= found.near <= 1 and 0 <= found.heard <= 1
