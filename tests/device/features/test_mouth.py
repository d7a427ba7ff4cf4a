"""Mouth crops: geometry on drawn frames with known marks, and smoothing."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pytest

from device.features.mouth import KeyPoints, cut, smooth
from device.records import NS_PER_MS, GrayImage

MIDDLE = 31.5


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


def detections(
    from_ms: int, to_ms: int, speed: float, noise: float = 0.0, seed: int = 0
) -> tuple[list[int], list[KeyPoints]]:
    times = np.arange(from_ms, to_ms + 1, 120)
    points = np.repeat((100 + speed * times / 1000)[:, None, None], 3, 1).repeat(2, 2)
    points += noise * np.random.default_rng(seed).standard_normal(points.shape)
    return (times * NS_PER_MS).tolist(), list(points)


@pytest.mark.parametrize("t_ms", [0, 35, 60, 100])
def test_steady_motion_is_followed_without_lag(t_ms: int) -> None:
    times, points = detections(-360, 480, speed=100.0)
    assert smooth(times, points, t_ms * NS_PER_MS) == pytest.approx(np.full((3, 2), 100 + 0.1 * t_ms), abs=0.5)


def test_at_the_start_of_a_track_the_lag_is_small() -> None:
    """The slope is shrunk on purpose where data lie on one side: up to 40 ms of motion, not the 150 ms of a mean."""
    times, points = detections(0, 360, speed=100.0)
    found = smooth(times, points, 0)
    assert np.all(found >= 100) and np.all(found < 104)
    assert np.mean(points) > 115


def test_noise_is_smoothed_away() -> None:
    results = [smooth(*detections(-360, 360, 0.0, noise=2.0, seed=seed), 0) for seed in range(100)]
    assert 0.3 < np.std(np.array(results) - 100) < 1.2


def test_one_detection_alone_is_itself() -> None:
    times, points = detections(80, 80, speed=0.0)
    assert smooth(times, points, 0) == pytest.approx(points[0])
