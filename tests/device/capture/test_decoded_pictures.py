"""Decoded frames: the same result from every pixel format of the decoder."""

from __future__ import annotations

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import ColorRange

from device.capture.decoded_pictures import PictureMaker
from device.pictures import gray_of_luma, luma, whole_rgb
from device.records import RgbImage

WIDTH, HEIGHT = 80, 60


def scene() -> RgbImage:
    """Soft colours, without anything that half the resolution of colour would lose."""
    cells = np.random.default_rng(5).integers(20, 236, (6, 8, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(cells, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), np.uint8)


@pytest.mark.parametrize("form", ["yuv420p", "yuvj420p", "nv12", "yuv422p10le", "yuv444p", "rgb24", "bgr0"])
def test_colours_and_grey_are_those_of_the_frame(form: str) -> None:
    picture = PictureMaker(None, 1080)(av.VideoFrame.from_ndarray(scene(), "rgb24").reformat(format=form))
    assert np.abs(whole_rgb(picture).astype(int) - scene()).mean() < 6
    gray = gray_of_luma(picture, luma(picture)).astype(int)
    assert np.abs(gray - cv2.cvtColor(scene(), cv2.COLOR_RGB2GRAY)).mean() < 2


@pytest.mark.parametrize("marked", [False, True])
def test_a_frame_that_is_marked_as_of_full_range_has_the_same_grey(marked: bool) -> None:
    frame = av.VideoFrame.from_ndarray(np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8), "yuv420p")
    frame.color_range = ColorRange.JPEG if marked else ColorRange.MPEG
    picture = PictureMaker(None, 1080)(frame)
    assert gray_of_luma(picture, luma(picture)).mean() == pytest.approx(128 if marked else 130.4, abs=1)


def test_odd_sizes_lose_half_a_pixel_of_colour() -> None:
    frame = av.VideoFrame.from_ndarray(scene()[:-1, :-1], "rgb24").reformat(format="yuv420p")
    assert PictureMaker(None, 1080)(frame).shape == (HEIGHT - 2, WIDTH - 2, 3)


def test_what_is_needed_as_it_is_is_not_copied() -> None:
    frame = av.VideoFrame.from_ndarray(scene(), "rgb24").reformat(format="yuv420p")
    assert np.shares_memory(PictureMaker(None, 1080)(frame).y, np.frombuffer(memoryview(frame.planes[0]), np.uint8))
