"""A frame's time is the middle of its exposure, on the microphone's clock; missing frames are counted."""

from __future__ import annotations

import time

import numpy as np
import pytest

from device.capture.cameras.exposure import (
    GapCounter,
    SensorClock,
    boot_minus_monotonic_ns,
    middle_of_exposure_ns,
    readout_ns,
)
from device.records import NS_PER_MS, NS_PER_S

NOW = 5_000 * NS_PER_S
HOUR = 3600 * NS_PER_S


def test_the_middle_of_the_middle_rows_exposure() -> None:
    # Rows begin to be read out one after the other from 100 ms on, for 20 ms; each was exposed for 10 ms before.
    rows = np.linspace(100.0, 120.0, 1001)
    middles = rows - 10.0 / 2
    assert middle_of_exposure_ns(100 * NS_PER_MS, 10_000, 20 * NS_PER_MS) == round(middles[500] * NS_PER_MS)


@pytest.mark.parametrize(("exposure_us", "readout_ms", "t_ms"), [(0, 0, 100), (40_000, 0, 80), (0, 30, 115)])
def test_what_is_not_known_counts_as_nothing(exposure_us: float, readout_ms: int, t_ms: int) -> None:
    assert middle_of_exposure_ns(100 * NS_PER_MS, exposure_us, readout_ms * NS_PER_MS) == t_ms * NS_PER_MS


def test_a_longer_exposure_is_an_earlier_picture() -> None:
    stamps = [middle_of_exposure_ns(NOW, exposure_us, 0) for exposure_us in (0, 1000, 5000, 33_000)]
    assert stamps == sorted(stamps, reverse=True)


def test_a_global_shutter_has_no_read_out() -> None:
    assert readout_ns("imx296", 16_000) == 0 == readout_ns("OV9281", 7_000)
    assert readout_ns("imx708_wide", 17_849.0) == 17_849_000
    assert readout_ns("imx219", None) == 0


def test_stamps_on_the_monotonic_clock_stay_as_they_are_before_and_after_a_suspend() -> None:
    clock = SensorClock()
    assert clock.monotonic_ns(NOW - 30 * NS_PER_MS, NOW, 0) == NOW - 30 * NS_PER_MS
    assert clock.monotonic_ns(NOW - 30 * NS_PER_MS, NOW, 8 * HOUR) == NOW - 30 * NS_PER_MS


def test_stamps_on_the_boot_clock_are_detected_and_each_suspend_is_subtracted() -> None:
    clock = SensorClock()
    for suspended_ns in (0, 3 * NS_PER_S, HOUR, 9 * HOUR):
        stamp_ns = NOW + suspended_ns - 40 * NS_PER_MS
        assert clock.monotonic_ns(stamp_ns, NOW, suspended_ns) == NOW - 40 * NS_PER_MS


def test_a_driver_on_the_boot_clock_is_remembered() -> None:
    clock = SensorClock()
    clock.monotonic_ns(NOW + HOUR - NS_PER_MS, NOW, HOUR)
    late = NOW + HOUR - 2 * NS_PER_S  # a picture that waited for two seconds is on no other clock for that
    assert clock.monotonic_ns(late, NOW, HOUR) == NOW - 2 * NS_PER_S


@pytest.mark.parametrize("stamp_ns", [0, -1, NOW - 11 * NS_PER_S, NOW + NS_PER_S, 1_800_000_000 * NS_PER_S])
def test_a_stamp_of_no_clock_is_none(stamp_ns: int) -> None:
    assert SensorClock().monotonic_ns(stamp_ns, NOW, 0) is None


def test_a_stamp_of_a_third_clock_does_not_make_it_the_boot_clock() -> None:
    clock = SensorClock()
    assert clock.monotonic_ns(NOW + 2 * HOUR, NOW, HOUR) is None
    assert clock.monotonic_ns(NOW - NS_PER_MS, NOW, HOUR) == NOW - NS_PER_MS


def test_the_boot_clock_is_never_behind() -> None:
    assert boot_minus_monotonic_ns() > -NS_PER_MS
    assert time.monotonic_ns() + boot_minus_monotonic_ns() <= time.clock_gettime_ns(time.CLOCK_BOOTTIME) + NS_PER_MS
    stamp_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    t_ns = SensorClock().monotonic_ns(stamp_ns, time.monotonic_ns(), boot_minus_monotonic_ns())
    assert t_ns is not None and abs(t_ns - time.monotonic_ns()) < 10 * NS_PER_S


def missing(times_ms: list[float]) -> int:
    gaps = GapCounter()
    for t_ms in times_ms:
        gaps.observe(round(t_ms * NS_PER_MS))
    return gaps.missing


@pytest.mark.parametrize("rate_hz", [10, 23.04, 24, 25, 29.97, 30, 60])
def test_nothing_is_missing_at_any_steady_rate(rate_hz: float) -> None:
    assert missing([1000 * n / rate_hz for n in range(200)]) == 0


@pytest.mark.parametrize("rate_hz", [24, 25, 29.97, 30])
def test_each_of_one_percent_drops_is_counted_in_spite_of_jitter(rate_hz: float) -> None:
    rng = np.random.default_rng(1)
    lost = set(rng.choice(np.arange(20, 3000), 30, replace=False).tolist())
    times = [1000 * n / rate_hz + rng.uniform(0, 8) for n in range(3001) if n not in lost]
    assert missing(times) == 30


def test_a_long_gap_counts_each_picture() -> None:
    assert missing([*range(0, 400, 40), 800, 840]) == 10


def test_a_camera_that_goes_slower_in_the_dark_has_not_lost_half_of_its_pictures() -> None:
    fast, slow = [40.0 * n for n in range(100)], [4000.0 + 80 * n for n in range(1000)]
    assert missing(fast + slow) <= 5
    assert missing([*slow, *(84_000 + 40.0 * n for n in range(1000))]) <= 5
