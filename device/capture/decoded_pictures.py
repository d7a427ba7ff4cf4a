"""From decoded video frames to upright frames with square pixels: YUV 4:2:0 unchanged, all other formats converted.

A decoder's planes are used without copying where possible, because most pixels of a recording are never read.
"""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import ColorRange, VideoReformatter

from device.pictures import Bytes, Yuv420

_FORMAT = "yuv420p"


class PictureMaker:
    """Converts decoded frames to images whose shorter side has at most `max_height` pixels."""

    def __init__(self, pixel_aspect: Fraction | None, max_height: int) -> None:
        self._aspect = float(pixel_aspect) if pixel_aspect and Fraction(1, 4) <= pixel_aspect <= 4 else 1.0
        self._max_height = max_height
        self._reformatter = VideoReformatter()  # one for all frames, to keep libswscale's tables

    def __call__(self, frame: av.VideoFrame) -> Yuv420:
        """Return the image; it may share memory with the frame."""
        square_width = frame.width * self._aspect
        scale = min(1.0, self._max_height / min(frame.height, square_width))
        width, height = (max(2, round(size * scale)) for size in (square_width, frame.height))
        # full range, as from phones and MJPEG: `Yuv420` has video range
        full_range = frame.color_range == ColorRange.JPEG
        if (width, height) != (frame.width, frame.height) or frame.format.name != _FORMAT or full_range:
            frame = self._reformatter.reformat(
                frame, width, height, _FORMAT, interpolation="BILINEAR", dst_color_range=ColorRange.MPEG, threads=1
            )  # fmt: skip
        y, u, v = (_pixels(plane) for plane in frame.planes)
        rows, columns = height // 2, width // 2  # whole chroma pixels only
        picture = Yuv420(y[: 2 * rows, : 2 * columns], u[:rows, :columns], v[:rows, :columns])
        quarter_turns = round(frame.rotation / 90) % 4
        if not quarter_turns:
            return picture
        return Yuv420(*(np.ascontiguousarray(np.rot90(p, quarter_turns)) for p in (picture.y, picture.u, picture.v)))


def _pixels(plane: av.video.plane.VideoPlane) -> Bytes:
    return np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
