"""The audio clock on simulated ones: which clock it is, small errors for hours, lost and late samples."""

from __future__ import annotations

import numpy as np
import pytest

from device.capture.microphones.audio_clock import AudioClock, Domain, Stamp, find_domain
from device.capture.microphones.delay_locked_loop import SampleLoop
from device.records import NS_PER_MS, NS_PER_S
from tests.device.capture.microphones.clocks import (
    EPOCH_NS,
    RATE_HZ,
    START_NS,
    SUSPENDED_NS,
    Crystal,
    Times,
    errors_ms,
    jitter_ns,
    place,
    stamps,
)

BLOCK_S = 0.02
COUNT = round(RATE_HZ * BLOCK_S)
BLOCK_NS = round(BLOCK_S * NS_PER_S)
HOUR_NS = 3600 * NS_PER_S


def microphone(seconds: float, ppm: float = 0.0, seed: int = 1, block_s: float = BLOCK_S) -> tuple[Times, Times, Times]:
    """True times of the first samples, the driver's times, and the arrivals: late as the scheduler has it."""
    rng = np.random.default_rng(seed)
    true = Crystal(ppm).times_ns(round(seconds / block_s), block_s)
    return (
        true,
        true + jitter_ns(true, rng),
        true + round(block_s * NS_PER_S) + 4 * NS_PER_MS + jitter_ns(true, rng, quiet_ms=1, share=0.3),
    )


def lose(times: tuple[Times, ...], at_s: float, lost_ms: float) -> tuple[Times, ...]:
    """The same, where all blocks after a moment come later: sound between them was never given."""
    late = np.where(times[0] - times[0][0] >= at_s * NS_PER_S, round(lost_ms * NS_PER_MS), 0)
    return tuple(one + late for one in times)


# Which clock


@pytest.mark.parametrize("domain", ["monotonic", "boottime", "realtime"])
def test_the_drivers_clock_is_found_whichever_it_is(domain: str) -> None:
    true, adc, arrival = microphone(20)
    clock = AudioClock(RATE_HZ)
    error = errors_ms(place(clock, stamps(adc, arrival, COUNT, domain=domain)), true)
    assert clock.domain == domain
    assert len(error) == len(true) and np.abs(error).max() < 3 and np.abs(error[-100:]).max() < 0.5


def test_a_clock_that_was_never_suspended_has_one_name() -> None:
    given = [
        Stamp(COUNT, t, t + BLOCK_NS, t + BLOCK_NS, t + BLOCK_NS + EPOCH_NS) for t in range(10**9, 2 * 10**9, 10**8)
    ]
    assert find_domain(given) is Domain.MONOTONIC


@pytest.mark.parametrize(
    "told",
    [
        lambda adc: 0 * adc,
        lambda adc: 0 * adc + 1,
        lambda adc: np.full_like(adc, adc[20]),  # stands still
        lambda adc: adc[0] + (adc - adc[0]) // 2,  # runs at half the speed
        lambda adc: adc + np.arange(len(adc)) % 2 * 3 * NS_PER_S,  # jumps to and fro
        lambda adc: adc - START_NS + 17,  # counts from the opening of the stream
        lambda adc: adc + 3 * HOUR_NS,  # nobody's clock
        lambda adc: np.arange(len(adc)),  # block numbers
        lambda adc: -adc,
        lambda adc: np.where(np.arange(len(adc)) % 3 == 0, adc, 0),  # mostly nothing
    ],
)
def test_times_on_no_clock_are_not_used(told: object) -> None:
    assert callable(told)
    true, adc, arrival = microphone(30, ppm=150)
    clock = AudioClock(RATE_HZ)
    placed = place(clock, stamps(told(adc), arrival, COUNT))
    assert clock.domain is Domain.ARRIVAL and len(placed) == len(true)
    # The driver's own 4 ms belong to the rig's fixed bias: nothing here can tell.
    error = errors_ms(placed, true) - 4
    assert np.percentile(np.abs(error), 95) < 1.5 and clock.lost_samples == 0


def test_zeros_at_the_start_and_times_that_settle_are_waited_for() -> None:
    true, adc, arrival = microphone(30)
    seconds = (true - true[0]) / NS_PER_S
    told = np.where(
        seconds < 0.2, -EPOCH_NS - SUSPENDED_NS, adc + (400 * NS_PER_MS * np.clip(1 - seconds, 0, 1)).astype(int)
    )
    clock = AudioClock(RATE_HZ)
    error = errors_ms(place(clock, stamps(told, arrival + 2 * NS_PER_S, COUNT, domain="realtime")), true)
    assert clock.domain is Domain.REALTIME and clock.lost_samples == 0
    assert np.nanmax(np.abs(error[150:])) < 3


@pytest.mark.parametrize("step_h", [1, -1])
def test_a_wall_clock_that_is_set_is_no_lost_sound(step_h: int) -> None:
    true, adc, arrival = microphone(40)
    step = np.where(true - true[0] > 20 * NS_PER_S, step_h * HOUR_NS, 0)
    told = list(stamps(adc, arrival, COUNT, domain="realtime", real_step_ns=step))
    at = int(np.argmax(step != 0))
    # The clock is set between the driver's look at it and ours.
    told[at] = Stamp(
        COUNT, told[at].adc_ns - step_h * HOUR_NS, *(getattr(told[at], k) for k in ("mono_ns", "boot_ns", "real_ns"))
    )
    clock = AudioClock(RATE_HZ)
    placed = place(clock, told)
    assert (clock.domain, clock.lost_samples, clock.moves) == (Domain.REALTIME, 0, 0)
    assert len(placed) == len(true) and np.abs(errors_ms(placed, true)).max() < 3


@pytest.mark.parametrize("domain", ["monotonic", "boottime", "realtime", "none"])
def test_a_suspend_is_no_lost_sound_and_the_line_is_found_again(domain: str) -> None:
    true, adc, arrival = lose(
        microphone(60), 30, 350
    )  # the driver's wake-up takes time that the monotonic clock counts
    asleep = np.where(true - true[0] >= 30 * NS_PER_S, 8 * HOUR_NS, 0)
    clock = AudioClock(RATE_HZ)
    placed = place(clock, stamps(adc, arrival, COUNT, domain=domain, suspended_ns=asleep))
    assert clock.lost_samples == 0 and clock.moves == 1
    assert clock.domain == (Domain.ARRIVAL if domain == "none" else domain)
    assert np.abs(errors_ms(placed, true) - (4 if domain == "none" else 0)).max() < 4


def test_times_that_vanish_in_the_middle_are_replaced_by_arrivals() -> None:
    true, adc, arrival = microphone(60)
    adc[1500:] = 0
    clock = AudioClock(RATE_HZ)
    placed = place(clock, stamps(adc, arrival, COUNT))
    assert clock.domain is Domain.ARRIVAL and clock.lost_samples == 0
    assert len(placed) == len(true) and np.abs(errors_ms(placed, true)).max() < 8


# Lost or late


@pytest.mark.parametrize("domain", ["monotonic", "realtime", "none"])
@pytest.mark.parametrize("lost_ms", [20, 100, 530, 2000, 20_000])
def test_lost_sound_is_counted_and_what_follows_stands_right_at_once(domain: str, lost_ms: int) -> None:
    true, adc, arrival = lose(microphone(60, ppm=-200), 30, lost_ms)
    clock = AudioClock(RATE_HZ)
    placed = place(clock, stamps(adc, arrival, COUNT, domain=domain))
    assert clock.moves == 1
    assert clock.lost_samples / RATE_HZ * 1000 == pytest.approx(lost_ms, abs=1.5)
    assert [one.run for one in placed if one] == [1] * 1500 + [2] * (len(placed) - 1500)
    error = np.abs(errors_ms(placed, true) - (4 if domain == "none" else 0))
    # From the first block on, not only once the loss was noticed.
    assert np.percentile(error[1500:1560], 90) < 2 and np.percentile(error, 95) < 1.5


@pytest.mark.parametrize("lost_ms", [1.5, 2.5, 4, 8])
def test_a_loss_that_could_be_jitter_does_not_stay(lost_ms: float) -> None:
    true, adc, arrival = lose(microphone(120), 60, lost_ms)
    clock = AudioClock(RATE_HZ)
    error = np.abs(errors_ms(place(clock, stamps(adc, arrival, COUNT)), true))
    assert error[: 50 * 60].max() < 3 and error.max() < lost_ms + 1 and error[-50 * 40 :].max() < 1
    assert clock.lost_samples / RATE_HZ * 1000 == pytest.approx(lost_ms, abs=0.8)


def test_losses_add_up_and_the_rate_is_not_bent_by_them() -> None:
    times = microphone(400, ppm=120)
    for at_s in range(60, 360, 20):
        times = tuple(one for one in lose(times, at_s + 0.01, 60))  # type: ignore[assignment]
    true, adc, arrival = times
    clock = AudioClock(RATE_HZ)
    error = np.abs(errors_ms(place(clock, stamps(adc, arrival, COUNT)), true))
    assert clock.moves == 15 and clock.lost_samples == pytest.approx(15 * 0.06 * RATE_HZ, rel=0.02)
    assert clock.rate_ppm is not None and clock.rate_ppm == pytest.approx(Crystal(120).ppm_at(400), abs=5)
    assert np.percentile(error, 95) < 1


@pytest.mark.parametrize("domain", ["monotonic", "none"])
def test_a_stall_that_loses_nothing_is_only_late(domain: str) -> None:
    true, adc, arrival = microphone(60)
    stalled = (true - true[0] > 30 * NS_PER_S) & (true - true[0] < 32 * NS_PER_S)
    arrival = np.where(stalled, arrival[stalled.argmax()] + 2 * NS_PER_S + np.cumsum(stalled) * 50_000, arrival)
    clock = AudioClock(RATE_HZ)
    placed = place(clock, stamps(adc, np.maximum.accumulate(arrival), COUNT, domain=domain))
    assert clock.lost_samples == 0 and clock.moves == 0
    assert np.percentile(np.abs(errors_ms(placed, true) - (4 if domain == "none" else 0)), 99) < 2


def test_strays_change_nothing() -> None:
    true, adc, arrival = microphone(120)
    clean = errors_ms(place(AudioClock(RATE_HZ), stamps(adc, arrival, COUNT)), true)
    rng = np.random.default_rng(5)
    strays = rng.random(len(adc)) < 0.05
    adc = np.where(strays, adc + rng.choice([-900, -60, 60, 900, 10**7], len(adc)) * NS_PER_MS, adc)
    adc[rng.random(len(adc)) < 0.05] = 0
    clock = AudioClock(RATE_HZ)
    error = errors_ms(place(clock, stamps(adc, arrival, COUNT)), true)
    assert (clock.lost_samples, clock.moves) == (0, 0)
    assert np.abs(error - clean[: len(error)]).max() < 0.5


def test_sound_that_comes_too_early_moves_the_line_back_and_no_time_is_given_twice() -> None:
    true, adc, arrival = lose(microphone(60), 29.99, -300)
    clock = AudioClock(RATE_HZ)
    placed = place(clock, stamps(adc, arrival, COUNT))  # which checks that times rise
    left_out = [k for k, one in enumerate(placed) if one is None]
    assert left_out == list(range(1500, 1500 + len(left_out))) and len(left_out) == pytest.approx(15, abs=1)
    assert clock.lost_samples == 0 and np.nanmax(np.abs(errors_ms(placed, true))) < 2


def test_blocks_of_any_length_follow_each_other_without_holes() -> None:
    rng = np.random.default_rng(3)
    counts = rng.integers(1, 3000, 2000)
    true = START_NS + np.concatenate([[0], np.cumsum(counts)[:-1]]) * NS_PER_S // RATE_HZ
    arrival = true + counts * NS_PER_S // RATE_HZ
    clock = AudioClock(RATE_HZ)
    told = [next(stamps(t, a, int(n))) for t, a, n in zip(true[:, None], arrival[:, None], counts, strict=True)]
    assert np.abs(errors_ms(place(clock, told), true)).max() < 0.01


# How good, for how long


@pytest.mark.parametrize("domain", ["monotonic", "none"])
@pytest.mark.parametrize("ppm", [200, -200])
def test_the_rate_is_known_with_an_honest_standard_error(domain: str, ppm: float) -> None:
    off: list[float] = []
    _, adc, arrival = microphone(3 * 3600, ppm, block_s=0.1)
    clock = AudioClock(RATE_HZ)
    for k, stamp in enumerate(stamps(adc, arrival, 10 * COUNT // 2, domain=domain)):
        clock.push(stamp)
        if clock.rate_ppm is None or clock.rate_std_ppm is None:
            assert k < (600 if domain == "monotonic" else 3000), "known after a minute, or five"
        elif k % 300 == 0:
            off.append((clock.rate_ppm - Crystal(ppm).ppm_at(k / 10)) / clock.rate_std_ppm)
    assert np.percentile(np.abs(off), 95) < 2
    assert clock.rate_std_ppm is not None and clock.rate_std_ppm < 2


@pytest.mark.parametrize("domain", ["monotonic", "none"])
@pytest.mark.parametrize("share", [0.15, 0.5])
def test_bursts_of_jitter_move_the_times_by_less_than_a_millisecond(domain: str, share: float) -> None:
    rng = np.random.default_rng(11)
    true = Crystal(200).times_ns(90_000, BLOCK_S)
    late = jitter_ns(true, rng, share=share)
    clock = AudioClock(RATE_HZ)
    placed = place(clock, stamps(true + late, true + BLOCK_NS + late, COUNT, domain=domain))
    assert clock.moves == 0
    assert np.percentile(np.abs(errors_ms(placed, true)), 95) < 1


def test_it_starts_fast() -> None:
    errors = []
    for seed in range(20):
        true, adc, arrival = microphone(10, ppm=200, seed=seed)
        errors.append(errors_ms(place(AudioClock(RATE_HZ), stamps(adc, arrival, COUNT)), true))
    assert np.percentile(np.abs(errors), 95) < 3 and np.percentile(np.abs(np.array(errors)[:, 100:]), 95) < 2


def test_the_loop_alone_finds_a_line_and_says_how_well_it_knows_it() -> None:
    rng = np.random.default_rng(2)
    off = []
    for _ in range(40):
        loop = SampleLoop(1000, 0, 0, 1e6)
        for n in range(100, 20_000, 100):
            loop.correct(n, n * 1e6 * (1 + 100e-6) + rng.normal(0, 1e6) - loop.time_ns(n), 1e6)
        assert loop.rate_ppm == pytest.approx(-100, abs=6 * loop.rate_std_ppm)
        off.append(
            [(loop.time_ns(n) - n * 1e6 * (1 + 100e-6)) / loop.std_ns, (loop.rate_ppm + 100) / loop.rate_std_ppm]
        )
    assert np.all(np.std(off, axis=0) < 1.3)
