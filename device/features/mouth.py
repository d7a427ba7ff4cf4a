"""Mouth crops from frames: smooth a face's key points in time, cut a rotated square.

Conventions: crops are [crop_px, crop_px] grey uint8, centred on the smoothed mouth point, with the eyes level.
Key points at a frame's time are a Gaussian-weighted straight line through the detections before and after it, so the
crop neither lags behind a moving head nor shakes with the detector's noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from device.features.contract import FRONT_END
from device.features.shrink import shrunk
from device.pictures import Picture, gray_of_luma, luma
from device.records import NS_PER_MS, GrayImage

_SMOOTHING_NS = 160 * NS_PER_MS

KeyPoints = npt.NDArray[np.float64]  # [3, 2]: right eye, left eye, mouth; x then y, in pixels


@dataclass(frozen=True, slots=True)
class MouthCrop:
    """The mouth at one frame's time; None without a face. `track` changes at a cut and with another face.

    faces: the number of faces in view. points: the smoothed key points of the crop. face_id: which of the faces that
    are followed at the same time.
    """

    t_ns: int
    crop: GrayImage | None
    track: int
    faces: int
    points: KeyPoints | None = None
    face_id: int = 0


def crop_matrix(points: KeyPoints, size_px: int, side_per_eye_mouth: float) -> npt.NDArray[np.float64]:
    """The 2x3 similarity from frame to crop; a larger crop at the same scale has the same pixel pitch."""
    (right_x, right_y), (left_x, left_y), (x, y) = points.tolist()
    eyes_x, eyes_y = (right_x + left_x) / 2, (right_y + left_y) / 2
    angle = math.atan2(left_y - right_y, left_x - right_x)
    scale = size_px / (side_per_eye_mouth * max(math.hypot(x - eyes_x, y - eyes_y), 1.0))
    cos, sin, centre = math.cos(angle) * scale, math.sin(angle) * scale, (size_px - 1) / 2
    return np.array([[cos, sin, centre - cos * x - sin * y], [-sin, cos, centre + sin * x - cos * y]])


def mouth_box(eyes: tuple[float, float], mouth: tuple[float, float]) -> tuple[float, float, float, float]:
    """The area (x, y, width, height) of a level head's crop, from the points between its eyes and at its mouth."""
    side = FRONT_END.crop_side_per_eye_mouth * max(math.dist(eyes, mouth), 1.0)
    return mouth[0] - side / 2, mouth[1] - side / 2, side, side


def cut(picture: Picture, points: KeyPoints, margin_px: int = 0) -> GrayImage:
    """Cut the mouth crop, with `margin_px` more on each side at the same pixel pitch (for shifts in training)."""
    matrix = crop_matrix(points, FRONT_END.crop_px, FRONT_END.crop_side_per_eye_mouth)
    (cos, sin, right), (_, _, down) = matrix.tolist()
    scale = math.hypot(cos, sin)
    shrink = 1
    while scale * shrink < 0.6 and 2 * shrink <= min(picture.shape[:2]):  # average before sampling, to avoid aliasing
        shrink *= 2
    reach_px = (FRONT_END.crop_px / 2 + margin_px) / scale * 2**0.5  # the square may be rotated
    x, y = points[2].tolist()
    around, (left, top) = _luma_around(picture, (x, y), reach_px + 2 * shrink, shrink)
    if shrink > 1:
        low, high = (np.array([x - left + far, y - top + far]) for far in (-reach_px, reach_px))
        around, corner = shrunk(around, low, high, shrink)
        left, top = (near + far + (shrink - 1) / 2 for near, far in zip((left, top), corner.tolist(), strict=True))
    right, down = right + margin_px + cos * left + sin * top, down + margin_px - sin * left + cos * top
    cos, sin = cos * shrink, sin * shrink
    size = FRONT_END.crop_px + 2 * margin_px
    warped = cv2.warpAffine(
        around, np.array([[cos, sin, right], [-sin, cos, down]]), (size, size), flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    return gray_of_luma(picture, np.asarray(warped, np.uint8))


def _luma_around(
    picture: Picture, centre: tuple[float, float], reach_px: float, grid: int
) -> tuple[GrayImage, tuple[float, float]]:
    """The part of an image within reach, at least one pixel, and its corner (x, y), a multiple of `grid`."""
    columns, rows = (
        slice(first := min(max(0, int((middle - reach_px) // grid)), (size - 1) // grid) * grid,
              min(max(first + 1, int(middle + reach_px + grid)), size))
        for middle, size in zip(centre, picture.shape[1::-1], strict=True)
    )  # fmt: skip
    return luma(picture, (rows, columns)), (float(columns.start), float(rows.start))


def smooth(times_ns: Sequence[int], points: Sequence[KeyPoints], t_ns: int) -> KeyPoints:
    """Key points at time t: a Gaussian-weighted straight line through the detections nearby."""
    xs = [(time_ns - t_ns) / _SMOOTHING_NS for time_ns in times_ns]
    weights = [math.exp(-0.5 * x**2) for x in xs]
    total = sum(weights)
    mean = sum(weight * x for weight, x in zip(weights, xs, strict=True)) / total
    variance = sum(weight * (x - mean) ** 2 for weight, x in zip(weights, xs, strict=True)) / total
    lever = mean / (variance + 0.1)  # the slope is shrunk where there are few detections
    found = np.zeros((3, 2))
    for weight, x, seen in zip(weights, xs, points, strict=True):
        found += weight / total * (1 - lever * (x - mean)) * seen
    return found
