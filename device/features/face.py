"""Face detection: MediaPipe's BlazeFace (short range) in LiteRT.

Source: Bazarevsky et al., BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs, 2019.
Key points are in pixels of the given image; right and left are the person's own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from device.features.shrink import shrunk
from device.litert import Model
from device.pictures import Picture
from device.records import RgbImage

_INPUT_PX = 128
MIN_SCORE = 0.5
_SAME_FACE_OVERLAP = 0.3

Points = npt.NDArray[np.float32]  # [n, 2], x then y


@dataclass(frozen=True, slots=True)
class Face:
    """A face: its box (x, y, width, height) and the key points for the mouth crop, in pixels."""

    score: float
    box: tuple[float, float, float, float]
    right_eye: tuple[float, float]
    left_eye: tuple[float, float]
    mouth: tuple[float, float]

    @property
    def eyes(self) -> tuple[float, float]:
        """The point between the eyes."""
        return (self.right_eye[0] + self.left_eye[0]) / 2, (self.right_eye[1] + self.left_eye[1]) / 2


@cache
def _anchors() -> Points:
    """Anchor centres [896, 2] in units of the input's width: 16x16 cells with two each, then 8x8 with six."""
    layers = []
    for cells, per_cell in ((16, 2), (8, 6)):
        y, x = np.mgrid[:cells, :cells]
        centres = (np.stack([x, y], -1).reshape(-1, 2) + 0.5) / cells
        layers.append(np.repeat(centres, per_cell, axis=0))
    return np.concatenate(layers).astype(np.float32)


class FaceDetector:
    """BlazeFace on a whole frame or on a square region of it."""

    def __init__(self, model_path: Path) -> None:
        self._model = Model(model_path.read_bytes(), name="face detector")

    def detect(
        self, picture: Picture, region: tuple[float, float, float] | None = None, *, min_score: float = MIN_SCORE
    ) -> list[Face]:
        """Detect faces, best first.

        `region` is a square (centre x, centre y, side) in pixels; default: the whole frame.
        """
        height, width = picture.shape[:2]
        x, y, side = region or (width / 2, height / 2, float(max(width, height)))
        to_input = _INPUT_PX / side
        patch = _square(picture, x - side / 2, y - side / 2, side)
        boxes, logits = self._model(patch[None].astype(np.float32) / 127.5 - 1)
        scores = 1 / (1 + np.exp(-np.clip(logits[0, :, 0], -60, 60)))
        likely = np.flatnonzero(scores >= min_score)
        likely = likely[np.argsort(-scores[likely])]
        found = _decode(boxes[0, likely], _anchors()[likely], scores[likely], to_input, x - side / 2, y - side / 2)
        faces: list[Face] = []
        add_new_faces(faces, found)
        return faces


def _square(picture: Picture, left: float, top: float, side: float) -> RgbImage:
    """The square region scaled to the detector's input, black beyond the frame's edge."""
    scale = _INPUT_PX / side
    factor = max(math.ceil(0.5 / scale), 1)  # average before sampling, to avoid aliasing in a large frame
    rgb, corner = shrunk(picture, np.array([left, top]), np.array([left, top]) + side, factor)
    left, top = (np.array([left, top]) - corner - (factor - 1) / 2) / factor
    scale *= factor
    matrix = np.array([[scale, 0, -left * scale], [0, scale, -top * scale]])
    return np.asarray(cv2.warpAffine(rgb, matrix, (_INPUT_PX, _INPUT_PX), flags=cv2.INTER_LINEAR), np.uint8)


def _decode(
    boxes: npt.NDArray[np.float32], anchors: Points, scores: npt.NDArray[np.floating], to_input: float,
    left: float, top: float,
) -> list[Face]:  # fmt: skip
    """Convert rows of the detector's output (centre, size, six key points, relative to the anchor) to pixels."""
    points = boxes.reshape(-1, 8, 2).astype(np.float64) / to_input
    sizes = points[:, 1].copy()
    points += anchors[:, None] * (_INPUT_PX / to_input) + (left, top)
    corners = points[:, 0] - sizes / 2
    return [
        Face(score, (*corner, *size), right_eye=(*eyes[0],), left_eye=(*eyes[1],), mouth=(*mouth,))
        for score, corner, size, eyes, mouth in zip(
            scores.tolist(),
            corners.tolist(),
            sizes.tolist(),
            points[:, 2:4].tolist(),
            points[:, 5].tolist(),
            strict=True,
        )
    ]


def add_new_faces(faces: list[Face], more: list[Face]) -> None:
    """Add those faces of `more`, in order, that are not in the list yet."""
    for face in more:
        if all(_overlap(face.box, other.box) < _SAME_FACE_OVERLAP for other in faces):
            faces.append(face)


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    """Intersection over union of two boxes."""
    wide = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    high = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if wide <= 0 or high <= 0:
        return 0.0
    return wide * high / (a[2] * a[3] + b[2] * b[3] - wide * high)
