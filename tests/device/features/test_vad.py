"""Speech flags: on the right ticks for any split of the audio, none in silence, right on a drifting clock."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device.features.vad import SpeechMemory, SpeechStream, widen
from device.records import NS_PER_MS, NS_PER_S, Chunk, Samples

RATE = 16_000


def vowel(seconds: float, level: float = 0.3) -> Samples:
    """A voice's buzz at 140 Hz through the formants of an open vowel: speech to any detector."""
    t = np.arange(round(seconds * RATE)) / RATE
    buzz = [sum(np.exp(-(((h * 140 - f) / 150) ** 2)) for f in (700, 1200, 2600)) for h in range(1, 25)]
    wave = sum(loud * np.sin(2 * np.pi * h * 140 * t) for h, loud in enumerate(buzz, 1))
    wave = wave * (1 + 0.3 * np.sin(2 * np.pi * 4 * t))
    return (level * wave / np.abs(wave).max()).astype(np.float32)


def talk() -> Samples:
    """One second of silence, one of voice, one of silence."""
    return np.concatenate([np.zeros(RATE), vowel(1.0), np.zeros(RATE)]).astype(np.float32)


def chunks(samples: Samples, cuts: Iterable[int] = (), t_ns: int = 0, rate_hz: float = RATE) -> list[Chunk]:
    ends = [0, *sorted(min(cut, len(samples)) for cut in cuts), len(samples)]
    return [
        Chunk(seq, t_ns + round(a * NS_PER_S / rate_hz), RATE, samples[a:b])
        for seq, (a, b) in enumerate(pairwise(ends))
    ]


def flags_of(pieces: Sequence[Chunk]) -> dict[int, bool]:
    stream, flags = SpeechStream(), {}
    for piece in pieces:
        first, part = stream.push(piece)
        assert part.dtype == np.bool_
        for k, flag in enumerate(part):
            assert first + k not in flags, "each tick once"
            flags[first + k] = bool(flag)
    assert list(flags) == sorted(flags)
    return flags


@settings(max_examples=30)
@given(st.lists(st.integers(0, 48_000), max_size=30), st.integers(-(10**9), 10**12))
def test_the_pieces_do_not_matter(cuts: list[int], t_ns: int) -> None:
    assert flags_of(chunks(talk(), cuts, t_ns)) == flags_of(chunks(talk(), t_ns=t_ns))


@pytest.mark.parametrize("t_ms", [0, 5, 15, 500, -40, 3_600_000])
def test_the_voice_is_where_it_is(t_ms: int) -> None:
    flags = flags_of(chunks(talk(), range(0, 48_000, 320), t_ms * NS_PER_MS))
    spoken = [tick * 10 - t_ms for tick, flag in flags.items() if flag]
    assert 1000 - 40 <= min(spoken) <= 1150 and 1850 <= max(spoken) <= 2200
    assert len(spoken) > 80


@pytest.mark.parametrize("samples", [np.zeros(2 * RATE), vowel(2.0, 1e-4), np.full(2 * RATE, 1e-5)])
def test_silence_is_no_speech(samples: npt.NDArray[np.float32]) -> None:
    assert not any(flags_of(chunks(samples.astype(np.float32))).values())


def test_overdriven_sound_does_not_wrap() -> None:
    """Samples beyond full scale clip; wrapped around they would be noise."""
    assert sum(flags_of(chunks(vowel(1.0, 1.5))).values()) > 80


@pytest.mark.parametrize("ppm", [200, -200])
def test_a_clock_that_is_off_keeps_its_flags_in_place(ppm: int) -> None:
    seconds, true_rate = 400, RATE * (1 + ppm * 1e-6)
    samples = np.zeros(seconds * RATE, np.float32)
    start = round(398 * true_rate)
    samples[start : start + RATE] = vowel(1.0)
    flags = flags_of(chunks(samples, range(0, len(samples), 3200), rate_hz=true_rate))
    spoken = [tick * 10 for tick, flag in flags.items() if flag]
    assert 398_000 - 30 <= min(spoken) <= 398_060
    assert len(flags) > seconds * 100 - 50


def test_a_gap_leaves_out_its_ticks() -> None:
    flags = flags_of([Chunk(0, 0, RATE, vowel(1.0)), Chunk(1, 5 * NS_PER_S, RATE, vowel(1.0))])
    assert max(tick for tick in flags if tick < 300) < 101 and min(tick for tick in flags if tick > 300) == 500


@pytest.mark.parametrize("back_ms", [20, 300])
def test_a_clock_that_jumps_back_gives_no_tick_twice(back_ms: int) -> None:
    flags = flags_of([Chunk(0, 0, RATE, vowel(1.0)), Chunk(1, (1000 - back_ms) * NS_PER_MS, RATE, vowel(1.0))])
    assert abs(max(flags) - (200 - back_ms // 10)) <= 3


def test_widen_covers_fifty_milliseconds_on_both_sides() -> None:
    flags = np.zeros(60, np.bool_)
    flags[30] = True
    assert np.flatnonzero(widen(flags)).tolist() == list(range(25, 36))
    flags[0] = True
    assert np.flatnonzero(widen(flags))[:6].tolist() == list(range(6))


@pytest.mark.parametrize("count", [0, 1, 5, 10, 11, 12])
def test_widen_keeps_the_length(count: int) -> None:
    assert len(widen(np.zeros(count, np.bool_))) == count
    assert not widen(np.zeros(count, np.bool_)).any()
    assert widen(np.ones(count, np.bool_)).all()


def test_the_newest_flags_are_those_before_the_end_with_silence_where_nothing_was_known() -> None:
    memory = SpeechMemory(10)
    assert memory.newest(4).tolist() == []
    memory.add(6, np.ones(7, np.bool_))  # to 13: round the end of the memory
    assert memory.newest(9).tolist() == [False] * 2 + [True] * 7
    memory.add(15, np.array([True]))
    assert memory.newest(5).tolist() == [True, True, False, False, True]
    memory.add(1015, np.array([True]))
    assert memory.newest(5).tolist() == [False] * 4 + [True]
