"""A part of a YUV frame is the same as that part of the whole frame, in colour and in grey."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.bench.pipeline import SAMPLE
from device.capture.file import FileSource
from device.features.face import Face, FaceDetector
from device.features.model_download import face_model_path
from device.features.mouth_grid import normalize
from device.features.tracker import MouthTracker
from device.pictures import WHOLE, Bytes, Part, Picture, Yuv420, brightness, gray_of_luma, luma, turned, whole_rgb
from device.records import NS_PER_S, Frame

WIDTH, HEIGHT = 48, 32

edges_x = st.lists(st.integers(0, WIDTH), min_size=2, max_size=2, unique=True).map(sorted)
edges_y = st.lists(st.integers(0, HEIGHT), min_size=2, max_size=2, unique=True).map(sorted)


def gray(picture: Picture, part: Part = WHOLE) -> Bytes:
    return gray_of_luma(picture, luma(picture, part))


def yuv(rgb: Bytes) -> Yuv420:
    height, width = rgb.shape[:2]
    planes = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420), np.uint8)
    u, v = planes[height:].reshape(2, height // 2, width // 2)
    return Yuv420(planes[:height], u, v)


def converted(picture: Yuv420) -> Bytes:
    """By OpenCV, in one piece."""
    planes = np.concatenate([picture.y.ravel(), picture.u.ravel(), picture.v.ravel()])
    return np.asarray(cv2.cvtColor(planes.reshape(-1, picture.y.shape[1]), cv2.COLOR_YUV2RGB_I420), np.uint8)


def noise(seed: int = 0) -> Yuv420:
    rng = np.random.default_rng(seed)
    y, u, v = (rng.integers(0, 256, (HEIGHT // k, WIDTH // k), np.uint8) for k in (1, 2, 2))
    return Yuv420(y, u, v)


@given(edges_y, edges_x)
def test_a_part_has_the_pixels_of_the_whole(rows: list[int], columns: list[int]) -> None:
    picture, part = noise(), (slice(*rows), slice(*columns))
    assert np.array_equal(picture[part], converted(picture)[part])
    assert np.array_equal(gray(picture, part), gray(picture)[part])
    assert np.array_equal(gray(converted(picture), part), gray(converted(picture))[part])


def test_all_of_it() -> None:
    picture = noise(1)
    assert np.array_equal(whole_rgb(picture), converted(picture))
    assert np.array_equal(picture[WHOLE], picture[0:HEIGHT, 0:WIDTH])
    assert picture.shape == converted(picture).shape == (HEIGHT, WIDTH, 3)
    assert picture.nbytes * 2 == converted(picture).nbytes
    assert whole_rgb(converted(picture)).shape == picture.shape


def test_grey_is_that_of_the_colours_wherever_these_can_be_shown() -> None:
    rng = np.random.default_rng(2)
    rgb = np.kron(rng.integers(30, 226, (HEIGHT // 2, WIDTH // 2, 3)), np.ones((2, 2, 1))).astype(np.uint8)
    picture = yuv(rgb)
    apart = gray(picture).astype(int) - gray(rgb)
    assert np.abs(apart).max() <= 2 and np.abs(apart).mean() < 0.6


def test_grey_of_grey_is_exact_and_clips_at_black_and_white() -> None:
    luma = np.arange(256, dtype=np.uint8).reshape(16, 16)
    picture = Yuv420(luma, *(np.full((8, 8), 128, np.uint8) for _ in "uv"))
    assert np.array_equal(gray(picture), converted(picture)[..., 0])
    steps = gray(picture).ravel().tolist()
    assert steps[:17] == [0] * 17 and steps[235:] == [255] * 21 and all(a <= b for a, b in pairwise(steps))


@pytest.mark.parametrize("step", [1, 3, 16])
def test_brightness_is_a_coarse_grid(step: int) -> None:
    picture = noise(3)
    coarse = brightness(picture, step)
    assert np.array_equal(coarse, gray(picture)[step // 2 :: step, step // 2 :: step])
    green = brightness(converted(picture), step)
    assert np.array_equal(green, converted(picture)[step // 2 :: step, step // 2 :: step, 1])
    assert green.base is None, "or it would keep the whole picture"


def test_upside_down_twice_is_upright() -> None:
    picture = noise(4)
    for one in (picture, converted(picture)):
        there: Picture = turned(one)
        assert np.array_equal(whole_rgb(there), whole_rgb(one)[::-1, ::-1])
        assert np.array_equal(whole_rgb(turned(there)), whole_rgb(one))
        assert np.array_equal(gray(there, (slice(3, 9), slice(4, 11))), gray(one)[::-1, ::-1][3:9, 4:11])


needs_model = pytest.mark.skipif(not face_model_path().is_file(), reason="the face model has not been fetched")


@needs_model
def test_the_face_detector_and_the_mouth_crops_do_not_notice() -> None:
    """On a real recording, enlarged to a camera's size: the same faces to the last bit, crops within rounding."""
    with FileSource(SAMPLE) as source:
        frames = [item for item in source if isinstance(item, Frame) and item.t_ns < NS_PER_S]
    planar: list[Picture] = [yuv(np.asarray(cv2.resize(frame.rgb, (640, 480)), np.uint8)) for frame in frames]
    found: list[list[list[Face]]] = []
    crops: list[Bytes] = []
    for pictures in (planar, [whole_rgb(picture) for picture in planar]):
        detector = FaceDetector(face_model_path())
        found.append([detector.detect(pictures[0]), detector.detect(pictures[0], (320, 240, 200.5))])
        tracker, seen = MouthTracker(detector), []
        for frame, picture in zip(frames, pictures, strict=True):
            seen += list(tracker.push(Frame(frame.seq, frame.t_ns, picture)))
        crops.append(np.stack([one.crop for (one,) in [*seen, *tracker.finish()] if one.crop is not None]))
    assert found[0] == found[1] and found[0][0]
    assert crops[0].shape == crops[1].shape and len(crops[0]) == len(frames)
    apart = np.abs(normalize(crops[0]) - normalize(crops[1]))
    assert apart.mean() < 0.01 and apart.max() < 0.15, "a grey level is 0.01 to 0.1"
