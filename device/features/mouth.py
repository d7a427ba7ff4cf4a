"""Mouth crops from frames: detect a few times a second, smooth the key points in time, cut a rotated square.

Conventions: crops are [crop_px, crop_px] grey uint8, the smoothed mouth point in the middle, the eyes level.
Method: the detector runs every 240 ms on a region around the last face (on the whole picture when there is none).
Key points at a frame's time are a Gaussian-weighted straight line through the detections around it, before and after,
so the crop neither lags behind a moving head nor shakes with the detector's noise. This delays crops by 0.4 s.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from device.features.contract import FRONT_END
from device.features.face import Face, FaceDetector
from device.features.shrink import shrunk
from device.pictures import Picture, gray
from device.records import NS_PER_MS, Frame, GrayImage

DETECT_EVERY_NS = 240 * NS_PER_MS  # on validation clips as good as every 120 ms
LOOK_AHEAD_NS = 400 * NS_PER_MS
_SMOOTHING_NS = 160 * NS_PER_MS
_SEEN_WITHIN_NS = 3 * DETECT_EVERY_NS // 2  # further from any detection there is an empty room, not a mouth
_LOST_AFTER_NS = 500 * NS_PER_MS
_REGION_PER_BOX = 2.0
_SAME_FACE_SHIFT = 0.7  # of the distance from eyes to mouth, between two detections
_SAME_FACE_SCALE = 1.5

KeyPoints = npt.NDArray[np.float64]  # [3, 2]: right eye, left eye, mouth; x then y, in pixels


@dataclass(frozen=True, slots=True)
class MouthCrop:
    """The mouth at one frame's time; None without a face. `track` changes where a cut or another face begins.

    `points` are the smoothed key points that the crop was cut by.
    """

    t_ns: int
    crop: GrayImage | None
    track: int
    faces: int
    points: KeyPoints | None = None


@dataclass(frozen=True, slots=True)
class _Detection:
    t_ns: int
    points: KeyPoints


def crop_matrix(points: KeyPoints, size_px: int, side_per_eye_mouth: float) -> npt.NDArray[np.float64]:
    """The 2x3 similarity from picture to crop; the pixel pitch of a larger crop at the same pitch is the same."""
    (right_x, right_y), (left_x, left_y), (x, y) = points.tolist()
    eyes_x, eyes_y = (right_x + left_x) / 2, (right_y + left_y) / 2
    angle = math.atan2(left_y - right_y, left_x - right_x)
    scale = size_px / (side_per_eye_mouth * max(math.hypot(x - eyes_x, y - eyes_y), 1.0))
    cos, sin, centre = math.cos(angle) * scale, math.sin(angle) * scale, (size_px - 1) / 2
    return np.array([[cos, sin, centre - cos * x - sin * y], [-sin, cos, centre + sin * x - cos * y]])


def cut(picture: Picture, points: KeyPoints, margin_px: int = 0) -> GrayImage:
    """The mouth crop, with `margin_px` more on each side at the same pixel pitch (training jitters within it)."""
    matrix = crop_matrix(points, FRONT_END.crop_px, FRONT_END.crop_side_per_eye_mouth)
    matrix[:, 2] += margin_px
    scale = float(np.hypot(matrix[0, 0], matrix[0, 1]))
    shrink = 1
    while scale * shrink < 0.6 and 2 * shrink <= min(picture.shape[:2]):  # average before sampling, or it aliases
        shrink *= 2
    reach_px = (FRONT_END.crop_px / 2 + margin_px) / scale * 2**0.5  # the square may be rotated
    around, corner = _gray_around(picture, points[2], reach_px + 2 * shrink, shrink)
    matrix[:, 2] += matrix[:, :2] @ corner
    if shrink > 1:
        mouth = points[2] - corner
        around, corner = shrunk(around, mouth - reach_px, mouth + reach_px, shrink)
        matrix[:, 2] += matrix[:, :2] @ (corner + (shrink - 1) / 2)
        matrix[:, :2] *= shrink
    size = FRONT_END.crop_px + 2 * margin_px
    return np.asarray(
        cv2.warpAffine(around, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8
    )


def _gray_around(
    picture: Picture, centre: KeyPoints, reach_px: float, grid: int
) -> tuple[GrayImage, KeyPoints]:
    """The part of a picture within reach in grey, at least one pixel, and its corner, a multiple of `grid`."""
    columns, rows = (
        slice(first := min(max(0, int((middle - reach_px) // grid)), (size - 1) // grid) * grid,
              min(max(first + 1, int(middle + reach_px + grid)), size))
        for middle, size in zip(centre.tolist(), picture.shape[1::-1], strict=True)
    )  # fmt: skip
    return gray(picture, (rows, columns)), np.array([columns.start, rows.start], np.float64)


def smooth(times_ns: npt.NDArray[np.int64], points: npt.NDArray[np.float64], t_ns: int) -> KeyPoints:
    """Key points [n, 3, 2] seen at times [n], at time t: a Gaussian-weighted straight line through those nearby."""
    xs = ((times_ns - t_ns) / _SMOOTHING_NS).tolist()
    weights = [math.exp(-0.5 * x**2) for x in xs]
    total = sum(weights)
    mean = sum(weight * x for weight, x in zip(weights, xs, strict=True)) / total
    variance = sum(weight * (x - mean) ** 2 for weight, x in zip(weights, xs, strict=True)) / total
    lever = mean / (variance + 0.1)  # the slope is shrunk where data are few
    shares = [weight / total * (1 - lever * (x - mean)) for weight, x in zip(weights, xs, strict=True)]
    return np.asarray((np.array(shares) @ points.reshape(len(points), -1)).reshape(points.shape[1:]))


class MouthTracker:
    """Frames in, mouth crops out, 0.4 s later and in the same order. `finish` gives the rest."""

    def __init__(self, detector: FaceDetector, *, margin_px: int = 0) -> None:
        self._detector = detector
        self._margin_px = margin_px
        self.detect_every_ns = DETECT_EVERY_NS  # twice that still covers every frame
        self._frames: deque[tuple[int, Picture, int, int]] = deque()  # time, picture, track, faces
        self._detections: deque[_Detection] = deque()
        self._face: Face | None = None
        self._track = 0
        self._last_try_ns: int | None = None
        self._faces = 0

    def push(self, frame: Frame) -> Iterator[MouthCrop]:
        """Take one frame; give the crops that it completes."""
        if self._last_try_ns is None or frame.t_ns - self._last_try_ns >= self.detect_every_ns:
            self._last_try_ns = frame.t_ns
            yield from self._detect(frame)
        self._frames.append((frame.t_ns, frame.picture, self._track, self._faces))
        yield from self._emit(frame.t_ns - LOOK_AHEAD_NS)

    def finish(self) -> Iterator[MouthCrop]:
        """Crops of the frames that still wait for what would have come after them."""
        yield from self._emit(None)

    def _detect(self, frame: Frame) -> Iterator[MouthCrop]:
        faces = self._look(frame)
        if not faces:
            if self._detections and frame.t_ns - self._detections[-1].t_ns > _LOST_AFTER_NS:
                yield from self._start_track()
                self._faces = 0
            return
        self._face = faces[0]
        found = _Detection(frame.t_ns, np.array([self._face.right_eye, self._face.left_eye, self._face.mouth]))
        if self._detections and not _same_face(self._detections[-1].points, found.points):
            yield from self._start_track()
        self._detections.append(found)

    def _look(self, frame: Frame) -> list[Face]:
        if self._face is not None:
            (x, y, w, h), here = self._face.box, self._face.mouth
            faces = self._detector.detect(frame.picture, (x + w / 2, y + h / 2, _REGION_PER_BOX * max(w, h)))
            if faces:
                self._faces = max(self._faces, 1)
                # Whoever stands beside this one must not take over, however clear that face is.
                return sorted(faces, key=lambda face: np.hypot(face.mouth[0] - here[0], face.mouth[1] - here[1]))
            self._face = None
        faces = self._detector.detect(frame.picture)
        self._faces = len(faces)
        # The largest face is the one that stands before the camera.
        return sorted(faces, key=lambda face: -face.box[2])

    def _start_track(self) -> Iterator[MouthCrop]:
        yield from self._emit(None)
        self._detections.clear()
        self._track += 1

    def _emit(self, until_ns: int | None) -> Iterator[MouthCrop]:
        while self._frames and (until_ns is None or self._frames[0][0] <= until_ns):
            t_ns, picture, track, faces = self._frames.popleft()
            while len(self._detections) > 1 and self._detections[1].t_ns < t_ns - LOOK_AHEAD_NS:
                self._detections.popleft()
            near = [d for d in self._detections if abs(d.t_ns - t_ns) <= LOOK_AHEAD_NS]
            if not any(abs(d.t_ns - t_ns) <= _SEEN_WITHIN_NS for d in near):
                yield MouthCrop(t_ns, None, track, faces)
                continue
            points = smooth(np.array([d.t_ns for d in near]), np.stack([d.points for d in near]), t_ns)
            yield MouthCrop(t_ns, cut(picture, points, self._margin_px), track, faces, points)


def _same_face(before: KeyPoints, after: KeyPoints) -> bool:
    sizes = [max(float(np.hypot(*((p[0] + p[1]) / 2 - p[2]))), 1.0) for p in (before, after)]
    moved = float(np.hypot(*(after - before).mean(0)))
    return moved < _SAME_FACE_SHIFT * sizes[0] and 1 / _SAME_FACE_SCALE < sizes[1] / sizes[0] < _SAME_FACE_SCALE
