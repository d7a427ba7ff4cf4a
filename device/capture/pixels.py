"""A camera's buffer to an RGB picture: one conversion, and no copy besides it."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from device.records import RgbImage

# libcamera's names. BGR888 is, in memory, red first.
_PLANAR = {"YUV420": cv2.COLOR_YUV2RGB_I420, "YVU420": cv2.COLOR_YUV2RGB_YV12, "NV12": cv2.COLOR_YUV2RGB_NV12}
_PACKED = {"YUYV": cv2.COLOR_YUV2RGB_YUYV, "UYVY": cv2.COLOR_YUV2RGB_UYVY}
FORMATS = frozenset({*_PLANAR, *_PACKED, "MJPEG", "BGR888", "RGB888"})


def to_rgb(buffer: npt.NDArray[np.uint8], form: str, size: tuple[int, int], stride: int) -> RgbImage | None:
    """RGB [height, width, 3] from a flat buffer whose rows are `stride` bytes apart; None for a damaged JPEG.

    form: one of FORMATS. size: width, height. The result shares no memory with the buffer.
    """
    width, height = size
    if form == "MJPEG":
        bgr = cv2.imdecode(buffer, cv2.IMREAD_COLOR)
        return None if bgr is None else np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
    if form in _PLANAR:
        rows = buffer[: stride * height * 3 // 2].reshape(height * 3 // 2, stride)
        rgb = cv2.cvtColor(rows, _PLANAR[form])
    elif form in _PACKED:
        rgb = cv2.cvtColor(buffer[: stride * height].reshape(height, stride // 2, 2), _PACKED[form])
    else:
        rgb = buffer[: stride * height].reshape(height, stride)[:, : 3 * width].reshape(height, width, 3)
        rgb = cv2.cvtColor(rgb, cv2.COLOR_BGR2RGB) if form == "RGB888" else rgb.copy()
    return np.ascontiguousarray(rgb[:, :width], np.uint8)  # the padding of the rows; without any, nothing is copied
