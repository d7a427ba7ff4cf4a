"""Timelines of synthetic evidence: slope, steps, confidence, and long, empty or uncertain recordings."""

from __future__ import annotations

import numpy as np
import pytest

from device.bundles.calibration import Calibration, ConfidenceWeights
from device.records import DriftClass
from device.sync.curve import TICK_MS
from device.sync.evidence_stream import LipEvidence
from device.sync.timeline import MAX_BINS, Bins, Floats, Timeline, timeline

SIZE = 201
CALIBRATION = Calibration(temperature=8.0, null_log_odds=4.0, zero_offset_ms=0.0)
# Sure of 15 s of evidence, and of no less.
DOUBTING = Calibration(temperature=8.0, confidence=ConfidenceWeights(bias=-17.0, posterior=0.0, length=10.0))


def curves(offsets_ms: list[float], seed: int = 1, evidence: float = 150.0, silent: float = 0.0) -> Floats:
    """A second's evidence each: a hump at the offset (off by some ms each ten seconds), and noise everywhere."""
    random = np.random.default_rng(seed)
    ticks = np.arange(SIZE) - SIZE // 2
    wobble_ms = np.repeat(random.normal(0, 4, len(offsets_ms) // 10 + 1), 10)[: len(offsets_ms)]
    found = []
    for offset_ms, off_ms in zip(offsets_ms, wobble_ms, strict=True):
        hump = evidence * np.exp(-0.5 * ((ticks - (offset_ms + off_ms) / TICK_MS) / 3.0) ** 2)
        row = hump + random.normal(0, 12, SIZE)
        found.append(np.zeros(SIZE) if random.random() < silent else row)
    return np.array(found, np.float32)


def told(found: Floats, calibration: Calibration = CALIBRATION) -> Timeline:
    return timeline(found, 1.0, calibration, 0.95)


def moving(seconds: int, drift_ppm: float, *steps: tuple[int, float]) -> list[float]:
    return [drift_ppm / 1000 * t + sum(ms for at, ms in steps if t >= at) for t in range(seconds)]


@pytest.mark.parametrize("drift_ppm", [0.0, 50.0, -200.0])
def test_drift_and_two_steps_of_twenty_minutes(drift_ppm: float) -> None:
    found = told(curves(moving(1200, drift_ppm, (300, 80.0), (800, -150.0)), silent=0.2))
    assert found.drift_ppm == pytest.approx(drift_ppm, abs=15) and found.drift_std_ppm and found.drift_std_ppm < 10
    assert found.drift_class is (DriftClass.DRIFTING if drift_ppm else DriftClass.STEPPED)
    assert [step.t_s for step in found.steps] == pytest.approx([300, 800], abs=3)
    assert [step.step_ms for step in found.steps] == pytest.approx([80, -150], abs=10)
    assert all(piece.sure for piece in found.pieces)
    assert found.pieces[0].from_s == 0 and found.pieces[-1].to_s == 1200
    assert found.offset_ms(found.pieces[0], 0.0) == pytest.approx(0, abs=10)


def test_drift_alone_is_no_step() -> None:
    found = told(curves(moving(1200, 400.0)))
    assert not found.steps and len(found.pieces) == 1 and found.drift_class is DriftClass.DRIFTING


@pytest.mark.parametrize("seed", range(5))
def test_a_fast_drift_is_clear_within_a_minute_or_so(seed: int) -> None:
    """Film at 24 instead of 23.976 frames a second runs by 60 ms a minute."""
    found = told(curves(moving(90, -1000.0), seed))
    assert found.drift_class is DriftClass.DRIFTING and found.drift_ppm == pytest.approx(-1000, abs=200)
    assert told(curves(moving(90, 0.0), seed)).drift_ppm is None, "its error says nothing"


@pytest.mark.parametrize("drift_ppm", [-3700.0, 3700.0])
def test_a_slope_that_is_known_is_taken_off_and_put_back(drift_ppm: float) -> None:
    """It moves the offset across the blocks of ten seconds, which a line through them is too coarse for."""
    offsets_ms = moving(120, drift_ppm, (50, 200.0))
    found = timeline(curves(offsets_ms), 1.0, CALIBRATION, 0.95, slope_ppm=drift_ppm)
    assert found.drift_class is DriftClass.DRIFTING and found.drift_ppm == pytest.approx(drift_ppm, rel=0.05)
    assert found.drift_std_ppm is not None and found.drift_std_ppm >= 100, "it is from a coarse grid"
    (step,) = found.steps
    assert step.t_s == pytest.approx(50, abs=1) and step.step_ms == pytest.approx(200, abs=12)
    first, second = found.pieces
    for piece, t_s in ((first, 0), (first, 49), (second, 50), (second, 119)):
        assert found.offset_ms(piece, t_s) == pytest.approx(offsets_ms[t_s], abs=15)


def test_a_short_recording_has_an_offset_and_no_drift() -> None:
    found = told(curves([40.0] * 20))
    assert found.drift_ppm is found.drift_std_ppm is None and found.drift_class is DriftClass.UNKNOWN
    (piece,) = found.pieces
    assert piece.sure and piece.offset_ms == pytest.approx(40, abs=8)
    assert found.offset_ms(piece, 0.0) == found.offset_ms(piece, 20.0)


def test_a_standing_offset_is_steady() -> None:
    found = told(curves([-60.0] * 600))
    assert found.drift_class is DriftClass.STEADY and not found.steps


def test_noise_alone_is_not_sure_and_has_no_steps() -> None:
    found = told(curves([0.0] * 300, evidence=0.0))
    assert not any(piece.sure for piece in found.pieces)


def test_what_wanders_without_being_sure_has_no_steps() -> None:
    """Somebody else's voice over a face: now this, now that fits a little, and never well."""
    found = told(curves([0.0] * 10 + [700.0] * 8 + [-600.0] * 12, evidence=60.0), DOUBTING)
    assert len(found.pieces) > 1 and not any(piece.sure for piece in found.pieces)
    assert found.steps == () and found.drift_class is DriftClass.UNKNOWN


def test_a_step_across_what_is_not_sure_is_where_it_is_sure_again() -> None:
    found = told(curves([0.0] * 60 + [-500.0] * 4 + [100.0] * 60), DOUBTING)
    (step,) = found.steps
    assert step.step_ms == pytest.approx(100.0, abs=8) and step.t_s == pytest.approx(64, abs=1)
    assert [piece.sure for piece in found.pieces] == [True, False, True]


def test_small_steps_between_shots_are_found() -> None:
    """For a path through the evidence, five ticks in consecutive seconds are cheaper than one jump."""
    found = told(curves(([-78.0] * 14 + [-26.0] * 14) * 4, evidence=60.0))
    assert [step.t_s for step in found.steps] == pytest.approx([14 * turn for turn in range(1, 8)], abs=1.5)
    assert [step.step_ms for step in found.steps] == pytest.approx([52, -52] * 3 + [52], abs=15)
    assert all(piece.sure for piece in found.pieces)


def test_one_wrong_second_is_no_step() -> None:
    offsets_ms = [0.0] * 200
    offsets_ms[100] = 500.0
    assert not told(curves(offsets_ms, evidence=120.0)).steps


def test_silence_and_nothing() -> None:
    quiet = told(np.zeros((50, SIZE), np.float32))
    assert not quiet.steps and not quiet.pieces[0].sure and all(point.best is None for point in quiet.points)
    empty = told(np.zeros((0, SIZE), np.float32))
    assert empty == Timeline((), (), (), None, None) and empty.drift_class is DriftClass.UNKNOWN


def test_an_offset_at_the_end_of_the_search_range_is_not_sure() -> None:
    assert not told(curves([1000.0] * 100)).pieces[0].sure


def test_the_encoders_zero_is_subtracted() -> None:
    calibration = Calibration(temperature=8.0, null_log_odds=4.0, zero_offset_ms=30.0)
    found = timeline(curves([50.0] * 60), 1.0, calibration, 0.95)
    assert found.pieces[0].offset_ms == pytest.approx(20, abs=8)
    assert found.points[0].best and found.points[0].best.offset_ms == pytest.approx(20, abs=10)


def test_points_lie_in_the_middle_of_their_five_seconds() -> None:
    assert [point.t_s for point in told(curves([0.0] * 12)).points] == [2.5, 7.5, 11.0]


# Bins


def row(t_s: float, value: float = 1.0) -> LipEvidence:
    return LipEvidence(round(t_s * 25), np.full(3, value, np.float32), True)


def test_bins_add_up_what_falls_into_them_and_are_empty_where_nothing_does() -> None:
    bins = Bins(3, 10_000_000_000)
    for t_s in (10.0, 10.5, 12.0):
        bins.add(row(t_s))
    assert bins.curves()[:, 0].tolist() == [2, 0, 1]


def test_a_row_before_the_first_picture_counts_for_it() -> None:
    bins = Bins(3, 10_000_000_000)
    bins.add(row(9.9))
    assert bins.curves()[:, 0].tolist() == [1]


def test_memory_is_bounded_and_nothing_is_lost() -> None:
    bins = Bins(3, 0)
    for t_s in range(0, 5 * MAX_BINS, 3):
        bins.add(row(t_s))
    assert bins.length_s == 8 and len(bins.curves()) <= MAX_BINS
    assert bins.curves()[:, 0].sum() == len(range(0, 5 * MAX_BINS, 3))


def test_no_bins_of_nothing() -> None:
    assert Bins(3, 0).curves().shape == (0, 3)
