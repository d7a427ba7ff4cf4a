"""Impossible capture times and invalid items."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.records import NS_PER_MS, NS_PER_S, Chunk, Frame
from device.runtime.inputs.timestamp_check import Stamps, usable
from tests.device.runtime.live import chunk, frame

START_NS = 5000 * NS_PER_S
LAG_NS = 50 * NS_PER_MS


def judge(steps: Iterable[tuple[int, int]]) -> tuple[list[bool], Stamps]:
    """Capture and arrival times, in ms after the start."""
    stamps = Stamps()
    found = [stamps.accept(START_NS + t_ms * NS_PER_MS, START_NS + now_ms * NS_PER_MS) for t_ms, now_ms in steps]
    return found, stamps


def steady(from_ms: int, to_ms: int, leap_ms: int = 0, lag_ms: int = 50) -> list[tuple[int, int]]:
    """Pictures at 25 Hz whose times are off by a leap."""
    return [(t_ms + leap_ms, t_ms + lag_ms) for t_ms in range(from_ms, to_ms, 40)]


@given(st.lists(st.integers(0, 300), min_size=1, max_size=50))
def test_steady_times_are_accepted_however_late_they_arrive(delays_ms: list[int]) -> None:
    arrivals_ms = np.maximum.accumulate([40 * k + 20 + delay for k, delay in enumerate(delays_ms)])
    settled = [(0, 20), *((40 * (k + 1), int(at) + 40) for k, at in enumerate(arrivals_ms))]
    found, stamps = judge(settled)
    assert all(found) and stamps.epoch == 0


@given(st.lists(st.integers(-8, 8), min_size=2, max_size=50))
def test_jitter_is_accepted(jitter_ms: list[int]) -> None:
    found, stamps = judge([(40 * k + off, 40 * k + 50) for k, off in enumerate(jitter_ms)])
    assert all(found) and stamps.epoch == 0


@pytest.mark.parametrize("t_ns", [0, -1, START_NS - 3600 * NS_PER_S, START_NS + 3600 * NS_PER_S, 1 << 62])
def test_times_of_another_age_are_refused_for_ever(t_ns: int) -> None:
    stamps = Stamps()
    assert stamps.accept(START_NS, START_NS + LAG_NS)
    assert not any(stamps.accept(t_ns + k, START_NS + LAG_NS + k * NS_PER_MS) for k in range(1, 100))
    assert stamps.accept(START_NS + 100 * NS_PER_MS, START_NS + 150 * NS_PER_MS), "and cost nothing afterwards"
    assert stamps.epoch == 0


def test_a_time_that_stands_is_refused() -> None:
    found, stamps = judge([(0, 50), (0, 90), (0, 130), (120, 170)])
    assert found == [True, False, False, True] and stamps.epoch == 0


@pytest.mark.parametrize("leap_ms", [-2000, -300, -41, 100, 300])
def test_one_slip_is_refused_and_forgotten(leap_ms: int) -> None:
    found, stamps = judge([*steady(0, 2000), (2000 + leap_ms, 2050), *steady(2040, 4000)])
    assert found.count(False) == 1 and not found[50] and stamps.epoch == 0


@pytest.mark.parametrize("leap_ms", [-2000, -300, -100, 100, 300])
def test_a_leap_that_stays_is_a_new_epoch_from_its_second_time_on(leap_ms: int) -> None:
    found, stamps = judge([*steady(0, 2000), *steady(2000, 6000, leap_ms)])
    assert found.count(False) == 1 and stamps.epoch == 1


def test_a_gap_is_no_leap() -> None:
    found, stamps = judge([*steady(0, 2000), *steady(3480, 6000)])
    assert all(found) and stamps.epoch == 0


def test_a_source_that_settles_at_its_start_has_new_epochs_and_then_none() -> None:
    """A sound server's first times are up to half a second off."""
    settling = [(t_ms + max(0, 400 - t_ms), t_ms + 50) for t_ms in range(0, 4000, 20)]
    found, stamps = judge(settling)
    assert found.count(False) < 30 and all(found[-150:]) and stamps.epoch <= 5


@given(st.lists(st.tuples(st.integers(-(1 << 70), 1 << 70), st.integers(0, 10**12)), max_size=40))
def test_times_far_from_now_are_rejected(steps: list[tuple[int, int]]) -> None:
    stamps = Stamps()
    for t_ns, now_ns in steps:
        if stamps.accept(t_ns, now_ns):
            assert -NS_PER_S < now_ns - t_ns < 10 * NS_PER_S


# Items


def test_ordinary_pictures_and_sound_are_usable() -> None:
    assert usable(frame(0)) and usable(chunk(0))


@pytest.mark.parametrize(
    "rgb",
    [
        np.zeros((0, 0, 3), np.uint8), np.zeros((32, 32), np.uint8), np.zeros((32, 32, 4), np.uint8),
        np.zeros((32, 32, 3), np.float64), np.zeros((15, 640, 3), np.uint8), np.zeros(0, np.uint8),
    ],
)  # fmt: skip
def test_what_is_no_picture(rgb: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    assert not usable(Frame(0, 0, rgb))


@pytest.mark.parametrize(
    "samples",
    [
        np.full(320, np.nan, np.float32), np.full(320, np.inf, np.float32), np.zeros((2, 320), np.float32),
        np.zeros(320, np.int16), np.zeros(0, np.float32),
    ],
)  # fmt: skip
def test_what_is_no_sound(samples: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> None:
    assert not usable(Chunk(0, 0, 16_000, samples))
    assert not usable(replace(chunk(0), rate_hz=48_000))
