"""From a camera's buffer to an image: one copy, or one conversion if the camera delivers neither YUV 4:2:0 nor RGB."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from device.pictures import Picture, Yuv420

# libcamera's names. BGR888 has red first in memory.
_PLANAR = frozenset({"YUV420", "YVU420", "NV12"})
_PACKED = {"YUYV": cv2.COLOR_YUV2RGB_YUYV, "UYVY": cv2.COLOR_YUV2RGB_UYVY}
FORMATS = frozenset({*_PLANAR, *_PACKED, "MJPEG", "BGR888", "RGB888"})


def to_picture(buffer: npt.NDArray[np.uint8], form: str, size: tuple[int, int], stride: int) -> Picture | None:
    """The image in a flat buffer whose rows are `stride` bytes apart; None for a damaged JPEG.

    form: one of FORMATS. size: width, height, both even for YUV 4:2:0. The result shares no memory with the buffer.
    """
    width, height = size
    if form == "MJPEG":
        bgr = cv2.imdecode(buffer, cv2.IMREAD_COLOR)
        return None if bgr is None else np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
    if form in _PLANAR:
        return _planes(buffer[: stride * height * 3 // 2].copy(), form, size, stride)
    if form in _PACKED:
        rgb = cv2.cvtColor(buffer[: stride * height].reshape(height, stride // 2, 2), _PACKED[form])
    else:
        rgb = buffer[: stride * height].reshape(height, stride)[:, : 3 * width].reshape(height, width, 3)
        rgb = cv2.cvtColor(rgb, cv2.COLOR_BGR2RGB) if form == "RGB888" else rgb.copy()
    return np.ascontiguousarray(rgb[:, :width], np.uint8)  # removes the rows' padding; without any, nothing is copied


def _planes(buffer: npt.NDArray[np.uint8], form: str, size: tuple[int, int], stride: int) -> Yuv420:
    width, height = size
    luma, rest = buffer[: stride * height].reshape(height, stride), buffer[stride * height :]
    if form == "NV12":
        pairs = rest.reshape(height // 2, stride // 2, 2)[:, : width // 2]
        return Yuv420(luma[:, :width], pairs[..., 0], pairs[..., 1])
    first, second = rest.reshape(2, height // 2, stride // 2)[:, :, : width // 2]
    return Yuv420(luma[:, :width], *((first, second) if form == "YUV420" else (second, first)))
