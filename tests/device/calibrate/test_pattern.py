"""The pattern: finding flashes and beeps, and the accuracy of their offset with many cameras, rooms and noise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from device.calibrate.pattern import (
    BEEP_S,
    LEAD_S,
    MIN_PAIRS,
    Match,
    beep,
    event_times_s,
    find_beeps,
    find_flashes,
    light,
    match,
    problem,
)  # fmt: skip
from tests.device.calibrate.pattern_scene import (
    RATE_HZ,
    Camera,
    Room,
    flashes_and_beeps,
    heard,
    offset_error_ms,
    seen,
    shown_s,
)

OFFSETS_S = (-1.15, -0.12, 0.0, 0.3, 1.15)


def median_error_ms(**scene: Any) -> float:
    """Over offsets, phases of the camera and noises."""
    camera = scene.pop("camera", Camera())
    errors = [
        offset_error_ms(offset_s, camera=replace(camera, phase_s=0.0031 + 0.0067 * k), seed=k, **scene)[0]
        for k, offset_s in enumerate(OFFSETS_S)
    ]
    assert max(map(abs, errors)) < 40  # no flash was taken for its neighbour
    return float(np.median(np.abs(errors)))


# The pattern itself


def test_intervals_are_irregular_and_below_two_a_second() -> None:
    times = event_times_s(60)
    intervals = np.diff(times)
    assert len(times) > 50
    assert times[0] == LEAD_S and times[-1] <= 60 - LEAD_S
    assert intervals.min() >= 0.6 and intervals.max() <= 1.4
    assert len(np.unique(np.round(intervals, 2))) > 30


@pytest.mark.parametrize("duration_s", [-1, 0, 1.9, 2.0, 2.7, 5])
def test_short_films_have_few_events_or_none(duration_s: float) -> None:
    times = event_times_s(duration_s)
    assert np.all(times <= duration_s - LEAD_S)
    assert len(times) == (0 if duration_s < 2 else 1 if duration_s < 2.6 else len(times))


@pytest.mark.parametrize("duration_s", [15, 30, 60, 300])
@pytest.mark.parametrize("fps", [24, 25, 30000 / 1001, 30, 60])
def test_only_the_true_offset_lets_many_events_meet(duration_s: float, fps: float) -> None:
    times = shown_s(duration_s, fps)
    apart = (times[:, None] - times[None, :]).ravel()
    apart = np.sort(apart[(np.abs(apart) > 0.15) & (np.abs(apart) <= 2.5)])
    meeting = np.searchsorted(apart, apart + 0.05) - np.searchsorted(apart, apart - 0.05)
    assert meeting.max() < 0.4 * len(times)


def test_a_beep_begins_softly_at_its_first_sample_and_is_loud_soon_after() -> None:
    tone = beep(48_000).real
    assert len(tone) == round(BEEP_S * 48_000)
    assert abs(tone[0]) < 1e-9 and abs(tone[-1]) < 1e-3
    assert np.abs(tone[: round(0.004 * 48_000)]).max() > 0.8
    assert np.abs(tone).max() <= 1


# Light


def test_light_of_a_picture_is_linear() -> None:
    rgb = np.zeros((480, 640, 3), np.uint8)
    rgb[:, 320:] = 255
    parts = light(rgb).reshape(12, 16)
    assert np.all(parts[:, :8] == 0) and np.all(parts[:, 8:] == pytest.approx(1))
    assert light(np.full((480, 640, 3), 186, np.uint8)).mean() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("size", [(12, 16), (13, 17), (120, 160), (479, 853), (1080, 1920), (640, 360), (97, 1000)])
def test_light_of_any_size(size: tuple[int, int]) -> None:
    parts = light(np.full((*size, 3), 255, np.uint8))
    assert parts.shape == (192,) and parts == pytest.approx(1)


# Flashes


def test_each_flash_is_found_once() -> None:
    begins = shown_s(60, 30)
    flashes = find_flashes(*seen(begins, 61, Camera()))
    assert len(flashes) == len(begins)
    assert np.abs([flash.t_s for flash in flashes] - begins).max() < 0.021


@pytest.mark.parametrize("count", [0, 1, 5, 6, 7])
def test_too_few_pictures_have_no_flash(count: int) -> None:
    assert find_flashes(np.arange(count) / 25, np.full((count, 192), 0.3)) == []


def test_a_steady_room_does_not_flash() -> None:
    times = np.arange(1000) / 25
    assert find_flashes(times, np.full((1000, 192), 0.3)) == []


def test_noise_and_slow_light_do_not_pass_for_the_pattern() -> None:
    rng = np.random.default_rng(4)
    times = np.arange(1500) / 25
    slow = 0.3 + 0.2 * np.sin(times)[:, None]
    flashes = find_flashes(times, np.clip(slow + rng.normal(0, 0.05, (1500, 192)), 0, 1))
    beeps = event_times_s(60)
    assert problem(match(flashes, beeps)) is not None


# Beeps


def test_a_beep_is_found_between_two_samples() -> None:
    begins = shown_s(60, 30) + 0.3 / RATE_HZ
    found = find_beeps(heard(begins, 60, Room(noise=0)), RATE_HZ) / RATE_HZ
    assert len(found) == len(begins)
    assert np.abs(found - begins).max() < 0.05 / RATE_HZ


@pytest.mark.parametrize("room", [Room(noise=0.1), Room(echo=1, decay_s=0.3), Room(echo=2, decay_s=0.5)])
def test_noise_and_echoes_do_not_move_a_beep(room: Room) -> None:
    begins = shown_s(60, 30)
    found = find_beeps(heard(begins, 60, room), RATE_HZ) / RATE_HZ
    nearest = np.abs(found[:, None] - begins[None, :]).min(axis=0)
    assert np.median(nearest) < 0.0002 and np.mean(nearest < 0.001) > 0.95


@pytest.mark.parametrize("samples", [np.zeros(0), np.zeros(10), np.zeros(100_000)])
def test_silence_has_no_beep(samples: Any) -> None:
    assert len(find_beeps(samples, RATE_HZ)) == 0


@pytest.mark.parametrize("seed", range(3))
def test_noise_alone_has_no_beep(seed: int) -> None:
    noise = np.random.default_rng(seed).normal(0, 0.3, 60 * RATE_HZ)
    assert len(find_beeps(noise, RATE_HZ)) <= 1


def test_a_beep_across_two_blocks_of_the_filter_is_found() -> None:
    begins = np.array([(1 << 17) / RATE_HZ - 0.06, (1 << 17) / RATE_HZ + 1])
    found = find_beeps(heard(begins, 12, Room()), RATE_HZ) / RATE_HZ
    assert found == pytest.approx(begins, abs=1e-4)


# Offsets


def test_positive_is_audio_early() -> None:
    found = match(*flashes_and_beeps(0.1))
    assert found is not None and found.offset_ms == pytest.approx(100, abs=3)


@pytest.mark.parametrize("exposure_s", [0.001, 0.01, 0.02, 0.033, 0.04])
def test_any_exposure(exposure_s: float) -> None:
    assert median_error_ms(camera=Camera(exposure_s=exposure_s)) < 3


@pytest.mark.parametrize("rate_hz", [23.04, 24, 25, 29.97, 50])
@pytest.mark.parametrize("exposure_s", [0.004, 0.018])
def test_any_rate(rate_hz: float, exposure_s: float) -> None:
    assert median_error_ms(camera=Camera(rate_hz=rate_hz, exposure_s=exposure_s)) < 3


@pytest.mark.parametrize(
    "camera",
    [
        Camera(noise=0.05), Camera(rolling=0.3), Camera(screen=(slice(3, 5), slice(4, 6))), Camera(drop=0.05),
        Camera(jitter_s=0.005), Camera(jitter_s=0.01, drop=0.01, noise=0.02, rolling=0.15),
    ],
)  # fmt: skip
def test_cameras_with_faults(camera: Camera) -> None:
    assert median_error_ms(camera=camera) < 3


@pytest.mark.parametrize("room", [Room(noise=0.2), Room(echo=2, decay_s=0.3), Room(echo=1, decay_s=0.8, noise=0.02)])
def test_rooms(room: Room) -> None:
    assert median_error_ms(room=room) < 3


def test_a_quarter_of_a_minute_is_enough() -> None:
    assert median_error_ms(duration_s=15) < 3


def test_the_standard_error_covers_a_camera_in_step_with_the_screen() -> None:
    """All flashes fall at the same place between two pictures: nobody can tell where, and the error must say so."""
    off = [
        offset_error_ms(0.05, camera=Camera(rate_hz=30, exposure_s=0.002, phase_s=phase_s))
        for phase_s in np.arange(0, 0.033, 0.006)
    ]
    assert max(abs(error_ms) for error_ms, _ in off) > 5
    assert np.mean([abs(error_ms) < 2 * std_ms for error_ms, std_ms in off]) > 0.95


def test_the_standard_error_is_small_where_the_pictures_fall_everywhere() -> None:
    assert offset_error_ms(0.05, camera=Camera(rate_hz=23.04))[1] < 2


def test_half_of_the_flashes_hidden() -> None:
    flashes, beeps = flashes_and_beeps(-0.2)
    found = match(flashes[::2], beeps)
    assert problem(found) is None and found is not None
    assert found.offset_ms == pytest.approx(-200, abs=3) and found.pairs == len(flashes[::2])


# Doubt


def test_nothing_is_doubted_of_a_good_one() -> None:
    assert problem(match(*flashes_and_beeps(0.08))) is None


def test_too_few() -> None:
    flashes, beeps = flashes_and_beeps(0.0)
    for some in (0, 1, 2, MIN_PAIRS - 1):
        assert "flashes have a beep" in (problem(match(flashes[:some], beeps)) or "")
        assert "flashes have a beep" in (problem(match(flashes, beeps[:some])) or "")


@pytest.mark.parametrize("seed", range(5))
def test_flashes_and_beeps_of_different_things(seed: int) -> None:
    flashes, beeps = flashes_and_beeps(0.0)
    at_random = np.sort(np.random.default_rng(seed).uniform(0, 64, len(beeps)))
    assert problem(match(flashes, at_random)) is not None


def test_a_metronome_is_no_pattern() -> None:
    flashes, _ = flashes_and_beeps(0.0)
    regular = [replace(flash, t_s=k / 2, times_s=flash.times_s - flash.t_s + k / 2) for k, flash in enumerate(flashes)]
    assert "another offset" in (problem(match(regular, np.arange(len(flashes)) / 2)) or "")


def test_too_scattered() -> None:
    good = Match(0.0, 1.0, 5.0, pairs=40, flashes=40, beeps=40, competing_pairs=5)
    assert problem(good) is None
    assert "scatter" in (problem(replace(good, scatter_ms=21.0)) or "")
