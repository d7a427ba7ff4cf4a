"""Mouth crops: geometry on drawn pictures with known marks, smoothing, and the tracker with a scripted detector."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device.features.face import Face, FaceDetector
from device.features.mouth import DETECT_EVERY_NS, LOOK_AHEAD_NS, KeyPoints, MouthCrop, MouthTracker, cut, smooth
from device.pictures import Picture, whole_rgb
from device.records import NS_PER_MS, Frame, GrayImage, RgbImage

MIDDLE = 31.5
WIDTH, HEIGHT = 480, 270
FRAME_NS = 40 * NS_PER_MS


def turned(angle: float) -> npt.NDArray[np.float64]:
    """Unit vectors along the eyes (towards the person's left, the picture's right) and down the face."""
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def key_points(mouth: tuple[float, float], size: float, angle: float = 0.0) -> KeyPoints:
    """Right eye, left eye, mouth of a face whose eyes are `size` above its mouth."""
    across, down = turned(angle)
    eyes = np.array(mouth) - down * size
    return np.stack([eyes - across * 0.5 * size, eyes + across * 0.5 * size, np.array(mouth)])


def draw(marks: Iterable[tuple[float, float]], radius: float, width: int = 900, height: int = 700) -> GrayImage:
    y, x = np.mgrid[:height, :width].astype(np.float32)
    picture = np.full((height, width), 20.0, np.float32)
    for mark_x, mark_y in marks:
        picture += 200 * np.exp(-((x - mark_x) ** 2 + (y - mark_y) ** 2) / (2 * radius**2))
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def centroid(crop: GrayImage) -> tuple[float, float]:
    weight = np.clip(crop.astype(np.float64) - 40, 0, None)
    y, x = np.mgrid[: crop.shape[0], : crop.shape[1]]
    return float((x * weight).sum() / weight.sum()), float((y * weight).sum() / weight.sum())


@pytest.mark.parametrize("angle", [0.0, 0.3, -0.7, 2.8])
@pytest.mark.parametrize("size", [12.0, 30.0, 42.6, 75.0, 110.0, 240.0, 320.0])
@pytest.mark.parametrize("mouth", [(450.0, 350.0), (453.37, 341.71)])
def test_the_mouth_lies_in_the_middle_at_any_scale(size: float, angle: float, mouth: tuple[float, float]) -> None:
    crop = cut(draw([mouth], size / 10), key_points(mouth, size, angle))
    assert crop.shape == (64, 64) and crop.dtype == np.uint8
    assert centroid(crop) == pytest.approx((MIDDLE, MIDDLE), abs=0.5)


@pytest.mark.parametrize("angle", [0.0, 0.4, -0.4, 1.5])
@pytest.mark.parametrize("size", [25.0, 60.0, 200.0])
def test_eyes_come_out_level_and_the_chin_below(size: float, angle: float) -> None:
    """A mark towards the person's left lies to the right in the crop, one towards the chin below: never mirrored."""
    mouth, pitch = np.array([450.0, 350.0]), 64 / 1.5
    for vector, expected in zip(turned(angle), [(0.4 * pitch, 0.0), (0.0, 0.4 * pitch)], strict=True):
        x, y = mouth + 0.4 * size * vector
        found = centroid(cut(draw([(x, y)], size / 12), key_points((450.0, 350.0), size, angle)))
        assert found == pytest.approx((MIDDLE + expected[0], MIDDLE + expected[1]), abs=0.5)


@pytest.mark.parametrize("size", [60.0, 90.0, 130.0, 300.0])
def test_fine_patterns_are_averaged_not_aliased(size: float) -> None:
    y, x = np.mgrid[:700, :900]
    checkers = np.where((x + y) % 2, 255, 0).astype(np.uint8)
    for angle in (0.0, 0.05):
        crop = cut(checkers, key_points((450.2, 350.4), size, angle)).astype(float)
        assert crop.mean() == pytest.approx(127.5, abs=3)
        if size >= 100:
            assert crop.std() < 12


@pytest.mark.parametrize("margin_px", [1, 8])
@pytest.mark.parametrize("size", [20.0, 50.0, 150.0])
def test_a_margin_adds_pixels_around_the_same_ones(size: float, margin_px: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (700, 900)).astype(np.uint8)
    points = key_points((451.3, 349.9), size, 0.2)
    plain, wide = cut(picture, points).astype(int), cut(picture, points, margin_px).astype(int)
    assert wide.shape == (64 + 2 * margin_px, 64 + 2 * margin_px)
    inner = wide[margin_px:-margin_px, margin_px:-margin_px]
    # Noise from pixel to pixel shows the 1/32 pixel steps in which OpenCV interpolates.
    assert np.abs(inner - plain).max() <= 20 and np.abs(inner - plain).mean() < 0.5


def test_beyond_the_picture_its_border_goes_on() -> None:
    crop = cut(np.full((100, 100), 90, np.uint8), key_points((1.0, 99.0), 40.0))
    assert np.all(crop == 90)


@pytest.mark.parametrize("points", [np.zeros((3, 2)), key_points((5.0, 1.0), 500.0), key_points((-900.0, 5.0), 3.0)])
@pytest.mark.parametrize("shape", [(1, 1), (2, 900), (900, 2), (40, 40)])
def test_key_points_of_no_sense_still_give_a_crop(points: KeyPoints, shape: tuple[int, int]) -> None:
    assert cut(np.full(shape, 7, np.uint8), points).shape == (64, 64)


def detections(from_ms: int, to_ms: int, speed: float, noise: float = 0.0, seed: int = 0) -> tuple[
    npt.NDArray[np.int64], npt.NDArray[np.float64]
]:  # fmt: skip
    times = np.arange(from_ms, to_ms + 1, 120)
    points = np.repeat((100 + speed * times / 1000)[:, None, None], 3, 1).repeat(2, 2)
    return times * NS_PER_MS, points + noise * np.random.default_rng(seed).standard_normal(points.shape)


@pytest.mark.parametrize("t_ms", [0, 35, 60, 100])
def test_steady_motion_is_followed_without_lag(t_ms: int) -> None:
    times, points = detections(-360, 480, speed=100.0)
    assert smooth(times, points, t_ms * NS_PER_MS) == pytest.approx(np.full((3, 2), 100 + 0.1 * t_ms), abs=0.5)


def test_at_the_start_of_a_track_the_lag_is_small() -> None:
    """The slope is shrunk on purpose where data lie on one side: up to 40 ms of motion, not the 150 ms of a mean."""
    times, points = detections(0, 360, speed=100.0)
    found = smooth(times, points, 0)
    assert np.all(found >= 100) and np.all(found < 104)
    assert points.mean() > 115


def test_noise_is_smoothed_away() -> None:
    results = [smooth(*detections(-360, 360, 0.0, noise=2.0, seed=seed), 0) for seed in range(100)]
    assert 0.3 < np.std(np.array(results) - 100) < 1.2


def test_one_detection_alone_is_itself() -> None:
    times, points = detections(80, 80, speed=0.0)
    assert smooth(times, points, 0) == pytest.approx(points[0])


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

    def detect(self, picture: Picture, region: tuple[float, float, float] | None = None) -> list[Face]:
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


def play(scene: Scene, times_ms: Iterable[int], tracker: MouthTracker | None = None) -> list[MouthCrop]:
    tracker, out = tracker or MouthTracker(ScriptedDetector(scene)), []
    for seq, t_ms in enumerate(times_ms):
        out += list(tracker.push(Frame(seq, t_ms * NS_PER_MS, picture(t_ms, scene(t_ms)))))
    return [*out, *tracker.finish()]


def at_25_hz(until_ms: int) -> range:
    return range(0, until_ms, 40)


def steady(_: int) -> list[Face]:
    return [face(200)]


@settings(deadline=None, max_examples=15)
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
        assert [crop.t_ns for crop in out] == ([t_ms * NS_PER_MS - LOOK_AHEAD_NS] if t_ms >= 400 else [])
        assert len(tracker._frames) <= LOOK_AHEAD_NS // FRAME_NS + 1 and len(tracker._detections) <= 9
    assert len(list(tracker.finish())) == 10 and not list(tracker.finish())


@pytest.mark.parametrize("step_ms", [16, 33, 40, 200])
def test_the_detector_looks_a_few_times_a_second_near_the_last_face(step_ms: int) -> None:
    detector = ScriptedDetector(steady)
    play(steady, range(0, 3000, step_ms), MouthTracker(detector))
    gaps = np.diff(detector.looked_at_ms) * NS_PER_MS
    assert gaps.min() >= DETECT_EVERY_NS and gaps.max() < DETECT_EVERY_NS + max(step_ms, 80) * NS_PER_MS + 1
    assert detector.regions[0] is None and None not in detector.regions[1:]


def test_with_half_of_the_detections_a_still_face_is_cut_out_as_before() -> None:
    """What a computer does that cannot keep up."""
    detector = ScriptedDetector(steady)
    tracker = MouthTracker(detector)
    tracker.detect_every_ns = 2 * DETECT_EVERY_NS
    out = play(steady, at_25_hz(3000), tracker)
    assert len(detector.looked_at_ms) == pytest.approx(3000 / 480, abs=1)
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
    shake = rng.standard_normal((100, 2)) * 1.5

    def true_x(t_ms: int) -> float:
        return 120 + t_ms * 0.06

    tracker = MouthTracker(
        ScriptedDetector(lambda t_ms: [face(true_x(t_ms) + shake[t_ms // 40, 0], 150 + shake[t_ms // 40, 1])])
    )
    middles = np.array([
        centroid(crop.crop) if crop.crop is not None else (np.nan, np.nan)
        for crop in play(lambda t_ms: [face(true_x(t_ms))], at_25_hz(3000), tracker)
    ])[10:-10]  # fmt: skip
    pixels_per_crop_pixel = 1.5 * 30 / 64
    error = (middles - MIDDLE) * pixels_per_crop_pixel
    assert np.abs(error.mean(0)).max() < 0.5, "no lag: 60 px/s times 240 ms would be 14 pixels"
    assert error.std(0).max() < 1.0, "steadier than the detections"
    assert np.diff(error, axis=0).std() < 0.4, "and without shaking from frame to frame"


def test_the_largest_face_is_the_one_that_is_followed() -> None:
    out = play(lambda _: [face(120, size=20, score=0.99), face(330, size=35, score=0.6)], at_25_hz(1000))
    for crop in out:
        assert crop.crop is not None and crop.faces == 2 and crop.track == 0
    detector = ScriptedDetector(lambda _: [face(120, size=20, score=0.99), face(330, size=35, score=0.6)])
    play(detector.scene, at_25_hz(1000), MouthTracker(detector))
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
