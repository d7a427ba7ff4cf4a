"""Log-mel rows: the right band, the right tick, the same for any split of the audio, also on a drifting clock."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device.features.contract import FRONT_END
from device.features.logmel import LevelTracker, LogMelStream, Rows, log_mel, mel_filters
from device.records import NS_PER_MS, NS_PER_S, Chunk, Samples

RATE = 16_000
HALF_MS = 12.5


def noise(seconds: float, seed: int = 0, level: float = 0.1) -> Samples:
    return (np.random.default_rng(seed).standard_normal(round(seconds * RATE)) * level).astype(np.float32)


def chunks(samples: Samples, cuts: Iterable[int] = (), t_ns: int = 0, rate_hz: float = RATE) -> list[Chunk]:
    """The samples in pieces; `rate_hz` is the true rate of the clock that took them."""
    ends = [0, *sorted(min(cut, len(samples)) for cut in cuts), len(samples)]
    return [
        Chunk(seq, t_ns + round(a * NS_PER_S / rate_hz), RATE, samples[a:b])
        for seq, (a, b) in enumerate(pairwise(ends))
    ]


def rows_of(pieces: Sequence[Chunk], stream: LogMelStream | None = None) -> tuple[list[int], Rows]:
    stream, rows = stream or LogMelStream(), [np.empty((0, FRONT_END.mel_bands), np.float32)]
    ticks: list[int] = []
    for piece in pieces:
        first, part = stream.push(piece)
        assert part.dtype == np.float32 and part.shape[1] == FRONT_END.mel_bands
        ticks += range(first, first + len(part))
        rows.append(part)
    assert ticks == sorted(set(ticks)), "each tick once, in order"
    return ticks, np.concatenate(rows)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 8000), max_size=40), st.integers(-(10**9), 10**12))
def test_the_pieces_do_not_matter(cuts: list[int], t_ns: int) -> None:
    t_ns -= t_ns % 62_500 - 7  # off the places where a sample more or less is a matter of rounding
    samples = noise(0.5)
    ticks, rows = rows_of(chunks(samples, t_ns=t_ns))
    cut_ticks, cut_rows = rows_of(chunks(samples, cuts, t_ns))
    assert cut_ticks == ticks and len(ticks) in (47, 48)
    np.testing.assert_allclose(cut_rows, rows, atol=1e-5)


@pytest.mark.parametrize("t_ms", [0, 3, 10, 12.5, 12.6, -40, 3_600_000.1])
def test_only_ticks_whose_whole_window_was_heard_are_given(t_ms: float) -> None:
    ticks, _ = rows_of(chunks(noise(0.2), t_ns=round(t_ms * NS_PER_MS)))
    around = range(int(t_ms // 10) - 5, int(t_ms // 10) + 40)
    assert ticks == [k for k in around if t_ms + HALF_MS <= k * 10 <= t_ms + 200 - HALF_MS]


@pytest.mark.parametrize("seconds", [0, 0.01, 0.0249])
def test_less_than_a_window_gives_no_rows(seconds: float) -> None:
    assert rows_of(chunks(noise(seconds)))[0] == []


@pytest.mark.parametrize("t_ms", [0.0, 4.0, -6.25, 1234.0])
def test_a_click_lands_in_its_tick_symmetrically(t_ms: float) -> None:
    """A click at a tick's time is loudest there, and as loud 10 ms before as after."""
    samples = np.full(RATE, 1e-5, np.float32)
    tick = round((t_ms + 500) / 10)
    samples[round((tick * 10 - t_ms) * RATE / 1000)] = 1
    ticks, rows = rows_of(chunks(samples, [1000, 8000], round(t_ms * NS_PER_MS)))
    level = rows.mean(1)
    at = ticks.index(tick)
    assert np.argmax(level) == at
    assert level[at - 1] == pytest.approx(level[at + 1], abs=0.05)
    assert level[at - 1] - level[at - 2] > 1


def mel(hz: float) -> float:
    return 2595 * float(np.log10(1 + hz / 700))


@pytest.mark.parametrize("band", [0, 3, 12, 25, 39])
def test_a_tone_lands_in_the_right_band(band: int) -> None:
    low, high = mel(FRONT_END.mel_low_hz), mel(FRONT_END.mel_high_hz)
    hz = 700 * (10 ** ((low + (high - low) * (band + 1) / (FRONT_END.mel_bands + 1)) / 2595) - 1)
    samples = (0.5 * np.sin(2 * np.pi * hz * np.arange(400) / RATE)).astype(np.float32)
    energies = log_mel(samples[None])[0]
    assert int(np.argmax(energies)) == band
    far = np.abs(np.arange(FRONT_END.mel_bands) - band) > 4
    assert energies[band] - energies[far].max() > 4


def test_every_band_has_a_filter_and_no_filter_leaves_the_range() -> None:
    filters = mel_filters()
    assert filters.shape == (257, 40) and filters.min() == 0 and filters.max() <= 1
    assert (filters.max(0) > 0.25).all()
    hz = np.fft.rfftfreq(512, 1 / RATE)
    assert not filters[(hz <= FRONT_END.mel_low_hz) | (hz >= FRONT_END.mel_high_hz)].any()
    middle = (hz > 150) & (hz < 7100)  # all but the outer flanks
    np.testing.assert_allclose(filters[middle].sum(1), 1, atol=1e-5)


def test_full_scale_and_silence_have_the_documented_levels() -> None:
    assert log_mel(np.zeros((1, 400), np.float32)) == pytest.approx(np.log(FRONT_END.mel_floor))
    full = log_mel((np.sin(2 * np.pi * 1000 * np.arange(400) / RATE)).astype(np.float32)[None])
    assert 10 * np.log10(np.e) * (full.max() - np.log(FRONT_END.mel_floor)) > 70


def test_digital_silence_is_finite_and_fades_to_zero() -> None:
    _, rows = rows_of(chunks(np.zeros(30 * RATE, np.float32), range(0, 30 * RATE, 3200)))
    assert np.isfinite(rows).all()
    assert np.abs(rows[-1]).max() < 0.01 and np.abs(rows).max() < 5


@pytest.mark.parametrize("gain", [0.05, 0.5, 8.0])
def test_gain_does_not_matter_once_the_prior_has_faded(gain: float) -> None:
    # Loud enough that the floor below the energies does not show.
    swell = np.repeat(np.random.default_rng(1).uniform(0.1, 1, 250), RATE // 10)
    samples = noise(25, level=3.0) * swell.astype(np.float32)
    plain, loud = (rows_of(chunks(x.astype(np.float32)))[1] for x in (samples, samples * np.float32(gain)))
    np.testing.assert_allclose(loud[2000:], plain[2000:], atol=0.02)
    assert np.abs(loud[:10] - plain[:10]).max() > 0.1, "a stream begins at the level that it has"


def test_a_microphones_frequency_response_is_subtracted() -> None:
    samples = noise(25)
    coloured = (samples - 0.9 * np.concatenate([[0], samples[:-1]])).astype(np.float32)
    plain, other = (rows_of(chunks(x))[1][2000:].mean(0) for x in (samples, coloured))
    assert np.abs(plain - other).max() < 0.05


def test_the_level_is_causal_and_works_on_batches() -> None:
    rows = np.random.default_rng(0).normal(-9, 2, (3, 50, 40)).astype(np.float32)
    batch = LevelTracker()(rows)
    for n in range(3):
        tracker = LevelTracker()
        parts = [tracker(rows[n, :7]), tracker(rows[n, 7:8]), tracker(rows[n, 8:])]
        np.testing.assert_allclose(np.concatenate(parts), batch[n], atol=1e-5)
    changed = rows.copy()
    changed[:, 30:] += 5
    np.testing.assert_array_equal(LevelTracker()(changed)[:, :30], batch[:, :30])


def test_the_level_is_a_running_mean_with_a_prior() -> None:
    tracker, values = LevelTracker(), [-3.0, -12.0, -7.0]
    keep = np.exp(-0.01 / FRONT_END.level_time_constant_s)
    total, weight = 50 * FRONT_END.level_prior_log, 50.0
    for value in values:
        total, weight = total * keep + value, weight * keep + 1
        row = tracker(np.full((1, 40), value, np.float32))
        assert row == pytest.approx((value - total / weight) * FRONT_END.level_scale, abs=1e-5)


@pytest.mark.parametrize("rate_hz", [8000, 44_100, 48_000])
def test_another_rate_is_refused(rate_hz: int) -> None:
    with pytest.raises(ValueError, match=f"needs 16000 Hz, not {rate_hz} Hz"):
        LogMelStream().push(Chunk(0, 0, rate_hz, noise(0.1)))


def test_a_gap_leaves_out_its_ticks_and_no_window_spans_it() -> None:
    loud, quiet = noise(0.5), noise(0.5, 1, 1e-4)
    ticks, rows = rows_of([Chunk(0, 0, RATE, loud), Chunk(1, 800 * NS_PER_MS, RATE, quiet)])
    assert ticks == [*range(2, 49), *range(82, 129)]
    alone = log_mel(quiet[None, 120:520])  # tick 82 is 320 samples after the gap's end
    level = LevelTracker()
    all_rows = log_mel(np.stack([loud[k * 160 - 200 : k * 160 + 200] for k in range(2, 49)]))
    level(all_rows)
    np.testing.assert_allclose(rows[47], level(alone)[0], atol=1e-4)


def test_jitter_is_not_a_gap() -> None:
    """Callbacks that are stamped some ms late or early change no tick's count and no tick's place by more than that."""
    samples = noise(2.0)
    jitter = np.random.default_rng(0).integers(-3, 4, 100) * NS_PER_MS
    whole = chunks(samples, range(320, 32_000, 320))
    pieces = [Chunk(c.seq, c.t_ns + int(j), RATE, c.samples) for c, j in zip(whole, jitter, strict=True)]
    ticks, _ = rows_of(pieces)
    assert ticks == list(range(ticks[0], ticks[-1] + 1)) and len(ticks) > 190


@pytest.mark.parametrize("ppm", [100, -100, 1000, -1000])
@pytest.mark.parametrize("piece", [320, 1024, 16_000])
def test_a_clock_that_is_off_keeps_its_ticks_in_place(ppm: int, piece: int) -> None:
    """After minutes the rows still stand where the chunks' times say, on a fast clock as on a slow one."""
    seconds, true_rate = 100, RATE * (1 + ppm * 1e-6)
    samples = np.full(seconds * RATE, 1e-6, np.float32)
    clicks = [500, 5000, 9900]
    for tick in clicks:
        samples[round(tick * true_rate / 100)] = 1
    ticks, rows = rows_of(chunks(samples, range(0, len(samples), piece), rate_hz=true_rate))
    assert np.max(np.diff(ticks)) == 1, "no tick may be left out: it would tear the embeddings' windows"
    level = rows.mean(1)
    for tick in clicks:
        at = tick - ticks[0]
        assert at - 5 + int(np.argmax(level[at - 5 : at + 6])) == at
        assert level[at - 1] == pytest.approx(level[at + 1], abs=0.8)


@pytest.mark.parametrize("back_ms", [30, 500, 5000])
def test_a_clock_that_jumps_back_gives_no_tick_twice(back_ms: int) -> None:
    samples = noise(10)
    pieces = chunks(samples, range(0, len(samples), 320))
    jumped = [Chunk(c.seq, c.t_ns - (back_ms * NS_PER_MS if c.seq > 150 else 0), RATE, c.samples) for c in pieces]
    ticks, _ = rows_of(jumped)
    assert ticks[-1] == pytest.approx(1000 - back_ms / 10, abs=3)


def test_a_clock_that_jumps_back_for_ever_fills_no_memory() -> None:
    stream = LogMelStream()
    stream.push(Chunk(0, 3600 * NS_PER_S, RATE, noise(1)))
    for piece in chunks(noise(20), range(0, 20 * RATE, 1600)):
        assert not len(stream.push(piece)[1])
        assert len(stream._samples) < RATE


def test_memory_does_not_grow() -> None:
    stream = LogMelStream()
    for piece in chunks(noise(20), range(0, 20 * RATE, 1600)):
        stream.push(piece)
        assert len(stream._samples) < 1600 + 800


def test_the_given_samples_are_left_as_they_were() -> None:
    samples = noise(0.5)
    kept = samples.copy()
    rows_of(chunks(samples, [100, 4000]))
    assert np.array_equal(samples, kept)
