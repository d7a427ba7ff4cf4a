"""Clocks that are off, jitter in bursts, lost pictures, other rates, through the whole daemon: the offset stays right.

The microphone's blocks are placed in time by the real audio clock, from a driver's times with jitter; nothing but its
sample count and those times reaches it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from math import pi, sin
from random import Random
from statistics import median

import numpy as np
import pytest

from device.capture.microphones.audio_clock import AudioClock, Stamp
from device.records import NS_PER_MS, NS_PER_S, Chunk, Frame, State
from tests.scripted.faults import World
from tests.scripted.simclock import START_NS
from tests.scripted.sources import RATE_HZ, TRUTH_MS, Device, Item, Trouble, camera, microphone, scene
from tests.scripted.stage import RIGHT_WITHIN_MS, stage

LASTS_S = 60.0
SETTLED_S = 10.0
MAX_ADDED_MS = 6.0  # the measurement itself is good to about 4 ms
REAL_NS = 1_700_000_000 * NS_PER_S
Prepare = Callable[[World], None]


def burst_onsets_ms(rng: Random, t_ns: int) -> float:
    """Jitter as callbacks have it: little, and in every third second up to 8 ms, always late."""
    return rng.uniform(0, 8 if t_ns // NS_PER_S % 3 == 0 else 0.5)


def driven(rng: Random) -> Trouble:
    """Times as a driver tells them, made good by the audio clock."""
    audio_clock, waiting = AudioClock(RATE_HZ), deque[Chunk]()

    def give(device: Device, item: Item) -> Iterable[Item]:
        assert isinstance(item, Chunk)
        now_ns = device.clock.now_ns() + round(burst_onsets_ms(rng, item.t_ns) * NS_PER_MS)
        adc_ns = item.t_ns + round(burst_onsets_ms(rng, item.t_ns) * NS_PER_MS)
        waiting.append(item)
        for placed in audio_clock.push(Stamp(len(item.samples), adc_ns, now_ns, now_ns, now_ns + REAL_NS)):
            chunk = waiting.popleft()
            if placed is not None:
                yield replace(chunk, t_ns=placed.t_ns)

    return Trouble(giving=give)


def losing(share: float) -> Callable[[Random], Trouble]:
    """Pictures lost, and the times of the others late by a little in bursts."""

    def make(rng: Random) -> Trouble:
        def give(device: Device, item: Item) -> Iterable[Item]:
            if rng.random() >= share:
                yield replace(item, t_ns=item.t_ns + round((burst_onsets_ms(rng, item.t_ns) - 1.5) * NS_PER_MS / 4))

        return Trouble(giving=give)

    return make


def rig(rate_hz: float, camera_ppm: float, microphone_ppm: float, lost: float = 0.01) -> Prepare:
    def prepare(world: World) -> None:
        world.camera = camera(world.clock, rate_hz=rate_hz, ppm=camera_ppm)
        world.microphone = microphone(world.clock, ppm=microphone_ppm)
        world.camera.begin(losing(lost)(world.rng))
        world.microphone.begin(driven(world.rng))
        world.microphone.settles_s = 0.0  # as the audio clock itself waits

    return prepare


def variable_rate(world: World) -> None:
    """20 to 33 pictures a second, as in changing light."""
    rig(25, 0, 100)(world)

    def time_ns(number: int) -> int:
        return START_NS + round((number + 2 * sin(2 * pi * number / 60)) * 40 * NS_PER_MS)

    def make(number: int) -> tuple[int, Item]:
        t_ns = time_ns(number)
        return t_ns + 30 * NS_PER_MS, Frame(number, t_ns, scene().picture(t_ns))

    world.camera.make = make
    world.camera.number_at = lambda t_ns: next(
        n for n in range((t_ns - START_NS) // 40_000_000 - 5, 1 << 40) if time_ns(n) > t_ns
    )


def measured(prepare: Prepare, lasts_s: float = LASTS_S) -> tuple[list[float], float]:
    """The numbers once it has settled, and the share of reports with one."""
    with stage(seed=3, prepare=prepare) as running:
        running.clock.sleep(lasts_s)
        reports = [r for t_ns, r in running.sink.reports if t_ns - START_NS > SETTLED_S * NS_PER_S]
    assert {report.fault for report in reports} == {None}
    assert all(report.step_ms is None for report in reports)
    share = sum(report.state is State.MEASURING for report in reports) / len(reports)
    return [report.offset_ms for report in reports if report.offset_ms is not None], share


@cache
def plain_ms() -> float:
    """What is measured where all clocks are right and nothing jitters."""
    return median(measured(lambda world: None)[0])


def test_with_perfect_clocks_it_is_the_truth() -> None:
    assert plain_ms() == pytest.approx(TRUTH_MS, abs=8)


@pytest.mark.parametrize(
    "prepare",
    [
        rig(25, 100, 200), variable_rate,
        *(pytest.param(prepare, marks=pytest.mark.slow) for prepare in (
            rig(25, -100, -200), rig(24, 100, -200), rig(30_000 / 1001, -100, 200), rig(30, 100, -200)
        )),
    ],
    ids=["25 Hz", "variable rate", "25 Hz, slow", "24 Hz", "29.97 Hz", "30 Hz"],
)  # fmt: skip
def test_rates_and_clocks_that_are_off_do_not_move_the_offset(prepare: Prepare) -> None:
    numbers_ms, share = measured(prepare)
    assert share > 0.8
    assert all(abs(number_ms - TRUTH_MS) < RIGHT_WITHIN_MS for number_ms in numbers_ms)
    assert median(numbers_ms) == pytest.approx(plain_ms(), abs=MAX_ADDED_MS)


@pytest.mark.slow
@pytest.mark.soak
def test_nothing_grows_in_ten_minutes() -> None:
    numbers_ms, share = measured(rig(25, 100, 200), 600)
    assert share > 0.8
    slope_ms = np.polyfit(np.linspace(0, 1, len(numbers_ms)), numbers_ms, 1)[0]
    assert abs(slope_ms) < 4
    assert np.percentile(np.abs(np.array(numbers_ms) - plain_ms()), 95) < 15
