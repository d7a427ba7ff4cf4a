"""Lip landmarks for training: MediaPipe's face mesh on the frames from which the mouth crops are cut.

The device never runs it: 37 MMAC per frame. It teaches the lip tower the shape of a mouth (`train/fit/towers.py`), and
gives the mouth opening of the baseline (`train/comparison/mouth_opening.py`).
Conventions: landmarks are [40, 2] in pixels of the device's mouth crop, x then y; the outer lip's 20, then the inner
lip's 20, each from the person's right corner of the mouth along the upper lip and back along the lower one.
Source: Kartynnik et al., Real-time Facial Surface Geometry from Monocular Video on Mobile GPUs, 2019.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from device.errors import AvdriftError
from device.features.contract import FRONT_END
from device.features.model_download import FACE_MODEL, fetch_face_model
from device.features.mouth import KeyPoints, crop_matrix
from device.litert import Model
from device.records import RgbImage

LANDMARK_MODEL: Final = replace(
    FACE_MODEL,
    name="face_landmark.tflite",
    what="the face landmark model",
    member="mediapipe/modules/face_landmark/face_landmark.tflite",
    size_bytes=1_242_398,
    sha256="1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814",
)

# Vertices of the mesh. Upper lip from the right corner to the left one, then the lower lip back to the right one.
OUTER_LIP: Final = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
INNER_LIP: Final = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
LIP_POINTS: Final = len(OUTER_LIP) + len(INNER_LIP)
# For each landmark, its counterpart in a mirrored image.
MIRRORED: Final = np.concatenate([(10 - np.arange(20)) % 20, 20 + (10 - np.arange(20)) % 20])

_INPUT_PX = 192
_SIDE_PER_EYE_MOUTH = 3.4  # the mesh needs the whole face with a quarter of its size around it
_CENTRE_FROM_MOUTH = 0.5  # of the way from the mouth to the eyes
_MIN_PRESENCE = 0.0  # logit

LipPoints = npt.NDArray[np.float32]  # [40, 2]


def fetch_landmark_model() -> Path:
    """Path of the landmark model, downloaded from its pinned wheel the first time. Raises ModelError."""
    return fetch_face_model(pin=LANDMARK_MODEL)


class LipMarker:
    """Locates the lips of a face with known key points."""

    def __init__(self, model_path: Path) -> None:
        self._model = Model(model_path.read_bytes(), name="face landmarks")

    def __call__(self, picture: RgbImage, points: KeyPoints) -> LipPoints | None:
        """Lip landmarks in pixels of the mouth crop at `points`; None if the mesh sees no face."""
        to_input = face_matrix(points, _INPUT_PX)
        patch = cv2.warpAffine(picture, to_input, (_INPUT_PX, _INPUT_PX), flags=cv2.INTER_LINEAR)
        mesh, presence = self._model(np.asarray(patch[None], np.float32) / np.float32(255))
        if presence.ravel()[0] < _MIN_PRESENCE:
            return None
        lips = mesh.reshape(-1, 3)[[*OUTER_LIP, *INNER_LIP], :2]
        to_picture = cv2.invertAffineTransform(to_input)
        to_crop = crop_matrix(points, FRONT_END.crop_px, FRONT_END.crop_side_per_eye_mouth)
        in_picture = lips @ to_picture[:, :2].T + to_picture[:, 2]
        return np.asarray(in_picture @ to_crop[:, :2].T + to_crop[:, 2], np.float32)


def face_matrix(points: KeyPoints, size_px: int) -> npt.NDArray[np.float64]:
    """The 2x3 similarity from the image to a square around the whole face, the eyes level."""
    eyes = (points[0] + points[1]) / 2
    matrix = crop_matrix(points, size_px, _SIDE_PER_EYE_MOUTH)
    centre = points[2] + _CENTRE_FROM_MOUTH * (eyes - points[2])
    matrix[:, 2] += matrix[:, :2] @ (points[2] - centre)
    return matrix


def opening(lips: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Mouth aspect ratio of landmarks [..., 40, 2]: the inner lip's mean height over the mouth's width."""
    inner = lips[..., len(OUTER_LIP) :, :]
    half = len(INNER_LIP) // 2
    upper, lower = inner[..., 1:half, :], inner[..., :half:-1, :]
    height = np.linalg.norm(upper - lower, axis=-1).mean(-1)
    return np.asarray(height / np.maximum(np.linalg.norm(lips[..., 0, :] - lips[..., half, :], axis=-1), 1e-3))


def main() -> int:
    """Download the landmark model; return the error's exit code."""
    try:
        print(fetch_landmark_model())
    except AvdriftError as error:
        print(f"avdrift-train: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
