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


def joined(chunks: list[Chunk]) -> list[Chunk]:
    joiner = ChunkJoiner()
    return [out for one in chunks for out in joiner.push(one)] + list(joiner.finish())


def test_joined_chunks_end_with_what_completes_a_block_of_the_tower() -> None:
    """The tower answers for the tick before each whole second once it has heard 162.5 ms beyond."""
    found = joined([chunk(k, k * 20 * NS_PER_MS, 320) for k in range(100)])
    ends_ms = [one.t_ns / NS_PER_MS + len(one.samples) * 1000 / RATE_HZ for one in found]
    assert {end % 100 for end in ends_ms[:-1]} == {80.0}, "the first 20 ms that reach beyond 63.5"
    assert [len(one.samples) for one in found[1:-1]] == [1600] * (len(found) - 2)
    assert [one.seq for one in found[:3]] == [0, 4, 9]


def test_a_long_chunk_passes_as_it_is() -> None:
    (found,) = joined([chunk(3, 7, 5000)])
    assert (found.seq, found.t_ns, len(found.samples)) == (3, 7, 5000)


def test_a_gap_a_jump_back_and_another_rate_end_a_chunk() -> None:
    at_ms = [0, 20, 41, 61, 50, 70]  # 1 ms lost after the second, 31 ms back after the fourth
    chunks = [chunk(k, t * NS_PER_MS, 320) for k, t in enumerate(at_ms)]
    assert [one.t_ns // NS_PER_MS for one in joined(chunks)] == [0, 41, 50, 70]
    other = [chunk(0, 0, 320), chunk(1, 20 * NS_PER_MS, 960, 48_000)]
    assert [one.rate_hz for one in joined(other)] == [16_000, 48_000]


def test_a_clock_that_is_off_by_200_ppm_joins_all_the_same() -> None:
    found = joined([chunk(k, round(k * 20 * NS_PER_MS * 1.0002), 320) for k in range(500)])
    assert len(found) == 101
    assert abs(found[-1].t_ns - round(found[-1].seq * 20 * NS_PER_MS * 1.0002)) < 10


def test_nothing_gives_nothing() -> None:
    assert joined([]) == [] and list(ChunkJoiner().finish()) == []


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
