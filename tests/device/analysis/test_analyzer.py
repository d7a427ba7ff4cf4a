"""The numeric chain: its output, independent of the order of arrival."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device.analysis.analyzer import Analyzer, search_ticks
from device.analysis.offset_tracker import OffsetTracker
from device.bundles.bundle import load_bundle
from device.errors import UsageError
from device.features.face import Face, FaceDetector
from device.features.model_download import require_face_model
from device.records import NS_PER_MS, NS_PER_S, Chunk, Frame, State
from device.sync.evidence_stream import LipEvidence
from tests.scenes import overconfident_bundle, talking_items, tiny_bundle

SEARCH_MS = 300.0
SIZE = 2 * search_ticks(SEARCH_MS) + 1


def analyze(items: Iterable[Frame | Chunk]) -> tuple[Analyzer, list[LipEvidence]]:
    analyzer = Analyzer(load_bundle(tiny_bundle()), require_face_model(), search_ms=SEARCH_MS)
    rows = [row for item in items for row in analyzer.push(item)]
    return analyzer, [*rows, *analyzer.finish()]


@cache
def talked() -> tuple[Analyzer, list[LipEvidence]]:
    return analyze(talking_items())


@pytest.mark.parametrize("search_ms", [99, 5001, 0, -1, float("nan"), float("inf")])
def test_search_range_has_limits(search_ms: float) -> None:
    with pytest.raises(UsageError, match="100 to 5000"):
        search_ticks(search_ms)


def test_search_range_is_in_audio_ticks() -> None:
    assert [search_ticks(ms) for ms in (100, 1000, 5000)] == [10, 100, 500]


def test_every_lip_tick_gives_one_row_in_order() -> None:
    analyzer, rows = talked()
    ticks = [row.tick for row in rows]
    assert ticks == list(range(ticks[0], ticks[0] + len(ticks)))
    assert len(ticks) == 8 * 25 - 4  # a window of five at each end
    assert all(row.row.shape == (SIZE,) and np.isfinite(row.row).all() for row in rows)
    assert np.mean([row.face for row in rows]) > 0.95
    assert rows[0].t_ns == rows[0].tick * 40 * NS_PER_MS
    assert analyzer.faces == 1


def test_sound_that_arrives_late_changes_nothing() -> None:
    """The tracks' order in time of arrival is the network's or the driver's business, not the offset's."""
    _, rows = talked()
    frames = [item for item in talking_items() if isinstance(item, Frame)]
    chunks = [item for item in talking_items() if isinstance(item, Chunk)]
    items: list[Frame | Chunk] = [*frames, *chunks]
    arrival = sorted(items, key=lambda item: item.t_ns + 700 * NS_PER_MS * isinstance(item, Chunk))
    _, late = analyze(arrival)
    assert [row.tick for row in late] == [row.tick for row in rows]
    np.testing.assert_allclose([row.row for row in late], [row.row for row in rows], atol=1e-3)


def test_moving_the_sound_moves_the_evidence_by_as_much_and_with_the_right_sign() -> None:
    """Sound captured 80 ms earlier is 80 ms ahead of the picture: offsets grow by 80 ms."""
    moved = [
        replace(item, t_ns=item.t_ns - 80 * NS_PER_MS) if isinstance(item, Chunk) else item for item in talking_items()
    ]
    before, after = (np.array([row.row for row in rows[50:150]]) for rows in (talked()[1], analyze(moved)[1]))

    def alike(shift: int) -> float:
        inner = slice(8, SIZE - 8)
        shifted = np.roll(before, shift, axis=1)
        return float(np.corrcoef(after[:, inner].ravel(), shifted[:, inner].ravel())[0, 1])

    assert alike(8) > 0.95
    assert alike(8) > alike(-8)


def test_speech_is_counted_within_the_asked_time() -> None:
    analyzer, _ = talked()
    ratio = analyzer.speech_ratio(2 * NS_PER_S, 6 * NS_PER_S)
    assert ratio is not None and ratio > 0.8
    assert analyzer.speech_ns(2 * NS_PER_S, 6 * NS_PER_S) == pytest.approx(ratio * 4 * NS_PER_S)


def test_unheard_time_has_no_speech_ratio_rather_than_0() -> None:
    analyzer, _ = talked()
    assert analyzer.speech_ratio(100 * NS_PER_S, 101 * NS_PER_S) is None
    assert analyzer.speech_ns(100 * NS_PER_S, 101 * NS_PER_S) == 0


def test_faces_are_unknown_before_the_first_detection() -> None:
    assert Analyzer(load_bundle(tiny_bundle()), require_face_model()).faces is None


# What the daemon asks of it


def fresh() -> Analyzer:
    return Analyzer(load_bundle(tiny_bundle()), require_face_model(), search_ms=SEARCH_MS)


def all_rows(analyzer: Analyzer, items: Iterable[Frame | Chunk]) -> list[LipEvidence]:
    return [*(row for item in items for row in analyzer.push(item)), *analyzer.finish()]


def test_after_a_reset_it_is_as_new() -> None:
    analyzer = fresh()
    for item in talking_items():
        if item.t_ns < 3 * NS_PER_S:
            list(analyzer.push(item))
    analyzer.reset()
    assert analyzer.faces is None and analyzer.speech_ratio(0, 3 * NS_PER_S) is None
    rows, expected = all_rows(analyzer, talking_items()), talked()[1]
    assert [row.tick for row in rows] == [row.tick for row in expected]
    np.testing.assert_array_equal([row.row for row in rows], [row.row for row in expected])


def test_other_models_start_again_with_their_own_calibration() -> None:
    analyzer = fresh()
    list(analyzer.push(talking_items()[0]))
    rash = load_bundle(overconfident_bundle())
    analyzer.use(rash)
    assert analyzer.calibration == rash.calibration
    ticks = [row.tick for row in all_rows(analyzer, talking_items())]
    assert ticks == [row.tick for row in talked()[1]]


def test_with_fewer_detections_every_lip_tick_is_still_there_and_much_the_same() -> None:
    analyzer = fresh()
    analyzer.set_load(1)
    rows, expected = all_rows(analyzer, talking_items()), talked()[1]
    assert [row.tick for row in rows] == [row.tick for row in expected]
    assert np.mean([row.face for row in rows]) > 0.95
    both = np.corrcoef(np.ravel([row.row for row in rows]), np.ravel([row.row for row in expected]))
    assert both[0, 1] > 0.8


def test_under_heavy_load_half_of_the_lips_are_missing_and_not_thought_to_be_gone() -> None:
    analyzer = fresh()
    analyzer.set_load(2)
    rows = all_rows(analyzer, talking_items())
    expected = {row.tick: row for row in talked()[1]}
    assert 0.4 * len(expected) < len(rows) < 0.7 * len(expected)
    assert np.mean([row.face for row in rows]) > 0.95, "what was not looked at is no empty room"
    assert all(row.row.any() for row in rows if row.face)
    tracker = OffsetTracker(analyzer, 5.0)
    for row in rows:
        tracker.push(row)
    found = tracker.result()
    assert found is not None and found.state is not State.NO_FACE


def test_the_load_outlives_a_reset_and_ends_when_it_is_taken_back() -> None:
    analyzer = fresh()
    analyzer.set_load(2)
    analyzer.reset()
    assert len(all_rows(analyzer, talking_items())) < 0.7 * len(talked()[1])
    analyzer.reset()
    analyzer.set_load(0)
    assert len(all_rows(analyzer, talking_items())) == len(talked()[1])


# Faces that come and go


class ScriptedFaces:
    """A face detector by hand: the main face all the time, and others of [begin, end) seconds, each in its place."""

    def __init__(self, others: Iterable[tuple[int, float, float]]) -> None:
        self._others, self.now_s = list(others), 0.0

    def detect(
        self, picture: object, region: tuple[float, float, float] | None = None, *, min_score: float = 0.5
    ) -> list[Face]:
        places = {0} | {place for place, begin_s, end_s in self._others if begin_s <= self.now_s < end_s}
        found = [scripted_face(place) for place in sorted(places)]
        if region is None:
            return found
        x, y, size = region
        return [face for face in found if max(abs(face.mouth[0] - x), abs(face.mouth[1] - y)) < size / 2]


def scripted_face(place: int) -> Face:
    x, y = 20.0 + 40 * place, 20.0
    return Face(0.9, (x - 8, y - 8, 16.0, 16.0), (x - 4, y - 4), (x + 4, y - 4), (x, y + 4))


def follow(others: Iterable[tuple[int, float, float]], length_s: float) -> list[LipEvidence]:
    """The evidence of such a scene, of which none may be late: it must come while the scene goes on."""
    detector = ScriptedFaces(others)
    analyzer = Analyzer(load_bundle(tiny_bundle()), cast(FaceDetector, detector), search_ms=SEARCH_MS)
    picture = np.random.default_rng(0).integers(0, 255, (40, 160, 3)).astype(np.uint8)
    hum, rows = np.zeros(640, np.float32), list[LipEvidence]()
    for k in range(round(length_s * 25)):
        t_ns = k * 40 * NS_PER_MS
        detector.now_s = t_ns / NS_PER_S
        rows += analyzer.push(Chunk(k, t_ns, 16_000, hum))
        rows += analyzer.push(Frame(k, t_ns, picture))
        waited_s = (t_ns - (rows[-1].t_ns if rows else 0)) / NS_PER_S
        assert waited_s < 4, f"no evidence of what was seen {waited_s:.1f} s ago"
    return [*rows, *analyzer.finish()]


appearances = st.tuples(st.integers(1, 3), st.floats(0, 5), st.floats(0.04, 2.5)).map(
    lambda drawn: (drawn[0], drawn[1], drawn[1] + drawn[2])
)


def check_evidence_of_the_main_face_never_stops(others: list[tuple[int, float, float]]) -> None:
    rows = follow(others, 6.0)
    assert [row.tick for row in rows] == list(range(2, 148)), "each tick once, in order"
    assert all(row.face for row in rows)


@settings(max_examples=20, deadline=None)
@given(st.lists(appearances, max_size=12))
def test_whoever_comes_and_goes_evidence_of_the_main_face_never_stops(others: list[tuple[int, float, float]]) -> None:
    check_evidence_of_the_main_face_never_stops(others)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.lists(appearances, max_size=12))
def test_in_hundreds_of_histories_evidence_of_the_main_face_never_stops(
    others: list[tuple[int, float, float]],
) -> None:
    check_evidence_of_the_main_face_never_stops(others)
