"""The evidence stream: one row for each lip tick, in order, for any split of both inputs, without endless waits."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device.bundles.calibration import NEGATIVE_REACH_TICKS, Calibration
from device.sync.curve import evidence
from device.sync.evidence_stream import EvidenceStream, LipEvidence
from device.towers.blocks import Embeddings

SEARCH, SCALE, SIZE = 30, 7.0, 8
WITHOUT_RIVALS = Calibration(logit_scale=SCALE, negative_reach_ticks=0)
Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]


def noise(count: int, seed: int) -> Floats:
    return np.random.default_rng(seed).standard_normal((count, SIZE)).astype(np.float32)


def part(first: int, vectors: Floats, valid: Flags | None = None) -> Embeddings:
    return Embeddings(first, vectors, np.ones(len(vectors), np.bool_) if valid is None else valid)


def pieces(first: int, vectors: Floats, valid: Flags, cuts: Sequence[int]) -> list[Embeddings]:
    ends = [0, *sorted(min(cut, len(vectors)) for cut in cuts), len(vectors)]
    return [part(first + a, vectors[a:b], valid[a:b]) for a, b in pairwise(ends) if b > a]


def play(lips: list[Embeddings], audio: list[Embeddings], order: Sequence[bool]) -> list[LipEvidence]:
    """Push both sides, each in its own order, mixed as `order` says (True: lips next)."""
    stream, out = EvidenceStream(SEARCH, Calibration(logit_scale=SCALE)), []
    waiting = {True: list(lips), False: list(audio)}
    for choice in [*order, *[True] * len(lips), *[False] * len(audio)]:
        if waiting[choice]:
            embeddings = waiting[choice].pop(0)
            out += list(stream.push_lips(embeddings) if choice else stream.push_audio(embeddings))
    return [*out, *stream.finish()]


@settings(max_examples=40)
@given(
    st.lists(st.integers(0, 120), max_size=12),
    st.lists(st.integers(0, 520), max_size=12),
    st.lists(st.booleans(), max_size=30),
    st.integers(0, 100),
)
def test_the_pieces_and_their_order_do_not_matter(
    lip_cuts: list[int], audio_cuts: list[int], order: list[bool], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    lips, audio = noise(120, seed), noise(520, seed + 1)
    lips_ok, audio_ok = rng.random(120) > 0.1, rng.random(520) > 0.1
    found = play(pieces(50, lips, lips_ok, lip_cuts), pieces(190, audio, audio_ok, audio_cuts), order)
    expected = evidence(lips, lips_ok, 50, audio, audio_ok, 190, SEARCH, SCALE, NEGATIVE_REACH_TICKS)
    assert [row.tick for row in found] == list(range(50, 170))
    assert [row.face for row in found] == lips_ok.tolist()
    np.testing.assert_allclose(np.stack([row.row for row in found]), expected, atol=2e-5)


def test_a_row_comes_as_soon_as_all_its_candidates_were_heard_and_not_before() -> None:
    stream = EvidenceStream(SEARCH, WITHOUT_RIVALS)
    assert not list(stream.push_lips(part(10, noise(1, 0))))
    assert not list(stream.push_audio(part(0, noise(40 + SEARCH, 1))))  # the last candidate is tick 40 + SEARCH
    (row,) = stream.push_audio(part(40 + SEARCH, noise(1, 2)))
    assert row.tick == 10 and row.t_ns == 400_000_000 and row.face and np.all(row.row != 0)


def test_lips_that_come_after_their_sound_are_answered_at_once() -> None:
    stream = EvidenceStream(SEARCH, WITHOUT_RIVALS)
    assert not list(stream.push_audio(part(0, noise(1000, 1))))
    assert [row.tick for row in stream.push_lips(part(20, noise(30, 0)))] == list(range(20, 50))


def test_a_row_waits_for_the_lips_that_compete_with_it_and_not_for_those_of_a_face_that_is_gone() -> None:
    stream = EvidenceStream(SEARCH, Calibration(logit_scale=SCALE, negative_reach_ticks=10))
    assert not list(stream.push_audio(part(0, noise(1000, 1))))
    assert [row.tick for row in stream.push_lips(part(20, noise(30, 0)))] == list(range(20, 40))
    assert [row.tick for row in stream.push_faces([], ended=[0])] == list(range(40, 50))


def test_faces_that_have_not_begun_or_have_ended_are_errors() -> None:
    stream = EvidenceStream(SEARCH, Calibration(logit_scale=SCALE))
    with pytest.raises(KeyError, match="has not begun"):
        list(stream.push_faces([], ended=[1]))
    with pytest.raises(KeyError, match="has not begun"):
        list(stream.push_faces([(1, part(0, noise(5, 0)))]))
    stream.begin(1, 0)
    with pytest.raises(ValueError, match="begun already"):
        stream.begin(1, 0)
    list(stream.push_faces([(1, part(0, noise(5, 0)))], ended=[1]))
    with pytest.raises(KeyError, match="has ended"):
        list(stream.push_faces([(1, part(5, noise(5, 0)))]))


def test_a_face_that_says_nothing_more_holds_up_the_others_for_two_seconds_at_most() -> None:
    stream, rows = EvidenceStream(SEARCH, Calibration(logit_scale=SCALE, negative_reach_ticks=10)), list[LipEvidence]()
    stream.begin(0, 0)
    stream.begin(1, 30)
    assert not list(stream.push_audio(part(0, noise(2000, 1))))
    for first in range(0, 200, 10):
        rows += stream.push_faces([(0, part(first, noise(10, first)))])
    assert [row.tick for row in rows] == list(range(190))
    late = list(stream.push_faces([(1, part(170, noise(30, 5)))], ended=[0, 1]))
    assert [row.tick for row in late] == list(range(190, 200)), "what was given is not given again"


def test_a_block_that_is_left_out_is_not_waited_for() -> None:
    stream = EvidenceStream(SEARCH, Calibration(logit_scale=SCALE, negative_reach_ticks=10))
    assert not list(stream.push_audio(part(0, noise(1000, 1))))
    assert [row.tick for row in stream.push_lips(part(20, noise(25, 0)))] == list(range(20, 35))
    assert [row.tick for row in stream.push_lips(part(70, noise(0, 0)))] == list(range(35, 45))


def test_without_sound_the_rows_come_late_and_empty() -> None:
    stream, rows = EvidenceStream(SEARCH, Calibration(logit_scale=SCALE)), []
    for first in range(0, 2000, 10):
        rows += list(stream.push_lips(part(first, noise(10, first))))
        assert len(stream._lips[0].waiting) <= 25 * 20 + 10, "lips must not wait for ever"
    rows += list(stream.finish())
    assert [row.tick for row in rows] == list(range(2000))
    assert not any(row.row.any() for row in rows)


def test_without_a_picture_the_sound_is_forgotten() -> None:
    stream = EvidenceStream(SEARCH, Calibration(logit_scale=SCALE))
    for first in range(0, 20_000, 100):
        assert not list(stream.push_audio(part(first, noise(100, first))))
        assert len(stream._audio) <= 100 * 60
    assert not list(stream.finish())


def test_memory_does_not_grow_when_both_go_on() -> None:
    stream = EvidenceStream(SEARCH, Calibration(logit_scale=SCALE))
    for first in range(0, 3000, 5):
        list(stream.push_audio(part(4 * first, noise(20, first))))
        list(stream.push_lips(part(first, noise(5, first))))
        waiting = len(stream._lips[0].waiting)
        assert (
            len(stream._audio) <= 2 * SEARCH + 40 + 4 * NEGATIVE_REACH_TICKS
            and waiting <= SEARCH // 4 + 10 + NEGATIVE_REACH_TICKS
        )


def test_a_jump_of_the_lips_leaves_its_ticks_out() -> None:
    lips, audio = noise(60, 0), noise(2000, 1)
    found = play([part(10, lips[:20]), part(300, lips[20:])], [part(0, audio)], [False])
    assert [row.tick for row in found] == [*range(10, 30), *range(300, 340)]
    ok = np.ones(2000, np.bool_)
    later = evidence(lips[20:], np.ones(40, np.bool_), 300, audio, ok, 0, SEARCH, SCALE, NEGATIVE_REACH_TICKS)
    np.testing.assert_allclose(np.stack([row.row for row in found[20:]]), later, atol=2e-5)


def test_a_gap_in_the_sound_counts_as_not_heard() -> None:
    audio = noise(400, 1)
    found = play([part(20, noise(40, 0))], [part(0, audio[:100]), part(200, audio[200:])], [])
    for row in found:
        ticks = row.tick * 4 - (np.arange(2 * SEARCH + 1) - SEARCH)
        missing = (ticks >= 100) & (ticks < 200)
        assert not row.row[missing].any()
        assert np.all(row.row[~missing] != 0)


def test_ticks_without_a_mouth_say_so() -> None:
    valid = np.array([True, False, True])
    found = play([part(5, noise(3, 0), valid)], [part(0, noise(200, 1))], [])
    assert [row.face for row in found] == [True, False, True]
    assert [bool(row.row.any()) for row in found] == [True, False, True]
