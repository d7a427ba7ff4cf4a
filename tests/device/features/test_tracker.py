"""Tracking faces with a scripted detector: one or several, cuts, new and lost faces, the rate of detection."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device.features.face import Face, FaceDetector
from device.features.mouth import MouthCrop
from device.features.tracker import DETECT_EVERY_NS, LOOK_AHEAD_NS, MAX_FACES, MouthTracker
from device.pictures import Picture, whole_rgb
from device.records import NS_PER_MS, Frame, RgbImage
from tests.device.features.test_mouth import MIDDLE, centroid, draw, key_points

WIDTH, HEIGHT = 480, 270
FRAME_NS = 40 * NS_PER_MS
Scene = Callable[[int], list[Face]]  # what is there at a time in ms


def face(x: float, y: float = 150.0, size: float = 30.0, score: float = 0.9) -> Face:
    points = key_points((x, y), size).tolist()
    box = (x - 1.2 * size, y - 1.8 * size, 2.4 * size, 2.4 * size)
    return Face(score, box, (points[0][0], points[0][1]), (points[1][0], points[1][1]), (x, y))


class ScriptedDetector(FaceDetector):
    """Sees the faces that the scene has at the time that is written into the picture's first pixel."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.looked_at_ms: list[int] = []
        self.regions: list[tuple[float, float, float] | None] = []

    def detect(
        self, picture: Picture, region: tuple[float, float, float] | None = None, *, min_score: float = 0.5
    ) -> list[Face]:
        t_ms = int.from_bytes(whole_rgb(picture)[0, 0].tobytes(), "big") - 1_000_000
        self.looked_at_ms.append(t_ms)
        self.regions.append(region)
        found = self.scene(t_ms)
        if region is not None:
            x, y, side = region
            found = [f for f in found if abs(f.mouth[0] - x) < side / 2 and abs(f.mouth[1] - y) < side / 2]
        return sorted(found, key=lambda f: -f.score)


def picture(t_ms: int, faces: list[Face]) -> RgbImage:
    """A bright mark at each mouth."""
    gray = draw([f.mouth for f in faces], 3.0, WIDTH, HEIGHT)
    rgb = np.repeat(gray[:, :, None], 3, axis=2)
    rgb[0, 0] = np.frombuffer((t_ms + 1_000_000).to_bytes(3, "big"), np.uint8)
    return rgb


def play_all(scene: Scene, times_ms: Iterable[int], tracker: MouthTracker | None = None) -> list[list[MouthCrop]]:
    """The mouths of each frame."""
    tracker, out = tracker or MouthTracker(ScriptedDetector(scene)), []
    for seq, t_ms in enumerate(times_ms):
        out += list(tracker.push(Frame(seq, t_ms * NS_PER_MS, picture(t_ms, scene(t_ms)))))
    return [*out, *tracker.finish()]


def play(scene: Scene, times_ms: Iterable[int], tracker: MouthTracker | None = None) -> list[MouthCrop]:
    """The mouth in the first lane."""
    return [mouths[0] for mouths in play_all(scene, times_ms, tracker)]


def at_25_hz(until_ms: int) -> range:
    return range(0, until_ms, 40)


def steady(_: int) -> list[Face]:
    return [face(200)]


@settings(max_examples=15)
@given(
    st.lists(st.integers(5, 300), min_size=1, max_size=60),
    st.lists(st.sampled_from([None, 100, 105, 300]), min_size=1, max_size=8),
)
def test_every_frame_comes_out_once_in_order(steps_ms: list[int], places: list[int | None]) -> None:
    times = [int(t) for t in np.cumsum(steps_ms)]

    def scene(t_ms: int) -> list[Face]:
        place = places[t_ms // 700 % len(places)]
        return [] if place is None else [face(place)]

    out = play(scene, times)
    assert [crop.t_ns // NS_PER_MS for crop in out] == times
    assert [crop.track for crop in out] == sorted(crop.track for crop in out)


def test_a_steady_face_is_cut_in_the_middle_from_the_first_frame_to_the_last() -> None:
    for crop in play(steady, at_25_hz(1200)):
        assert crop.crop is not None and crop.track == 0 and crop.faces == 1
        assert centroid(crop.crop) == pytest.approx((MIDDLE, MIDDLE), abs=0.5)


def test_crops_come_as_soon_as_the_look_ahead_is_over() -> None:
    tracker = MouthTracker(ScriptedDetector(steady))
    for seq, t_ms in enumerate(at_25_hz(2000)):
        out = list(tracker.push(Frame(seq, t_ms * NS_PER_MS, picture(t_ms, steady(t_ms)))))
        assert [crop.t_ns for (crop,) in out] == ([t_ms * NS_PER_MS - LOOK_AHEAD_NS] if t_ms >= 400 else [])
        assert len(tracker._waiting) <= LOOK_AHEAD_NS // FRAME_NS + 1
    assert len(list(tracker.finish())) == 10 and not list(tracker.finish())


@pytest.mark.parametrize("step_ms", [16, 33, 40, 200])
def test_the_detector_runs_a_few_times_a_second_near_the_last_face(step_ms: int) -> None:
    detector = ScriptedDetector(steady)
    play(steady, range(0, 3000, step_ms), MouthTracker(detector))
    gaps = np.diff(sorted(set(detector.looked_at_ms))) * NS_PER_MS
    assert gaps.min() >= DETECT_EVERY_NS and gaps.max() < DETECT_EVERY_NS + max(step_ms, 80) * NS_PER_MS + 1
    around = [t_ms for t_ms, region in zip(detector.looked_at_ms, detector.regions, strict=True) if region is None]
    assert around[0] == 0 and len(around) == 2 and around[1] >= 2000, "the whole picture: at first, every two seconds"


def test_with_half_of_the_detections_a_still_face_is_cut_out_as_before() -> None:
    """What a computer does that cannot keep up."""
    detector = ScriptedDetector(steady)
    tracker = MouthTracker(detector)
    tracker.detect_every_ns = 2 * DETECT_EVERY_NS
    out = play(steady, at_25_hz(3000), tracker)
    assert len(set(detector.looked_at_ms)) == pytest.approx(3000 / (2 * DETECT_EVERY_NS / NS_PER_MS), abs=1)
    expected = play(steady, at_25_hz(3000))
    assert [crop.t_ns for crop in out] == [crop.t_ns for crop in expected]
    assert all(crop.crop is not None for crop in out) and len({crop.track for crop in out}) == 1


def test_an_empty_room_gives_blank_crops() -> None:
    for crop in play(lambda _: [], at_25_hz(1000)):
        assert crop.crop is None and crop.faces == 0


def test_a_lost_face_ends_within_half_a_second_and_comes_back_as_another_track() -> None:
    out = play(lambda t_ms: [face(200)] if t_ms < 1000 or t_ms >= 2500 else [], at_25_hz(4000))
    by_ms = {crop.t_ns // NS_PER_MS: crop for crop in out}
    assert all(by_ms[t].crop is not None for t in range(0, 1000, 40))
    assert all(by_ms[t].crop is None for t in range(1440, 2080, 40)), "400 ms beyond what was seen"
    assert all(by_ms[t].crop is not None for t in range(2640, 4000, 40))
    assert by_ms[0].track != by_ms[3000].track
    assert by_ms[2000].faces == 0 and by_ms[3000].faces == 1


def test_a_face_missed_for_a_moment_stays_the_same_track() -> None:
    out = play(lambda t_ms: [] if 1000 <= t_ms < 1300 else [face(200)], at_25_hz(2500))
    assert {crop.track for crop in out} == {0} and all(crop.crop is not None for crop in out)


@pytest.mark.parametrize("after", [face(380), face(200, size=60), face(200, y=100)])
def test_a_cut_starts_another_track_and_does_not_pull_the_crops(after: Face) -> None:
    out = play(lambda t_ms: [face(200)] if t_ms < 1200 else [after], at_25_hz(2400))
    assert {crop.track for crop in out if crop.t_ns < 1200 * NS_PER_MS} == {0}
    assert {crop.track for crop in out if crop.t_ns >= (1200 + 120) * NS_PER_MS} == {1}
    for crop in out:
        if crop.t_ns < 1200 * NS_PER_MS or crop.t_ns >= (1200 + 120) * NS_PER_MS:
            assert crop.crop is not None
            assert centroid(crop.crop) == pytest.approx((MIDDLE, MIDDLE), abs=0.5)


def test_a_walking_speaker_stays_in_the_middle() -> None:
    rng = np.random.default_rng(0)
    shake = rng.standard_normal((200, 2)) * 1.5

    def true_x(t_ms: int) -> float:
        return 120 + t_ms * 0.03

    tracker = MouthTracker(
        ScriptedDetector(lambda t_ms: [face(true_x(t_ms) + shake[t_ms // 40, 0], 150 + shake[t_ms // 40, 1])])
    )
    middles = np.array([
        centroid(crop.crop) if crop.crop is not None else (np.nan, np.nan)
        for crop in play(lambda t_ms: [face(true_x(t_ms))], at_25_hz(8000), tracker)
    ])[10:-10]  # fmt: skip
    pixels_per_crop_pixel = 1.5 * 30 / 64
    error = (middles - MIDDLE) * pixels_per_crop_pixel
    assert np.abs(error.mean(0)).max() < 0.5, "no lag: 30 px/s times 320 ms would be 10 pixels"
    assert error.std(0).max() < 1.0, "steadier than the detections"
    assert np.diff(error, axis=0).std() < 0.4, "and without shaking from frame to frame"


def test_the_largest_face_comes_first_and_is_the_only_one_where_only_one_is_followed() -> None:
    out = play(lambda _: [face(120, size=20, score=0.99), face(330, size=35, score=0.6)], at_25_hz(1000))
    for crop in out:
        assert crop.crop is not None and crop.faces == 2 and crop.track == 0
    detector = ScriptedDetector(lambda _: [face(120, size=20, score=0.99), face(330, size=35, score=0.6)])
    play(detector.scene, at_25_hz(1000), MouthTracker(detector, max_faces=1))
    assert {region[0] for region in detector.regions if region} == {330.0}


def test_a_clearer_neighbour_does_not_take_over() -> None:
    """Two heads side by side, whose scores change places at each look: the crops stay with the first."""

    def scene(t_ms: int) -> list[Face]:
        swing = 0.05 if t_ms // 120 % 2 else -0.05
        return [face(200, size=31, score=0.8 + swing), face(250, size=30, score=0.8 - swing)]

    out = play(scene, at_25_hz(2000))
    assert {crop.track for crop in out} == {0}


@pytest.mark.parametrize("margin_px", [0, 8])
def test_crops_carry_their_margin(margin_px: int) -> None:
    out = play(steady, at_25_hz(600), MouthTracker(ScriptedDetector(steady), margin_px=margin_px))
    assert {crop.crop.shape for crop in out if crop.crop is not None} == {(64 + 2 * margin_px, 64 + 2 * margin_px)}


def test_a_jump_of_hours_keeps_what_was_before() -> None:
    out = play(steady, [*at_25_hz(600), *range(9_000_000, 9_000_600, 40)])
    assert len(out) == 30 and all(crop.crop is not None for crop in out)


def test_each_of_two_faces_has_a_track_and_its_own_crops() -> None:
    for mouths in play_all(lambda _: [face(120), face(340, y=140)], at_25_hz(3000)):
        assert sorted(crop.face_id for crop in mouths) == [0, 1] and {crop.faces for crop in mouths} == {2}
        for crop in mouths:
            assert crop.crop is not None and centroid(crop.crop) == pytest.approx((MIDDLE, MIDDLE), abs=0.5)


def test_a_later_face_is_found_and_a_lost_face_frees_its_track() -> None:
    def scene(t_ms: int) -> list[Face]:
        return [face(120), face(340)] if 2000 <= t_ms < 6000 else [face(120)]

    by_ms = {mouths[0].t_ns // NS_PER_MS: mouths for mouths in play_all(scene, at_25_hz(9000))}
    assert all(len(by_ms[t_ms]) == 1 for t_ms in [*range(0, 2000, 40), *range(7000, 9000, 40)])
    assert all(len(by_ms[t_ms]) == 2 for t_ms in range(4400, 6000, 40))
    assert {mouths[0].face_id for mouths in by_ms.values()} == {0}
    assert by_ms[8960][0].faces == 1


def test_when_the_first_face_leaves_the_other_keeps_its_track() -> None:
    def scene(t_ms: int) -> list[Face]:
        return [face(340)] if t_ms >= 3000 else [face(120, size=34), face(340)]

    out = play_all(scene, at_25_hz(6000))
    assert [crop.face_id for crop in out[-1]] == [1] and out[-1][0].crop is not None
    seen = [crop for mouths in out for crop in mouths if crop.face_id == 1]
    assert len({crop.track for crop in seen}) == 1, "the same person all the time"


def test_no_more_than_three_are_followed_and_the_cost_is_bounded() -> None:
    crowd = [face(60 + 90 * k, size=20 + k) for k in range(5)]
    detector = ScriptedDetector(lambda _: crowd)
    out = play_all(detector.scene, at_25_hz(4000), MouthTracker(detector))
    assert max(len(mouths) for mouths in out) == MAX_FACES and out[-1][0].faces == 5
    looks = len(detector.looked_at_ms)
    rounds = 4000 / (DETECT_EVERY_NS / NS_PER_MS)
    assert looks <= MAX_FACES * (rounds + 1) + 3


def test_the_favourite_is_kept_when_fewer_are_followed() -> None:
    scene: Scene = lambda _: [face(120, size=34), face(340)]  # noqa: E731
    tracker, out = MouthTracker(ScriptedDetector(scene)), []
    for seq, t_ms in enumerate(at_25_hz(4000)):
        if t_ms == 2000:
            tracker.favourite, tracker.max_faces = 1, 1
        out += list(tracker.push(Frame(seq, t_ms * NS_PER_MS, picture(t_ms, scene(t_ms)))))
    assert {crop.face_id for mouths in out[:40] for crop in mouths} == {0, 1}
    assert [crop.face_id for crop in out[-1]] == [1]
