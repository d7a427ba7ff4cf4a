"""Each form of camera buffer becomes the same frame, with padded rows too."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from device.capture.cameras.pixels import FORMATS, to_picture
from device.pictures import turned, whole_rgb
from device.records import RgbImage

WIDTH, HEIGHT = 32, 16
TOLERANCE = 4  # rounding to YUV and back


def picture() -> RgbImage:
    """Four flat coloured quarters: half-resolution colour loses nothing of them."""
    rgb = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    colours = [(200, 60, 40), (40, 180, 70), (60, 70, 210), (128, 128, 128)]
    for number, colour in enumerate(colours):
        top, left = number // 2 * HEIGHT // 2, number % 2 * WIDTH // 2
        rgb[top : top + HEIGHT // 2, left : left + WIDTH // 2] = colour
    return rgb


def planes() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    i420 = np.asarray(cv2.cvtColor(picture(), cv2.COLOR_RGB2YUV_I420), np.uint8)
    y = i420[:HEIGHT]
    u, v = i420[HEIGHT:].reshape(2, HEIGHT // 2, WIDTH // 2)
    return y, u, v


def padded(rows: npt.NDArray[np.uint8], padding: int) -> npt.NDArray[np.uint8]:
    return np.pad(rows, ((0, 0), (0, padding)), constant_values=77)


def buffer(form: str, padding: int) -> tuple[npt.NDArray[np.uint8], int]:
    """The picture as a camera would lay it out, and its stride."""
    y, u, v = planes()
    if form in ("YUV420", "YVU420"):
        first, second = (u, v) if form == "YUV420" else (v, u)
        parts = [padded(y, padding), padded(first, padding // 2), padded(second, padding // 2)]
    elif form == "NV12":
        parts = [padded(y, padding), padded(np.dstack([u, v]).reshape(HEIGHT // 2, WIDTH), padding)]
    elif form in ("YUYV", "UYVY"):
        uu, vv = np.repeat(u, 2, axis=0), np.repeat(v, 2, axis=0)
        y0, y1 = y[:, ::2], y[:, 1::2]
        order = [y0, uu, y1, vv] if form == "YUYV" else [uu, y0, vv, y1]
        parts = [padded(np.dstack(order).reshape(HEIGHT, 2 * WIDTH), padding)]
    elif form == "MJPEG":
        bgr = cv2.cvtColor(picture(), cv2.COLOR_RGB2BGR)
        jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 100])[1]
        return np.concatenate([jpeg.ravel(), np.zeros(500, np.uint8)]), 0
    else:
        rgb = picture() if form == "BGR888" else picture()[..., ::-1]
        parts = [padded(rgb.reshape(HEIGHT, 3 * WIDTH), padding)]
    flat = np.concatenate([part.ravel() for part in parts] + [np.zeros(64, np.uint8)])  # buffers end on a page
    return flat, parts[0].shape[1]


@pytest.mark.parametrize("padding", [0, 32])
@pytest.mark.parametrize("form", sorted(FORMATS))
def test_each_form_gives_the_same_picture(form: str, padding: int) -> None:
    flat, stride = buffer(form, padding)
    found = to_picture(flat, form, (WIDTH, HEIGHT), stride)
    assert found is not None and found.shape == (HEIGHT, WIDTH, 3)
    rgb = whole_rgb(found)
    assert rgb.shape == (HEIGHT, WIDTH, 3) and rgb.dtype == np.uint8
    difference = np.abs(rgb.astype(int) - picture())
    inside = np.ones((HEIGHT, WIDTH), bool)
    if form == "MJPEG":  # its colours run over the edges of the quarters
        inside[HEIGHT // 2 - 2 : HEIGHT // 2 + 2] = inside[:, WIDTH // 2 - 2 : WIDTH // 2 + 2] = False
    assert difference[inside].max() <= TOLERANCE


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_the_foundstays_when_the_camera_writes_the_next_one(form: str) -> None:
    flat, stride = buffer(form, 0)
    found = to_picture(flat, form, (WIDTH, HEIGHT), stride)
    assert found is not None
    before = whole_rgb(found).copy()
    flat.fill(0)
    assert np.array_equal(whole_rgb(found), before)


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_a_camera_that_hangs_upside_down(form: str) -> None:
    flat, stride = buffer(form, 32)
    found = to_picture(flat, form, (WIDTH, HEIGHT), stride)
    assert found is not None
    assert np.array_equal(whole_rgb(turned(found)), whole_rgb(found)[::-1, ::-1])


@pytest.mark.parametrize("damage", ["empty", "noise", "cut to its head"])
def test_a_damaged_jpeg_is_none(damage: str) -> None:
    flat, _ = buffer("MJPEG", 0)
    flat = {"empty": np.zeros(100, np.uint8), "noise": np.arange(250, dtype=np.uint8), "cut to its head": flat[:20]}[
        damage
    ]
    assert to_picture(flat, "MJPEG", (WIDTH, HEIGHT), 0) is None
