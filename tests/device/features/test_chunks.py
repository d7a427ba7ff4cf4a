"""Joined chunks: every sample once, in order, at its time; gaps and jumps are kept."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from device.features.chunks import ChunkJoiner
from device.records import NS_PER_MS, NS_PER_S, Chunk

RATE_HZ = 16_000


def chunk(seq: int, t_ns: int, count: int, rate_hz: int = RATE_HZ) -> Chunk:
    return Chunk(seq, t_ns, rate_hz, (np.arange(count) + 1000 * seq).astype(np.float32))


def joined(chunks: list[Chunk], length_ms: int = 100) -> list[Chunk]:
    joiner = ChunkJoiner(length_ms * NS_PER_MS)
    return [out for one in chunks for out in joiner.push(one)] + list(joiner.finish())


def test_five_of_20_ms_make_one_of_100_ms() -> None:
    found = joined([chunk(k, k * 20 * NS_PER_MS, 320) for k in range(12)])
    assert [len(one.samples) for one in found] == [1600, 1600, 640]
    assert [one.t_ns for one in found] == [0, 100 * NS_PER_MS, 200 * NS_PER_MS]
    assert [one.seq for one in found] == [0, 5, 10]


def test_a_long_chunk_passes_as_it_is() -> None:
    (found,) = joined([chunk(3, 7, 5000)])
    assert (found.seq, found.t_ns, len(found.samples)) == (3, 7, 5000)


def test_a_gap_a_jump_back_and_another_rate_end_a_chunk() -> None:
    at_ms = [0, 20, 41, 61, 50, 70]  # 1 ms lost after the second, 31 ms back after the fourth
    chunks = [chunk(k, t * NS_PER_MS, 320) for k, t in enumerate(at_ms)]
    assert [one.t_ns // NS_PER_MS for one in joined(chunks)] == [0, 41, 50]
    other = [chunk(0, 0, 320), chunk(1, 20 * NS_PER_MS, 960, 48_000)]
    assert [one.rate_hz for one in joined(other)] == [16_000, 48_000]


def test_a_clock_that_is_off_by_200_ppm_joins_all_the_same() -> None:
    found = joined([chunk(k, round(k * 20 * NS_PER_MS * 1.0002), 320) for k in range(500)])
    assert len(found) == 100
    assert abs(found[-1].t_ns - 99 * 100 * NS_PER_MS * 1.0002) < 10


def test_nothing_gives_nothing() -> None:
    assert joined([]) == [] and list(ChunkJoiner(1).finish()) == []


@given(st.lists(st.tuples(st.integers(1, 3000), st.sampled_from([0, 0, 0, 1, -50, 400])), max_size=30))
def test_every_sample_comes_out_once_at_its_time(pieces: list[tuple[int, int]]) -> None:
    chunks, t_ns = [], 0
    for seq, (count, slip_ms) in enumerate(pieces):
        t_ns += slip_ms * NS_PER_MS
        chunks.append(chunk(seq, t_ns, count))
        t_ns += count * NS_PER_S // RATE_HZ

    def placed(some: list[Chunk]) -> list[tuple[float, int]]:
        return [(v, c.t_ns + k * NS_PER_S // RATE_HZ) for c in some for k, v in enumerate(c.samples.tolist())]

    before, after = placed(chunks), placed(joined(chunks))
    assert [value for value, _ in before] == [value for value, _ in after]
    assert all(abs(a - b) <= 500_000 for (_, a), (_, b) in zip(before, after, strict=True))
