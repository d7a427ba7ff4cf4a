"""From decoded video frames to upright pictures with square pixels: YUV 4:2:0 as it is, all other forms converted.

Nothing is copied where a decoder's planes can be used as they are: most pixels of a recording are never looked at.
"""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import ColorRange, VideoReformatter

from device.pictures import Bytes, Yuv420

_FORMAT = "yuv420p"


class PictureMaker:
    """Decoded frames in, pictures whose shorter side has at most `max_height` pixels out."""

    def __init__(self, pixel_aspect: Fraction | None, max_height: int) -> None:
        self._aspect = float(pixel_aspect) if pixel_aspect and Fraction(1, 4) <= pixel_aspect <= 4 else 1.0
        self._max_height = max_height
        self._reformatter = VideoReformatter()  # one for all frames keeps libswscale's tables

    def __call__(self, frame: av.VideoFrame) -> Yuv420:
        """The picture; it may share memory with the frame."""
        square_width = frame.width * self._aspect
        scale = min(1.0, self._max_height / min(frame.height, square_width))
        width, height = (max(2, round(size * scale)) for size in (square_width, frame.height))
        full_range = frame.color_range == ColorRange.JPEG  # as of phones and MJPEG: `Yuv420` has the range of video
        if (width, height) != (frame.width, frame.height) or frame.format.name != _FORMAT or full_range:
            frame = self._reformatter.reformat(
                frame, width, height, _FORMAT, interpolation="BILINEAR", dst_color_range=ColorRange.MPEG, threads=1
            )  # fmt: skip
        y, u, v = (_pixels(plane) for plane in frame.planes)
        rows, columns = height // 2, width // 2  # without half a pixel of colour
        picture = Yuv420(y[: 2 * rows, : 2 * columns], u[:rows, :columns], v[:rows, :columns])
        quarter_turns = round(frame.rotation / 90) % 4
        if not quarter_turns:
            return picture
        return Yuv420(*(np.ascontiguousarray(np.rot90(p, quarter_turns)) for p in (picture.y, picture.u, picture.v)))


def _pixels(plane: av.video.plane.VideoPlane) -> Bytes:
    return np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
