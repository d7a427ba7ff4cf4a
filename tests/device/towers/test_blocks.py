"""Blocks through an encoder: the same embeddings for any split of the ticks, validity, jumps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from device.litert import Floats, Model
from device.towers.blocks import BlockStream, Embeddings
from tests.models.bundles import AUDIO_TICKS, EMBEDDING, LIP_TICKS, audio_encoder, lip_encoder

WINDOW = 33
AUDIO_MODEL = Model(audio_encoder(), name="audio")
LONG_MODEL = Model(audio_encoder(ticks=400), name="audio in one go")


class CountingModel(Model):
    """The tiny audio tower, counting how often it runs."""

    def __init__(self) -> None:
        super().__init__(audio_encoder(), name="counting")
        self.runs = 0

    def __call__(self, values: Floats) -> list[Floats]:
        self.runs += 1
        return super().__call__(values)


def rows(count: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal((count, 40)).astype(np.float32)


def all_true(count: int) -> npt.NDArray[np.bool_]:
    return np.ones(count, np.bool_)


def by_tick(parts: Iterable[Embeddings]) -> dict[int, tuple[Floats, bool]]:
    found: dict[int, tuple[Floats, bool]] = {}
    for part in parts:
        for k, (vector, ok) in enumerate(zip(part.vectors, part.valid, strict=True)):
            assert part.first_tick + k not in found, "each tick once"
            found[part.first_tick + k] = (vector, bool(ok))
    return found


def run(values: npt.NDArray[Any], valid: npt.NDArray[np.bool_], cuts: Iterable[int]) -> dict[int, tuple[Floats, bool]]:
    stream, parts, at = BlockStream(AUDIO_MODEL), [], 0
    for end in [*sorted(cuts), len(values)]:
        parts += list(stream.push(1000 + at, values[at:end], valid[at:end]))
        at = end
    return by_tick([*parts, *stream.finish()])


@settings(max_examples=30)
@given(st.integers(0, 200), st.lists(st.integers(0, 200), max_size=30), st.integers(0, 2**32 - 1))
def test_the_pieces_do_not_matter(count: int, cuts: list[int], seed: int) -> None:
    values = rows(count, seed % 1000)
    valid = np.random.default_rng(seed).random(count) > 0.02
    whole = run(values, valid, [])
    cut = run(values, valid, [min(cut, count) for cut in cuts])
    assert list(whole) == list(cut) == list(range(1000 + WINDOW // 2, 1000 + WINDOW // 2 + max(count - WINDOW + 1, 0)))
    for tick, (vector, ok) in whole.items():
        assert np.array_equal(vector, cut[tick][0]) and ok == cut[tick][1]


def test_blocks_equal_one_long_run_of_the_tower() -> None:
    values = rows(400)
    expected = LONG_MODEL(values[None])[0][0]
    found = run(values, all_true(400), [7, 150])
    assert len(found) == len(expected) == 400 - WINDOW + 1
    for k, vector in enumerate(expected):
        np.testing.assert_allclose(found[1000 + WINDOW // 2 + k][0], vector, rtol=1e-5, atol=1e-5)


def test_one_invalid_tick_spoils_exactly_the_windows_that_see_it() -> None:
    valid = all_true(120)
    valid[60] = False
    found = run(rows(120), valid, [33])
    reach = WINDOW // 2
    assert [tick for tick, (_, ok) in found.items() if not ok] == list(range(1060 - reach, 1060 + reach + 1))


def test_a_window_of_even_reach_is_placed_at_its_middle() -> None:
    stream = BlockStream(Model(lip_encoder(), name="lips"), ends_at=102)
    crops = np.zeros((LIP_TICKS, 64, 64), np.float32)
    (part,) = stream.push(100, crops, all_true(LIP_TICKS))
    assert part.first_tick == 102 and part.vectors.shape == (LIP_TICKS - 4, EMBEDDING)


@settings(max_examples=30)
@given(st.integers(0, 300), st.integers(-50, 50), st.lists(st.integers(1, 30), max_size=20))
def test_all_blocks_but_the_last_end_where_requested(first: int, ends_at: int, pieces: list[int]) -> None:
    stream, tick, stride = BlockStream(AUDIO_MODEL, ends_at=ends_at), first, AUDIO_TICKS - WINDOW + 1
    for piece in pieces:
        for part in stream.push(tick, rows(piece), all_true(piece)):
            end = part.first_tick + len(part.valid)
            assert (end - ends_at) % stride == 0 and len(part.valid) <= stride
            assert end + WINDOW // 2 <= tick + piece < end + WINDOW // 2 + piece, "as soon as its last tick has come"
        tick += piece


def test_a_jump_starts_a_new_block_and_no_window_spans_it() -> None:
    stream = BlockStream(AUDIO_MODEL)
    parts = [*stream.push(0, rows(42), all_true(42)), *stream.push(500, rows(37, 1), all_true(37)), *stream.finish()]
    assert list(by_tick(parts)) == [*range(16, 26), *range(516, 521)]


def test_what_is_shorter_than_a_window_gives_nothing() -> None:
    stream = BlockStream(AUDIO_MODEL)
    assert not list(stream.push(0, rows(WINDOW - 1), all_true(WINDOW - 1)))
    assert not list(stream.finish())
    assert not list(stream.push(5, rows(0), all_true(0)))


def test_after_finish_the_stream_starts_again() -> None:
    stream = BlockStream(AUDIO_MODEL)
    first = by_tick([*stream.push(0, rows(42), all_true(42)), *stream.finish()])
    again = by_tick([*stream.push(0, rows(42), all_true(42)), *stream.finish()])
    assert list(first) == list(again)
    assert all(np.array_equal(first[tick][0], again[tick][0]) for tick in first)


def test_without_a_face_the_tower_rests() -> None:
    model = CountingModel()
    stream = BlockStream(model)
    parts = [*stream.push(0, rows(400), ~all_true(400)), *stream.finish()]
    assert model.runs == 0 and len(by_tick(parts)) == 400 - WINDOW + 1
    assert not any(part.valid.any() or part.vectors.any() for part in parts)
    list(stream.push(400, rows(AUDIO_TICKS), all_true(AUDIO_TICKS)))
    assert model.runs > 0


def test_values_are_prepared_before_the_tower_sees_them() -> None:
    plain = by_tick(BlockStream(AUDIO_MODEL).push(0, rows(40) * 2, all_true(40)))
    doubled = by_tick(BlockStream(AUDIO_MODEL, lambda values: values * 2).push(0, rows(40), all_true(40)))
    assert all(np.array_equal(plain[tick][0], doubled[tick][0]) for tick in plain)


def test_memory_does_not_grow_with_the_stream() -> None:
    stream = BlockStream(CountingModel())
    for start in range(0, 4000, 100):
        list(stream.push(start, rows(100), ~all_true(100)))
        assert stream._held == sum(len(values) for values, _ in stream._parts) < AUDIO_TICKS


def test_one_that_skips_gives_every_second_block_whole_and_the_others_not_at_all() -> None:
    whole = by_tick(BlockStream(AUDIO_MODEL).push(0, rows(400), all_true(400)))
    stream = BlockStream(AUDIO_MODEL)
    stream.skips = True
    parts = list(stream.push(0, rows(400), all_true(400)))
    ends = [part.first_tick + len(part.valid) for part in BlockStream(AUDIO_MODEL).push(0, rows(400), all_true(400))]
    assert [part.first_tick + len(part.valid) for part in parts] == ends, "left out, and said so"
    assert [len(part.valid) > 0 for part in parts] == [k % 2 == 1 for k in range(len(parts))]
    assert 0.4 < len(by_tick(parts)) / len(whole) < 0.6
    assert all(np.array_equal(vector, whole[tick][0]) for tick, (vector, _) in by_tick(parts).items())


def test_what_is_skipped_costs_nothing() -> None:
    model, all_of_it = CountingModel(), CountingModel()
    stream = BlockStream(model)
    stream.skips = True
    list(stream.push(0, rows(400), all_true(400)))
    list(BlockStream(all_of_it).push(0, rows(400), all_true(400)))
    assert 2 * model.runs <= all_of_it.runs + 1
