"""A head without mouth, eyelids or motion: its colour, its outline and its depth, painted once for each person.

Face pixels: x to the right and y downwards from the middle of the eyes; the eyes are 124 apart, the mouth is 130 below
(1.97 px per mm of an average adult face). The canvas is CANVAS_W x CANVAS_H with the origin at ORIGIN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from train.synth.appearance import Appearance

Plane = npt.NDArray[np.float32]  # [height, width]
Array = npt.NDArray[np.floating[Any]]

CANVAS_W, CANVAS_H = 400, 560
ORIGIN = (200, 260)
EYE_X, MOUTH_Y = 62.0, 130.0
HAIRLINE_Y = -112.0


@dataclass(frozen=True, slots=True)
class Head:
    """`rgb` [h, w, 3] lit, 0..255; `alpha` [h, w] 0..1; `depth` [h, w] px towards the viewer; `light` [h, w]."""

    rgb: npt.NDArray[np.float32]
    alpha: Plane
    depth: Plane
    light: Plane


def face_grid() -> tuple[Plane, Plane]:
    """The x and y of each canvas pixel, in face pixels."""
    y, x = np.mgrid[0:CANVAS_H, 0:CANVAS_W].astype(np.float32)
    return x - ORIGIN[0], y - ORIGIN[1]


def bump(x: Plane, y: Plane, at: tuple[float, float], size: tuple[float, float]) -> Plane:
    """A Gaussian hill of height 1."""
    hill: Plane = np.exp(-0.5 * (((x - at[0]) / size[0]) ** 2 + ((y - at[1]) / size[1]) ** 2)).astype(np.float32)
    return hill


def twin(x: Plane, y: Plane, at: tuple[float, float], size: tuple[float, float]) -> Plane:
    """The same hill left and right of the nose."""
    return bump(x, y, at, size) + bump(x, y, (-at[0], at[1]), size)


def ramp(values: Array, start: float | Array, stop: float | Array) -> Plane:
    """0 at `start`, 1 at `stop`, smooth between."""
    t = np.clip((values - start) / (stop - start), 0.0, 1.0)
    smooth: Plane = (t * t * (3.0 - 2.0 * t)).astype(np.float32)
    return smooth


def cloud(rng: np.random.Generator, shape: tuple[int, int], cell: tuple[float, float]) -> Plane:
    """Smooth random texture of unit deviation with features about `cell` (x, y) pixels large."""
    small = rng.standard_normal((max(2, int(shape[0] / cell[1])), max(2, int(shape[1] / cell[0])))).astype(np.float32)
    big = cv2.resize(small, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    scaled: Plane = (big / (float(big.std()) + 1e-6)).astype(np.float32)
    return scaled


def half_width(look: Appearance, y: Plane) -> Plane:
    """Half the face's width at each height: a round skull above the eyes, narrowing to the chin below."""
    skull_top = HAIRLINE_Y - 78.0
    up = np.clip(1.0 - np.abs(np.minimum(y, 0.0) / skull_top) ** 2.5, 0.0, 1.0) ** 0.45
    t = np.clip(y / look.chin_y, 0.0, 1.0)
    down = np.sqrt(np.clip(1.0 - t**3.4, 0.0, 1.0)) * (1.0 - (1.0 - look.jaw_width) * t**1.5)
    share = np.where(y < 0, up, down)
    width: Plane = np.where(share > 0.0, look.face_width * share, -9.0).astype(np.float32)
    return width


def paint_head(look: Appearance) -> Head:
    """Paint a person's head once: shape, light, skin, hair, brows, nose. Takes about 0.1 s."""
    x, y = face_grid()
    rng = np.random.default_rng(look.texture_seed)
    width = half_width(look, y)
    depth = _shape(look, x, y, width)
    light, gloss = _light(look, depth)
    skin = _skin(look, rng, x, y)
    rgb = np.asarray(skin * light[..., None] + gloss[..., None] * 255.0, np.float32)
    alpha = ramp(width - np.abs(x), -1.5, 1.5)
    ears = ramp(1.0 - ((np.abs(x) - look.face_width) / 14) ** 2 - ((y - 22) / 34) ** 2, 0.0, 0.12)
    alpha = np.maximum(alpha, ears)
    rgb = _nose_and_folds(look, x, y, rgb)
    rgb = _facial_hair(look, rng, x, y, rgb, light)
    rgb, alpha = _hair(look, rng, x, y, width, rgb, alpha)
    smooth_depth = cv2.GaussianBlur(depth, (0, 0), 9)
    return Head(np.asarray(np.clip(rgb, 0, 255), np.float32), alpha, np.asarray(smooth_depth, np.float32), light)


def _shape(look: Appearance, x: Plane, y: Plane, width: Plane) -> Plane:
    across = np.clip(1.0 - (x / np.maximum(width, 1.0)) ** 2, 0.0, 1.0)
    along = np.clip(1.0 - np.where(y < 20, (y - 20) / -230.0, (y - 20) / (look.chin_y + 30)) ** 2, 0.0, 1.0)
    depth = 105.0 * np.sqrt(across) * np.sqrt(along)
    depth += 24 * bump(x, y, (0, 60), (15, 30)) + 11 * bump(x, y, (0, 80), (15, 12))
    depth += 7 * twin(x, y, (look.nose_width * 0.62, 84), (8, 8)) + 4 * twin(x, y, (46, -26), (20, 10))
    depth -= 13 * twin(x, y, (EYE_X - 8, 4), (26, 15)) - 8 * twin(x, y, (74, 58), (26, 22))
    depth += 9 * bump(x, y, (0, MOUTH_Y), (44, 30)) + 8 * bump(x, y, (0, look.chin_y - 22), (26, 16))
    depth -= 6 * bump(x, y, (0, MOUTH_Y + 36), (26, 8)) + 1.6 * bump(x, y, (0, 106), (4, 12))
    return np.asarray(depth, np.float32)


def _light(look: Appearance, depth: Plane) -> tuple[Plane, Plane]:
    """Lambert's law plus ambient light, and a broad gloss."""
    smooth = cv2.GaussianBlur(depth, (0, 0), 3.5)
    dy, dx = np.gradient(smooth)
    norm = np.sqrt(dx**2 + dy**2 + 1.0)
    towards = (-dx * look.light[0] + dy * look.light[1] + look.light[2]) / norm
    half = np.array([look.light[0], look.light[1], look.light[2] + 1.0])
    half /= np.linalg.norm(half)
    mirror = np.clip((-dx * half[0] + dy * half[1] + half[2]) / norm, 0.0, 1.0)
    light = (look.ambient + (1.12 - look.ambient) * np.clip(towards, 0.0, 1.0)) * look.gain
    gloss = look.shine * mirror**18 * 0.36
    return cv2.GaussianBlur(light.astype(np.float32), (0, 0), 1.2), gloss.astype(np.float32)


def _skin(look: Appearance, rng: np.random.Generator, x: Plane, y: Plane) -> npt.NDArray[np.float32]:
    shape = (CANVAS_H, CANVAS_W)
    grain = 0.016 * cloud(rng, shape, (2, 2)) + 0.016 * cloud(rng, shape, (7, 7)) + 0.02 * cloud(rng, shape, (40, 40))
    skin = np.asarray(look.skin, np.float32) * (1.0 + grain)[..., None]
    flush = 0.5 * twin(x, y, (76, 72), (28, 24)) + 0.5 * bump(x, y, (0, 78), (18, 14))
    skin *= 1.0 - flush[..., None] * np.array([0.0, 0.13, 0.12], np.float32)
    under_eye = twin(x, y, (EYE_X - 6, 24), (20, 8)) * 0.12 * look.wrinkles
    return np.asarray(skin * (1.0 - under_eye[..., None]), np.float32)


def _nose_and_folds(look: Appearance, x: Plane, y: Plane, rgb: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    nostrils = 0.75 * twin(x, y, (look.nose_width * 0.36, 92), (5.5, 3.2))
    under = 0.28 * bump(x, y, (0, 97), (look.nose_width * 0.7, 4))
    wings = 0.25 * twin(x, y, (look.nose_width * 0.98, 84), (3, 8))
    t = np.clip((y - 84) / 52, 0.0, 1.0)
    fold_x = look.nose_width + 6 + 28 * t**0.8
    fold = 0.20 * look.wrinkles * np.exp(-0.5 * ((np.abs(x) - fold_x) / 4.5) ** 2) * np.sin(np.pi * t)
    dark = np.clip(nostrils + under + wings + fold, 0.0, 0.9)[..., None]
    return np.asarray(rgb * (1.0 - dark * np.array([0.85, 1.0, 1.0], np.float32)), np.float32)


def _facial_hair(
    look: Appearance, rng: np.random.Generator, x: Plane, y: Plane, rgb: npt.NDArray[np.float32], light: Plane
) -> npt.NDArray[np.float32]:
    """Brows, beard and moustache, as strands of noise in the hair's colour."""
    strands = np.clip(0.75 + 0.3 * cloud(rng, (CANVAS_H, CANVAS_W), (2, 5)), 0.2, 1.2)
    arch = -34 - 8 * np.sin(np.clip((np.abs(x) - 30) / 64, 0, 1) * np.pi * 0.8)
    brow = np.exp(-0.5 * ((y - arch) / 4.5) ** 2) * ramp(np.abs(x), 26, 36) * ramp(-np.abs(x), -98, -80) * look.brow
    beard = ramp(y + 0.32 * np.abs(x), 128, 168) + ramp(np.abs(x), 78, 104) * ramp(y, 30, 90)
    mouth_gap = bump(x, y, (0, MOUTH_Y + 6), (look.mouth_half_width * 0.72, 17))
    beard = np.clip(beard - 1.3 * mouth_gap, 0, 1) * look.beard
    moustache = np.exp(-0.5 * ((y - 111 - 0.006 * x**2) / 6) ** 2) * ramp(-np.abs(x), -64, -44) * look.moustache
    cover = np.clip(np.maximum(np.maximum(beard, moustache), brow) * strands, 0.0, 0.95)[..., None]
    colour = np.asarray(look.hair, np.float32) * (0.35 + 0.65 * light)[..., None] * 0.8
    return np.asarray(rgb * (1 - cover) + colour * cover, np.float32)


def _hair(
    look: Appearance,
    rng: np.random.Generator,
    x: Plane,
    y: Plane,
    width: Plane,
    rgb: npt.NDArray[np.float32],
    alpha: Plane,
) -> tuple[npt.NDArray[np.float32], Plane]:
    if look.hair_style == "bald":
        return rgb, alpha
    wave = cloud(rng, (CANVAS_H, CANVAS_W), (24, 40)) * 4
    line = HAIRLINE_Y + 14 + 0.0045 * x**2 * (1.0 + 0.3 * np.sign(x) * rng.uniform(-1, 1)) + wave
    crown = ramp(line - y, -5, 6)
    dome = ramp(1.06 - (x / (look.face_width + 20)) ** 2 - (np.minimum(y, 0) / -226.0) ** 2, 0.0, 0.06)
    mask = crown * dome
    sideburns = ramp(np.abs(x) + wave * 0.5, look.face_width - 18, look.face_width - 6) * ramp(-y, -34, -6) * dome
    mask = np.maximum(mask, sideburns)
    if look.hair_style == "long":
        inner = look.face_width - 14 + 0.05 * np.maximum(y, 0) + wave
        curtain = ramp(np.abs(x), inner - 5, inner + 5) * ramp(-np.abs(x), -look.face_width - 34, -look.face_width - 22)
        mask = np.maximum(mask, curtain * ramp(y, -120, -60) * ramp(-y, -285, -230))
    strands = cloud(rng, (CANVAS_H, CANVAS_W), (3, 90)) * 0.14 + cloud(rng, (CANVAS_H, CANVAS_W), (9, 120)) * 0.12
    shine = 0.75 + 0.5 * bump(x, y, (30 * look.light[0], -175), (80, 26)) + strands
    hair = np.asarray(look.hair, np.float32) * np.clip(shine, 0.25, 1.8)[..., None] * look.gain
    shadow = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 7) * 0.35
    rgb = rgb * (1 - shadow[..., None]) * (1 - mask[..., None]) + hair * mask[..., None]
    return np.asarray(rgb, np.float32), np.maximum(alpha, mask)
