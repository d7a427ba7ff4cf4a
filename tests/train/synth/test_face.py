"""The drawn face: the detector finds it, the mouth shows its opening, and nothing moves by itself."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest

from device.errors import ModelError
from device.features.face import FaceDetector
from device.features.model_download import require_face_model
from device.records import RgbImage
from train.synth.appearance import Appearance, random_appearance
from train.synth.articulation import Mouth
from train.synth.face import FaceRenderer, Pose, paint_room
from train.synth.head import CANVAS_H, CANVAS_W, bump, face_grid, half_width, paint_head, ramp, twin
from train.synth.lips import draw_mouth, lip_edges, lip_paint
from train.synth.room import roughen_picture, roughen_sound

REST = Mouth()
POSES = (REST, Mouth(press=1.0), Mouth(0.9, 0.85), Mouth(0.15, 0.24, 0.8), Mouth(0.15, 0.17, -0.75, 1.0))


def appearance_of(seed: int) -> Appearance:
    return random_appearance(np.random.default_rng(seed))


@pytest.fixture(scope="module")
def renderer() -> FaceRenderer:
    return FaceRenderer(random_appearance(np.random.default_rng(20), clean=True), 320, 240)


def around_mouth(renderer: FaceRenderer, picture: RgbImage, half: int = 22) -> RgbImage:
    x, y = (int(v) for v in renderer.mouth_point(Pose()))
    return picture[y - half : y + half, x - half : x + half]


def dark_pixels(renderer: FaceRenderer, mouth: Mouth) -> int:
    grey = cv2.cvtColor(around_mouth(renderer, renderer.frame(mouth, Pose())), cv2.COLOR_RGB2GRAY)
    return int((grey < 60).sum())


def test_frames_have_the_asked_size_and_are_reproducible(renderer: FaceRenderer) -> None:
    frame = renderer.frame(Mouth(0.5, 0.5), Pose(yaw=0.1))
    assert frame.shape == (240, 320, 3)
    assert frame.dtype == np.uint8
    assert np.array_equal(frame, renderer.frame(Mouth(0.5, 0.5), Pose(yaw=0.1)))
    again = FaceRenderer(random_appearance(np.random.default_rng(20), clean=True), 320, 240)
    assert np.array_equal(frame, again.frame(Mouth(0.5, 0.5), Pose(yaw=0.1)))


def test_opening_shows_more_dark(renderer: FaceRenderer) -> None:
    counts = [dark_pixels(renderer, Mouth(jaw=gap, gap=gap)) for gap in (0.0, 0.2, 0.4, 0.6, 0.8)]
    assert counts[0] < 0.5 * counts[1]
    assert all(b > a for a, b in pairwise(counts))


def test_pressed_lips_show_no_dark_inside(renderer: FaceRenderer) -> None:
    assert dark_pixels(renderer, Mouth(press=1.0)) <= dark_pixels(renderer, REST)


def test_speaking_changes_only_the_lower_face(renderer: FaceRenderer) -> None:
    change = np.abs(renderer.frame(REST, Pose()).astype(int) - renderer.frame(Mouth(0.8, 0.8), Pose())).max(axis=2)
    _, y = renderer.mouth_point(Pose())
    assert change[: int(y) - 22].max() <= 3
    assert change[int(y) - 10 : int(y) + 40].max() > 60


def test_a_blink_changes_only_the_eyes(renderer: FaceRenderer) -> None:
    change = np.abs(renderer.frame(REST, Pose()).astype(int) - renderer.frame(REST, Pose(eyes_open=0.0))).max(axis=2)
    _, y = renderer.mouth_point(Pose())
    assert change.max() > 40
    assert change[int(y) - 20 :].max() == 0


@pytest.mark.parametrize("mouth", [*POSES, Mouth(0.12, 0.14, tuck=1.0), Mouth(0.2, 0.3, tongue=1.0)])
def test_lip_edges_stay_in_order(mouth: Mouth) -> None:
    for seed in range(8):
        look = appearance_of(seed)
        edges = lip_edges(look, mouth, np.arange(-30, 31, dtype=np.float32)[None, :])
        near = edges.inside > 0
        assert np.all((edges.upper_out <= edges.upper_in)[near])
        assert np.all((edges.upper_in <= edges.lower_in + 1e-3)[near])
        assert np.all((edges.lower_in <= edges.lower_out)[near])


def test_rounding_narrows_and_spreading_widens() -> None:
    x, look = np.zeros((1, 1), np.float32), appearance_of(0)
    widths = [lip_edges(look, Mouth(wide=w, rounded=r), x).half_width for w, r in ((-0.7, 1.0), (0, 0), (0.8, 0))]
    assert widths[0] < 0.7 * widths[1] < widths[1] < widths[2]


def test_aperture_is_zero_only_when_shut() -> None:
    x, look = np.zeros((1, 1), np.float32), appearance_of(0)
    assert lip_edges(look, Mouth(gap=0.0, wide=1.0), x).aperture == 0.0
    assert lip_edges(look, Mouth(gap=0.1), x).aperture == pytest.approx(4.2)


def test_teeth_and_tongue_are_lighter_than_the_cavity() -> None:
    look = replace(appearance_of(1), teeth_shown=8.0, gain=1.0)
    paint = lip_paint(look, np.ones((CANVAS_H, CANVAS_W), np.float32))
    patch = np.full((*paint.light.shape, 3), 150.0, np.float32)
    drawn = draw_mouth(patch, look, Mouth(0.8, 0.9), paint).mean(axis=2)
    middle = drawn[:, drawn.shape[1] // 2 + 5]
    edges = lip_edges(look, Mouth(0.8, 0.9), paint.x)
    column = drawn.shape[1] // 2 + 5
    first, last = (int(float(e[0, column]) - float(paint.y[0, 0])) for e in (edges.upper_in, edges.lower_in))
    inside = middle[first + 2 : last - 1]
    assert inside[: len(inside) // 3].max() > 110
    assert inside.min() < 30


def test_the_mouth_point_follows_the_pose(renderer: FaceRenderer) -> None:
    x, y = renderer.mouth_point(Pose())
    shifted = renderer.mouth_point(Pose(shift_x=0.1, shift_y=-0.05))
    assert shifted == pytest.approx((x + 24.0, y - 12.0), abs=1e-6)
    assert renderer.mouth_point(Pose(yaw=0.2))[0] > x + 2
    assert renderer.mouth_point(Pose(roll=0.1))[0] < x


def test_people_differ() -> None:
    looks = [appearance_of(seed) for seed in range(40)]
    assert len({look.hair_style for look in looks}) == 3
    assert 3 < sum(look.beard > 0 for look in looks) < 25
    assert np.std([look.skin[0] for look in looks]) > 25
    assert np.std([look.yaw for look in looks]) > 0.05
    assert looks[3] == appearance_of(3)


def test_a_clean_look_has_neither_noise_nor_beard() -> None:
    for seed in range(20):
        look = random_appearance(np.random.default_rng(seed), clean=True)
        assert (look.noise, look.blur_px, look.beard, look.gain) == (0.0, 0.0, 0.0, 1.0)


def test_head_is_opaque_inside_and_clear_outside() -> None:
    head = paint_head(appearance_of(2))
    x, y = face_grid()
    assert np.all(head.alpha[(np.abs(x) < 60) & (np.abs(y) < 100)] > 0.99)
    assert np.all(head.alpha[np.abs(x) > 190] == 0)
    assert np.isfinite(head.rgb).all()
    assert head.depth[260 + 70, 200] > head.depth[260 + 70, 120]


def test_helpers() -> None:
    x, y = face_grid()
    assert bump(x, y, (10, 5), (3, 3)).max() == pytest.approx(1.0)
    assert twin(x, y, (50, 0), (5, 5))[260, [150, 250]] == pytest.approx([1.0, 1.0])
    assert ramp(np.array([-1.0, 0.0, 0.5, 1.0, 2.0]), 0.0, 1.0).tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]
    width = half_width(appearance_of(0), np.array([[-400.0, 0.0, 130.0, 400.0]], np.float32))[0]
    assert width[0] < 0 < width[2] < width[1]
    assert width[3] < 0


def test_room_fills_the_picture() -> None:
    room = paint_room(appearance_of(5), 320, 240)
    assert room.shape == (240, 320, 3)
    assert room.std() > 3


def test_noise_and_blur_keep_the_picture_in_place(renderer: FaceRenderer) -> None:
    clean = renderer.frame(REST, Pose())
    look = replace(renderer.look, noise=4.0, blur_px=0.8)
    rough = roughen_picture(np.random.default_rng(0), clean, look)
    assert rough.shape == clean.shape
    assert 1.0 < np.std(rough.astype(int) - clean) < 12.0
    assert abs(float(np.mean(rough)) - float(np.mean(clean))) < 1.0
    assert np.array_equal(roughen_picture(np.random.default_rng(0), clean, renderer.look), clean)


def test_a_room_does_not_move_the_sound() -> None:
    click = np.zeros(22050, np.float32)
    click[5000] = 1.0
    for seed in range(10):
        wet = roughen_sound(np.random.default_rng(seed), click, 22050)
        assert wet.shape == click.shape
        assert int(np.argmax(np.abs(wet))) == 5000
        assert np.abs(wet[:4990]).max() < 0.05


def test_the_detector_accepts_every_face_and_finds_its_mouth() -> None:
    try:
        detector = FaceDetector(require_face_model())
    except ModelError as error:
        pytest.skip(str(error))
    for seed in range(12):
        look = appearance_of(seed)
        person = FaceRenderer(look, 320, 240)
        for mouth in POSES:
            pose = Pose(look.yaw, look.pitch, look.roll)
            faces = detector.detect(person.frame(mouth, pose))
            assert faces, f"person {seed}"
            assert faces[0].score > 0.8
            eyes = 0.5 * (np.array(faces[0].left_eye) + np.array(faces[0].right_eye))
            scale = float(np.linalg.norm(eyes - faces[0].mouth))
            miss = np.linalg.norm(np.array(faces[0].mouth) - person.mouth_point(pose)) / scale
            assert miss < 0.25


def test_thirty_frames_a_second_on_one_core(renderer: FaceRenderer) -> None:
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        times = []
        for index in range(20):
            begin = time.process_time()
            renderer.frame(Mouth(0.4, 0.02 * index), Pose(yaw=0.01 * index))
            times.append(time.process_time() - begin)
    finally:
        cv2.setNumThreads(threads)
    assert min(times) < 1 / 30
