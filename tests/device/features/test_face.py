"""BlazeFace: anchors, decoding and overlaps with a scripted model; frames with and without a face with the real one."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from device.features.face import Face, FaceDetector, _anchors
from device.features.model_download import face_model_path
from device.litert import Floats, Model
from device.records import RgbImage
from train.synth.appearance import random_appearance
from train.synth.articulation import Mouth
from train.synth.face import FaceRenderer, Pose

needs_model = pytest.mark.skipif(not face_model_path().is_file(), reason="the face model has not been fetched")


class ScriptedModel(Model):
    """Answers with given boxes and scores at given anchors, and keeps the picture that it was shown."""

    def __init__(self, answers: dict[int, tuple[float, list[float]]]) -> None:
        self.boxes = np.zeros((1, 896, 16), np.float32)
        self.logits = np.full((1, 896, 1), -100, np.float32)
        for index, (logit, box) in answers.items():
            self.boxes[0, index], self.logits[0, index, 0] = box, logit
        self.shown = np.zeros((128, 128, 3), np.float32)

    def __call__(self, values: Floats) -> list[Floats]:
        assert values.shape == (1, 128, 128, 3) and values.dtype == np.float32
        self.shown = values[0]
        return [self.boxes, self.logits]


class ScriptedFaces(FaceDetector):
    """The detector around a scripted model."""

    def __init__(self, answers: dict[int, tuple[float, list[float]]] | None = None) -> None:
        self._model: ScriptedModel = ScriptedModel(answers or {})

    @property
    def shown(self) -> Floats:
        return self._model.shown


# Offsets from the anchor in pixels of the input: centre, size, right eye, left eye, nose, mouth, two ears.
BOX = [1.0, 2.0, 40.0, 44.0, -10.0, -8.0, 10.0, -8.0, 0.0, 0.0, 1.0, 9.0, -20.0, -5.0, 20.0, -5.0]


def blank(width: int, height: int) -> RgbImage:
    return np.zeros((height, width, 3), np.uint8)


def test_anchors_are_cell_centres_of_both_layers() -> None:
    anchors = _anchors()
    assert anchors.shape == (896, 2)
    assert anchors[[0, 1]].tolist() == [[1 / 32, 1 / 32]] * 2
    assert anchors[2].tolist() == [3 / 32, 1 / 32], "x runs first"
    assert anchors[32].tolist() == [1 / 32, 3 / 32]
    assert anchors[512].tolist() == anchors[517].tolist() == [1 / 16, 1 / 16]
    assert anchors[518].tolist() == [3 / 16, 1 / 16]
    assert anchors[895].tolist() == [15 / 16, 15 / 16]


def test_key_points_and_box_are_reported_in_pixels_of_the_picture() -> None:
    anchor = _anchors()[600] * 128
    (face,) = ScriptedFaces({600: (3.0, BOX)}).detect(blank(1280, 720))
    # The whole picture lies in a square of 1280, with 280 black rows above it.
    x, y = anchor[0] * 10, anchor[1] * 10 - 280
    assert face.score == pytest.approx(1 / (1 + np.exp(-3)), abs=1e-6)
    assert face.box == pytest.approx((x + 10 - 200, y + 20 - 220, 400, 440), abs=1e-3)
    assert face.right_eye == pytest.approx((x - 100, y - 80), abs=1e-3)
    assert face.left_eye == pytest.approx((x + 100, y - 80), abs=1e-3)
    assert face.mouth == pytest.approx((x + 10, y + 90), abs=1e-3)


def test_a_region_only_moves_and_scales() -> None:
    anchor = _anchors()[600] * 128
    (face,) = ScriptedFaces({600: (3.0, BOX)}).detect(blank(1280, 720), (500.0, 300.0, 256.0))
    assert face.mouth == pytest.approx((372 + 2 * (anchor[0] + 1), 172 + 2 * (anchor[1] + 9)), abs=1e-3)


def test_faces_come_best_first_and_only_once_each() -> None:
    near = [value + 1 for value in BOX]
    answers = {600: (1.0, BOX), 601: (3.0, near), 100: (2.0, BOX), 895: (-0.01, BOX)}
    faces = ScriptedFaces(answers).detect(blank(128, 128))
    assert [round(face.score, 3) for face in faces] == [0.953, 0.881]


def test_a_score_of_any_size_is_a_probability() -> None:
    (face,) = ScriptedFaces({3: (1e6, BOX)}).detect(blank(64, 64))
    assert face.score == 1.0
    assert not ScriptedFaces({3: (-1e6, BOX)}).detect(blank(64, 64))
    assert not ScriptedFaces({3: (float("nan"), BOX)}).detect(blank(64, 64))


def spot(width: int, height: int, x: float, y: float, radius: float) -> RgbImage:
    at_y, at_x = np.mgrid[:height, :width]
    gray = 255 * np.exp(-((at_x - x) ** 2 + (at_y - y) ** 2) / (2 * radius**2))
    return np.repeat(gray[:, :, None].astype(np.uint8), 3, axis=2)


@pytest.mark.parametrize(
    ("width", "height", "region"),
    [(128, 128, None), (640, 360, None), (360, 640, None), (1920, 1080, None), (320, 240, (170.0, 110.0, 90.0)),
     (1280, 720, (700.0, 400.0, 300.0)), (320, 240, (150.0, 118.0, 60.0))],
)  # fmt: skip
def test_the_model_sees_the_region_upright_and_in_place(
    width: int, height: int, region: tuple[float, float, float] | None
) -> None:
    detector = ScriptedFaces()
    x, y, side = region or (width / 2, height / 2, float(max(width, height)))
    mark = (x + 0.2 * side, y - 0.1 * side)
    detector.detect(spot(width, height, *mark, side / 25), region)
    bright = np.clip(detector.shown[:, :, 0] + 0.9, 0, None)
    rows, columns = np.mgrid[:128, :128]
    found = (columns * bright).sum() / bright.sum(), (rows * bright).sum() / bright.sum()
    assert found == pytest.approx((0.7 * 128, 0.4 * 128), abs=0.8)
    assert detector.shown.min() >= -1 and detector.shown.max() <= 1


def test_beyond_the_picture_it_is_black() -> None:
    detector = ScriptedFaces()
    detector.detect(np.full((72, 128, 3), 255, np.uint8))
    assert np.all(detector.shown[:27] == -1) and np.all(detector.shown[-27:] == -1)
    assert np.all(detector.shown[30:98] == 1)


@pytest.mark.parametrize("shape", [(1, 1), (1, 2000), (2000, 1), (2, 8000), (3, 3)])
def test_frames_of_any_shape_are_searched(shape: tuple[int, int]) -> None:
    detector = ScriptedFaces()
    assert detector.detect(blank(shape[1], shape[0])) == []
    assert detector.detect(blank(shape[1], shape[0]), (5.0, 5.0, 9000.0)) == []


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector(face_model_path())


@pytest.fixture(scope="module")
def portrait() -> RgbImage:
    look = random_appearance(np.random.default_rng(3), clean=True)
    return FaceRenderer(look, 480, 360).frame(Mouth(jaw=0.3, gap=0.4), Pose())


@needs_model
@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_blank_picture_holds_no_face(detector: FaceDetector, level: int) -> None:
    assert detector.detect(np.full((360, 480, 3), level, np.uint8)) == []


@needs_model
@pytest.mark.parametrize("cell_px", [1, 40])
def test_noise_holds_no_face(detector: FaceDetector, cell_px: int) -> None:
    for seed in range(5):
        cells = np.random.default_rng(seed).integers(0, 256, (360 // cell_px, 480 // cell_px, 3)).astype(np.uint8)
        picture = np.kron(cells, np.ones((cell_px, cell_px, 1), np.uint8))
        assert detector.detect(picture) == []


def points_of(face: Face) -> npt.NDArray[np.float64]:
    return np.array([face.right_eye, face.left_eye, face.mouth])


@needs_model
def test_a_drawn_face_is_found_where_it_is(detector: FaceDetector, portrait: RgbImage) -> None:
    (face,) = detector.detect(portrait)
    right_eye, left_eye, mouth = points_of(face)
    assert face.score > 0.7
    assert right_eye[0] < mouth[0] < left_eye[0], "the person's right eye is on the picture's left"
    assert abs(right_eye[1] - left_eye[1]) < 10 and mouth[1] > right_eye[1] + 30
    x, y, w, h = face.box
    assert x < right_eye[0] and left_eye[0] < x + w and y < mouth[1] < y + h


@needs_model
@pytest.mark.parametrize(("right", "down"), [(40, 0), (-55, 20), (0, -30)])
def test_a_face_that_moves_takes_its_points_along(
    detector: FaceDetector, portrait: RgbImage, right: int, down: int
) -> None:
    (still,) = detector.detect(portrait)
    (moved,) = detector.detect(np.roll(portrait, (down, right), (0, 1)))
    shift = points_of(moved) - points_of(still)  # right to 2 pixels of the model's input
    assert shift == pytest.approx(np.tile([right, down], (3, 1)), abs=8)


@needs_model
@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_a_picture_of_another_size_has_the_same_face(detector: FaceDetector, portrait: RgbImage, factor: float) -> None:
    (still,) = detector.detect(portrait)
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    resized = np.asarray(cv2.resize(portrait, None, fx=factor, fy=factor, interpolation=method), np.uint8)
    (scaled,) = detector.detect(resized)
    assert points_of(scaled) / factor == pytest.approx(points_of(still), abs=3)


@needs_model
def test_a_closer_search_finds_the_same_mouth(detector: FaceDetector, portrait: RgbImage) -> None:
    (whole,) = detector.detect(portrait)
    x, y, w, h = whole.box
    for shift in (-15, 0, 15):
        (close,) = detector.detect(portrait, (x + w / 2 + shift, y + h / 2, 2 * max(w, h)))
        assert points_of(close) == pytest.approx(points_of(whole), abs=8)


@needs_model
def test_a_face_outside_the_region_is_not_seen(detector: FaceDetector, portrait: RgbImage) -> None:
    assert detector.detect(portrait, (20.0, 20.0, 60.0)) == []
