"""Blocks to chunks: a click stays where it was, times follow the microphone's own clock, and runs do not mix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from device.capture.microphones.audio_clock import Placed
from device.capture.microphones.resampler import CHUNK_MS, ChannelChoice, PlacedSound
from device.records import NS_PER_S, Chunk

TO_HZ = 16_000
START_NS = 5_000 * NS_PER_S


def click(rate_hz: int, at_s: float, length_s: float = 1.0) -> npt.NDArray[np.float32]:
    """A band-limited click: what a microphone makes of one."""
    t = np.arange(round(rate_hz * length_s)) / rate_hz - at_s
    return (0.9 * np.sinc(t * 6000) * np.exp(-((t / 0.002) ** 2))).astype(np.float32)


def feed(
    samples: npt.NDArray[np.float32],
    rate_hz: int,
    *,
    block: int | None = None,
    ppm: float = 0.0,
    start_ns: int = START_NS,
) -> list[Chunk]:
    sound = PlacedSound(rate_hz, TO_HZ)
    out: list[Chunk] = []
    block = block or rate_hz // 50
    for k in range(0, len(samples), block):
        t_ns = start_ns + round(k * NS_PER_S / rate_hz * (1 - ppm * 1e-6))
        out += sound.feed(samples[k : k + block], Placed(t_ns, 1))
    return [*out, *sound.flush()]


def times_ns(chunk: Chunk) -> npt.NDArray[np.float64]:
    return chunk.t_ns + np.arange(len(chunk.samples)) * NS_PER_S / chunk.rate_hz


def peak_s(chunks: Sequence[Chunk]) -> float:
    """The place of the largest sample, finer than the samples by the centre of its power."""
    t = np.concatenate([times_ns(chunk) - START_NS for chunk in chunks]) / NS_PER_S
    power = np.concatenate([chunk.samples for chunk in chunks]).astype(np.float64) ** 2
    near = np.abs(t - t[power.argmax()]) < 0.001
    return float((t[near] * power[near]).sum() / power[near].sum())


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 32_000, 44_100, 48_000, 96_000, 192_000])
@pytest.mark.parametrize("at_s", [0.1, 0.50001, 0.87654])
def test_a_click_stays_where_it_was(rate_hz: int, at_s: float) -> None:
    chunks = feed(click(rate_hz, at_s), rate_hz)
    assert peak_s(chunks) == pytest.approx(at_s, abs=20e-6)


@pytest.mark.parametrize("block", [1, 7, 441, 960, 5000])
def test_the_size_of_the_blocks_changes_nothing(block: int) -> None:
    samples = np.random.default_rng(1).normal(0, 0.1, 9600).astype(np.float32)
    whole, pieces = feed(samples, 48_000, block=9600), feed(samples, 48_000, block=block)
    assert [chunk.t_ns for chunk in pieces] == pytest.approx([chunk.t_ns for chunk in whole], abs=10)
    for one, other in zip(whole, pieces, strict=True):
        assert np.allclose(one.samples, other.samples, atol=1e-6)


def test_chunks_are_of_20_ms_numbered_and_in_order() -> None:
    chunks = feed(click(48_000, 0.5), 48_000)
    assert [chunk.seq for chunk in chunks] == list(range(len(chunks)))
    assert {len(chunk.samples) for chunk in chunks[:-1]} == {TO_HZ * CHUNK_MS // 1000}
    assert {(chunk.rate_hz, chunk.samples.dtype, chunk.samples.ndim) for chunk in chunks} == {
        (TO_HZ, np.dtype(np.float32), 1)
    }
    assert sum(len(chunk.samples) for chunk in chunks) == pytest.approx(TO_HZ, abs=2)


@pytest.mark.parametrize("ppm", [200, -200])
def test_a_click_after_a_minute_of_a_microphone_that_is_off(ppm: float) -> None:
    at_s = 59.5
    chunks = feed(click(48_000, at_s, 60), 48_000, ppm=ppm)
    assert peak_s(chunks) == pytest.approx(at_s * (1 - ppm * 1e-6), abs=20e-6)
    assert (np.diff([chunk.t_ns for chunk in chunks]) > 0).all()


def test_what_follows_a_gap_is_placed_after_it_and_hears_nothing_of_what_was_before() -> None:
    sound = PlacedSound(48_000, TO_HZ)
    loud, still = np.full(1000, 0.5, np.float32), np.zeros(960, np.float32)
    chunks = list(sound.feed(loud, Placed(START_NS, 1)))
    chunks += sound.feed(still, Placed(START_NS + NS_PER_S, 2))
    chunks += sound.flush()
    before = [chunk for chunk in chunks if chunk.t_ns < START_NS + NS_PER_S]
    after = [chunk for chunk in chunks if chunk.t_ns >= START_NS + NS_PER_S]
    assert after[0].t_ns == START_NS + NS_PER_S
    assert sum(len(chunk.samples) for chunk in before) == pytest.approx(1000 / 3, abs=2)
    assert not np.concatenate([chunk.samples for chunk in after]).any()
    assert [chunk.seq for chunk in chunks] == list(range(len(chunks)))


def test_the_level_is_kept() -> None:
    tone = (0.5 * np.sin(2 * np.pi * 440 * np.arange(48_000) / 48_000)).astype(np.float32)
    got = np.concatenate([chunk.samples for chunk in feed(tone, 48_000)])[1000:-1000]
    assert np.sqrt((got**2).mean()) == pytest.approx(0.5 / np.sqrt(2), rel=0.01)


# Which channel


def play(choice: ChannelChoice, *levels: float, seconds: float = 3) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(4)
    for _ in range(round(seconds * 50)):
        block = (rng.normal(0, 1, (960, len(levels))) * levels).astype(np.float32)
        last = choice(block)
    return np.asarray((last[:, None] == block).all(axis=0))


@pytest.mark.parametrize(
    ("levels", "chosen"),
    [
        ((0.1,), 0),
        ((0.1, 0.0), 0),
        ((0.0, 0.1), 1),
        ((0.001, 0.1), 1),
        ((0.1, 0.1), 0),
        ((0.1, 0.15), 0),
        ((0.0, 0.0), 0),
    ],
)
def test_the_channel_with_the_microphone_is_taken(levels: tuple[float, ...], chosen: int) -> None:
    assert play(ChannelChoice(len(levels), 48_000), *levels)[chosen]


def test_the_choice_stays_while_another_is_not_clearly_louder() -> None:
    choice = ChannelChoice(2, 48_000)
    assert play(choice, 0.05, 0.2)[1]
    assert play(choice, 0.25, 0.2)[1]
    assert play(choice, 0.2, 0.002, seconds=8)[0]


def test_a_constant_on_a_channel_is_not_loud() -> None:
    choice = ChannelChoice(2, 48_000)
    block = np.stack([np.full(960, 0.9), np.sin(np.arange(960))], axis=1).astype(np.float32)
    assert np.array_equal(choice(block), block[:, 1])
