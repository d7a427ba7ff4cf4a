"""Frames of a talking face: a painted head, moved by the jaw, turned by the pose, put before a room.

Order for each frame: the skin of the lower face follows the jaw (a warp), mouth and eyes are drawn, the head is turned
(each pixel shifts by its depth) and placed at twice the picture's size, then everything is averaged down.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from device.records import RgbImage
from train.synth.appearance import Appearance
from train.synth.articulation import Mouth
from train.synth.head import (
    CANVAS_H,
    EYE_X,
    HAIRLINE_Y,
    MOUTH_Y,
    ORIGIN,
    Plane,
    bump,
    cloud,
    face_grid,
    paint_head,
    ramp,
)
from train.synth.lips import COLUMNS, JAW_DROP, ROWS, draw_mouth, lip_paint

SUPERSAMPLE = 2
_EYE_W, _EYE_H = 44, 34  # half size of the patch that an eye is drawn in
_LOWER = slice(ORIGIN[1] + 70, CANVAS_H)  # rows that move with the jaw


@dataclass(frozen=True, slots=True)
class Pose:
    """Where the head is: turn, nod and tilt in rad; shift in shares of the picture's height; eyes 0 shut to 1 open."""

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    shift_x: float = 0.0
    shift_y: float = 0.0
    eyes_open: float = 1.0
    gaze_x: float = 0.0
    gaze_y: float = 0.0


class FaceRenderer:
    """Draws one person in one room; holds nothing that changes between frames, so frames may come in any order."""

    def __init__(self, look: Appearance, width: int, height: int) -> None:
        self.look, self.width, self.height = look, width, height
        head = paint_head(look)
        self._rgba = np.dstack([head.rgb, head.alpha * 255.0]).clip(0, 255).astype(np.uint8)
        self._depth = head.depth
        self._paint = lip_paint(look, head.light)
        self._light = head.light
        self._room = paint_room(look, width, height)
        self._jaw_x, self._jaw_y, self._wide_x = _jaw_fields()
        self._scale = look.face_height_ratio * height / (look.chin_y - HAIRLINE_Y)

    def frame(self, mouth: Mouth, pose: Pose) -> RgbImage:
        """One picture [height, width, 3], free of camera noise."""
        canvas = self._move_jaw(mouth)
        patch = canvas[ROWS, COLUMNS, :3].astype(np.float32)
        canvas[ROWS, COLUMNS, :3] = np.clip(draw_mouth(patch, self.look, mouth, self._paint), 0, 255)
        for side in (-1, 1):
            self._draw_eye(canvas, side, pose)
        return self._place(canvas, pose)

    def mouth_point(self, pose: Pose) -> tuple[float, float]:
        """Where the middle of the resting mouth is in the picture, px."""
        depth = float(self._depth[int(MOUTH_Y) + ORIGIN[1], ORIGIN[0]]) - 60.0
        matrix = self._matrix(pose)
        point = matrix @ np.array([depth * np.sin(pose.yaw), MOUTH_Y + depth * np.sin(pose.pitch), 1.0])
        return float(point[0]), float(point[1])

    def _move_jaw(self, mouth: Mouth) -> npt.NDArray[np.uint8]:
        sideways = 5.0 * mouth.wide - 9.0 * mouth.rounded
        map_x = self._jaw_x - sideways * self._wide_x
        drop = JAW_DROP * mouth.jaw - 6.0 * mouth.tuck
        map_y = self._jaw_y[0] - drop * self._jaw_y[1]
        canvas = self._rgba.copy()
        canvas[_LOWER] = cv2.remap(self._rgba, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return canvas

    def _draw_eye(self, canvas: npt.NDArray[np.uint8], side: int, pose: Pose) -> None:
        cx, cy = ORIGIN[0] + int(side * EYE_X), ORIGIN[1]
        rows, columns = slice(cy - _EYE_H, cy + _EYE_H), slice(cx - _EYE_W, cx + _EYE_W)
        y, x = np.mgrid[-_EYE_H:_EYE_H, -_EYE_W:_EYE_W].astype(np.float32)
        arch = np.clip(1.0 - (x / 29.0) ** 2, 0.0, 1.0)
        lower = 8.5 * arch**0.9 + 1.0
        upper = lower - 0.5 - (19.0 * pose.eyes_open) * arch**0.75
        skin = canvas[rows, columns, :3].astype(np.float32)
        light = self._light[rows, columns][..., None] * 0.9
        gaze_x, gaze_y = pose.gaze_x * 6, pose.gaze_y * 4 - 1.0
        from_iris = np.hypot(x - gaze_x, y - gaze_y)
        ball = np.broadcast_to(np.array([226, 220, 214], np.float32), skin.shape) * (1.0 - 0.0004 * x * x)[..., None]
        iris = np.asarray(self.look.iris, np.float32) * (0.7 + 0.03 * from_iris)[..., None]
        ball = ball + np.clip(12.5 - from_iris, 0, 1)[..., None] * (iris - ball)
        ball = ball * (1.0 - 0.92 * np.clip(6.0 - from_iris, 0, 1)[..., None]) * light
        glint = np.clip(3.0 - np.hypot(x - gaze_x + 4, y - gaze_y + 4), 0, 1)[..., None]
        ball = ball + glint * (235.0 - ball)
        ball = ball * (1.0 - 0.45 * np.exp(-np.maximum(y - upper, 0) / 3.0))[..., None]
        seen = (np.clip(y - upper, 0, 1) * np.clip(lower - y, 0, 1))[..., None]
        crease = 0.25 * np.exp(-0.5 * ((y + 15.0 * arch**0.7 - 1.0) / 2.2) ** 2) * arch
        lash = 0.75 * np.exp(-0.5 * ((y - upper + 0.5) / 1.6) ** 2) * np.clip(arch * 4, 0, 1)
        rim = 0.25 * np.exp(-0.5 * ((y - lower) / 1.4) ** 2) * np.clip(arch * 4, 0, 1)
        skin = skin * (1.0 - np.clip(crease, 0, 1))[..., None]
        out = (skin + seen * (ball - skin)) * (1.0 - np.clip(lash + rim, 0, 0.85))[..., None]
        canvas[rows, columns, :3] = np.clip(out, 0, 255)

    def _matrix(self, pose: Pose) -> npt.NDArray[np.float64]:
        """Face pixels to picture pixels."""
        cos, sin = np.cos(pose.roll) * self._scale, np.sin(pose.roll) * self._scale
        middle_y = 0.5 * (HAIRLINE_Y + self.look.chin_y)
        to_x = (self.look.centre[0] * self.width) + pose.shift_x * self.height
        to_y = (self.look.centre[1] + pose.shift_y) * self.height
        turn_x, turn_y = np.cos(pose.yaw), np.cos(pose.pitch)
        return np.array(
            [
                [cos * turn_x, -sin * turn_y, to_x + sin * middle_y],
                [sin * turn_x, cos * turn_y, to_y - cos * middle_y],
            ]
        )

    def _place(self, canvas: npt.NDArray[np.uint8], pose: Pose) -> RgbImage:
        big_w, big_h = self.width * SUPERSAMPLE, self.height * SUPERSAMPLE
        small_w, small_h = self.width // 2, self.height // 2
        inverse = cv2.invertAffineTransform(self._matrix(pose)).astype(np.float32)
        px = ((np.arange(small_w, dtype=np.float32) + 0.5) * (self.width / small_w) - 0.5)[None, :]
        py = ((np.arange(small_h, dtype=np.float32) + 0.5) * (self.height / small_h) - 0.5)[:, None]
        qx = inverse[0, 0] * px + inverse[0, 1] * py + (inverse[0, 2] + ORIGIN[0])
        qy = inverse[1, 0] * px + inverse[1, 1] * py + (inverse[1, 2] + ORIGIN[1])
        yaw, pitch = np.sin(pose.yaw), np.sin(pose.pitch)
        # Two steps of fixed-point iteration find the pixel whose depth brings it here.
        sx, sy = qx, qy
        for _ in range(2):
            depth = cv2.remap(self._depth, sx, sy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) - 60.0
            sx, sy = qx - depth * np.float32(yaw), qy - depth * np.float32(pitch)
        map_x = cv2.resize(sx, (big_w, big_h), interpolation=cv2.INTER_LINEAR)
        map_y = cv2.resize(sy, (big_w, big_h), interpolation=cv2.INTER_LINEAR)
        big = cv2.remap(canvas, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(0,) * 4)
        alpha = big[..., 3:]
        fore = cv2.resize(cv2.multiply(big[..., :3], cv2.merge([alpha] * 3), scale=1 / 255),
                          (self.width, self.height), interpolation=cv2.INTER_AREA)  # fmt: skip
        share = cv2.resize(alpha, (self.width, self.height), interpolation=cv2.INTER_AREA)
        back = cv2.multiply(self._room, cv2.merge([255 - share] * 3), scale=1 / 255)
        return np.asarray(cv2.add(fore, back), np.uint8)


def _jaw_fields() -> tuple[Plane, tuple[Plane, Plane], Plane]:
    """For the lower rows: source x; (source y, weight of the jaw's drop); weight of the pull at the mouth's corners."""
    x, y = face_grid()
    x, y = x[_LOWER], y[_LOWER]
    side = ramp(np.abs(x), 40, 120)
    # The jaw turns about its hinges below the ears: the further from the chin, the less and the more gradual the drop.
    t = np.clip((y - (MOUTH_Y - 14 - 60 * side)) / (40 + 110 * side), 0.0, 1.0)
    weight = t * t * (3.0 - 2.0 * t) * (1.0 - 0.6 * side) * ramp(-np.abs(x), -150, -122)
    corner = bump(np.abs(x), y, (52, MOUTH_Y), (26, 26)) * np.sign(x)
    return x + ORIGIN[0], (y + ORIGIN[1], weight.astype(np.float32)), corner.astype(np.float32)


def paint_room(look: Appearance, width: int, height: int) -> RgbImage:
    """Wall, out-of-focus things, neck and shoulders, at the picture's size; it never moves."""
    rng = np.random.default_rng(look.texture_seed + 2)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    wall = np.asarray(look.wall, np.float32) * look.gain
    fall_off = 0.75 + 0.35 * np.clip(1.0 - np.hypot(x / width - 0.3, y / height - 0.2), 0, 1)
    room = wall * fall_off[..., None]
    for _ in range(int(rng.integers(0, 9))):
        left, top = rng.uniform(-0.2, 1.0) * width, rng.uniform(-0.2, 0.9) * height
        size = rng.uniform(0.08, 0.5, 2) * (width, height)
        colour = (0.7 * rng.uniform(20, 230) + 0.3 * rng.uniform(20, 230, 3)) * look.gain * 0.8
        box = (int(left), int(top)), (int(left + size[0]), int(top + size[1]))
        cv2.rectangle(room, *box, color=[float(v) for v in colour], thickness=-1)
    room = cv2.GaussianBlur(room, (0, 0), rng.uniform(1.5, 9.0))
    scale = look.face_height_ratio * height / (look.chin_y - HAIRLINE_Y)
    fx = (x - look.centre[0] * width) / scale
    fy = (y - look.centre[1] * height) / scale + 0.5 * (HAIRLINE_Y + look.chin_y)
    shoulder = look.chin_y + 62 + 60 * (np.abs(fx) / 210) ** 2.2
    grain = 1.0 + 0.05 * cloud(rng, (height, width), (4, 4)) + 0.08 * cloud(rng, (height, width), (40, 60))
    shade = (0.62 + 0.38 * np.clip(1 - np.abs(fx + 60 * look.light[0]) / 420, 0, 1)) * grain * look.gain
    shirt = np.asarray(look.shirt, np.float32) * shade[..., None]
    body = ramp(fy - shoulder, -2, 2) * ramp(-np.abs(fx), -300, -285)
    room += body[..., None] * (shirt - room)
    neck_w = 66 + 0.05 * np.maximum(fy - 180, 0)
    neck = ramp(neck_w - np.abs(fx), -2, 2) * ramp(fy, 60, 70) * ramp(-(fy - shoulder - 30 + 0.006 * fx**2), -2, 2)
    dark = 0.50 + 0.28 * ramp(fy, look.chin_y + 5, look.chin_y + 80) - 0.2 * (fx / 80) ** 2
    skin = np.asarray(look.skin, np.float32) * (np.clip(dark, 0.25, 1) * look.gain)[..., None]
    room += neck[..., None] * (skin - room)
    return np.asarray(np.clip(room, 0, 255), np.uint8)
