"""Lip openings and bursts are found at their times, between the ticks, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from tests.train.speakers import bursts, lips_at, parting_lips
from train.offsets.plosive_releases import burst_onsets_ms, lip_openings_ms

PHASES = np.arange(0, 40, 2.5)


@pytest.mark.parametrize("phase_ms", PHASES)
def test_lips_part_between_the_ticks(phase_ms: float) -> None:
    times_ms = [1000.0 + phase_ms, 1800.0 + phase_ms]
    found = lip_openings_ms(lips_at(parting_lips(times_ms, 80)), 0)
    # Where the second open tick is no longer on the even part, the line is a little too flat.
    assert found == pytest.approx(times_ms, abs=12)


def test_over_all_phases_there_is_no_bias() -> None:
    for opening_ms in (60.0, 80.0, 120.0):
        errors = [
            lip_openings_ms(lips_at(parting_lips([1000.0 + phase], 60, opening_ms=opening_ms)), 0)[0] - 1000.0 - phase
            for phase in PHASES
        ]
        assert abs(np.mean(errors)) < 4, opening_ms


def test_times_count_from_the_first_tick() -> None:
    gap = parting_lips([1000.0, 1700.0], 80)
    assert lip_openings_ms(lips_at(gap), 250) == pytest.approx(lip_openings_ms(lips_at(gap), 0) + 10_000)


@pytest.mark.parametrize("width_px", [12.0, 26.0, 40.0])
def test_the_size_of_the_mouth_is_of_no_matter(width_px: float) -> None:
    gap = parting_lips([1012.0], 60) * width_px / 26
    assert lip_openings_ms(lips_at(gap, width_px), 0) == pytest.approx([1012.0], abs=8)


@pytest.mark.parametrize(
    "gap",
    [
        np.full(60, 0.6),  # never opens
        np.full(60, 7.0),  # never closes
        0.6 + 6 * np.clip(np.arange(60) / 60, 0, 1),  # opens over seconds
        np.full(60, np.nan),
        np.full(4, 3.0),
        np.empty(0),
    ],
)
def test_a_mouth_without_releases_has_none(gap: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    assert len(lip_openings_ms(lips_at(gap), 0)) == 0


def test_unknown_ticks_hide_a_release_and_no_other() -> None:
    gap = parting_lips([1000.0, 1800.0], 80)
    gap[25:27] = np.nan
    assert lip_openings_ms(lips_at(gap), 0) == pytest.approx([1800.0], abs=8)


@pytest.mark.parametrize("voiced", [True, False])
@pytest.mark.parametrize("voice_after_ms", [5.0, 45.0])
def test_the_burst_counts_whatever_is_heard_before_and_after(voiced: bool, voice_after_ms: float) -> None:
    times_ms = [400.0, 903.7, 1500.2]
    samples = bursts(times_ms, 2.0, voiced=voiced, voice_after_ms=voice_after_ms)
    assert burst_onsets_ms(samples, 0.0) == pytest.approx(times_ms, abs=3)
    assert burst_onsets_ms(samples, 5000.0) == pytest.approx(np.array(times_ms) + 5000, abs=3)


@pytest.mark.parametrize("gain", [0.01, 0.3, 3.0])
def test_loudness_is_of_no_matter(gain: float) -> None:
    assert burst_onsets_ms(bursts([400.0, 900.0], 1.6) * np.float32(gain), 0.0) == pytest.approx([400.0, 900.0], abs=4)


def test_sound_without_closures_has_no_bursts() -> None:
    noise = np.random.default_rng(0).standard_normal(32_000).astype(np.float32)
    for samples in (noise * 0.1, np.zeros(32_000, np.float32), noise[:500], np.empty(0, np.float32)):
        assert len(burst_onsets_ms(samples, 0.0)) == 0
