"""Images from sources: RGB, or a camera's YUV 4:2:0, of which only parts are ever converted to colour or grey.

Most of an image is never read: the face detector sees the surroundings of one face a few times a second, and mouth
crops are grey. On a small computer, converting every image costs more than either.

Conventions: RGB is [height, width, 3]. Grey is 0.299 R + 0.587 G + 0.114 B, 0 to 255, as the models were trained on.
YUV is ITU-R BT.601's with luma 16 to 235: its luma is that same grey on another scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Part = tuple[slice, slice]  # rows, columns

WHOLE: Part = (slice(None), slice(None))


@dataclass(frozen=True, slots=True, eq=False)
class Yuv420:
    """An image of even width and height: `y` [height, width], `u` and `v` half as high and wide."""

    y: Bytes
    u: Bytes
    v: Bytes

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of the RGB image."""
        return (*self.y.shape, 3)

    @property
    def nbytes(self) -> int:
        return self.y.nbytes + self.u.nbytes + self.v.nbytes

    def __getitem__(self, part: Part) -> Bytes:
        """A part in RGB, with the same pixels as if all had been converted."""
        rows, columns = (range(*one.indices(size)) for one, size in zip(part, self.y.shape, strict=True))
        top, left = rows.start // 2, columns.start // 2  # of the colour planes
        bottom, right = -(-rows.stop // 2), -(-columns.stop // 2)
        y = self.y[2 * top : 2 * bottom, 2 * left : 2 * right]
        colours = [plane[top:bottom, left:right].ravel() for plane in (self.u, self.v)]
        planes = np.concatenate([y.ravel(), *colours]).reshape(3 * (bottom - top), 2 * (right - left))
        rgb = np.asarray(cv2.cvtColor(planes, cv2.COLOR_YUV2RGB_I420), np.uint8)
        top, left = rows.start - 2 * top, columns.start - 2 * left
        return rgb[top : top + len(rows), left : left + len(columns)]


Picture: TypeAlias = Bytes | Yuv420


def whole_rgb(picture: Picture) -> Bytes:
    return picture[WHOLE] if isinstance(picture, Yuv420) else picture


def luma(picture: Picture, part: Part = WHOLE) -> Bytes:
    """A part in grey; a camera's image on its luma scale, because `gray_of_luma` is cheaper once little of it is left.

    An image [height, width] is grey already.
    """
    if isinstance(picture, Yuv420):
        return picture.y[part]
    cut = picture[part]
    return np.asarray(cv2.cvtColor(cut, cv2.COLOR_RGB2GRAY), np.uint8) if cut.ndim == 3 else cut


def gray_of_luma(picture: Picture, values: Bytes) -> Bytes:
    """Convert the result of `luma` for this image, or values computed from it, to grey."""
    return np.asarray(cv2.LUT(values, _gray_levels()), np.uint8) if isinstance(picture, Yuv420) else values


def brightness(picture: Picture, step: int) -> Bytes:
    """Brightness of each `step`-th pixel of each `step`-th row, 0 to 255: grey, or green of an RGB image."""
    every = slice(step // 2, None, step)
    if isinstance(picture, Yuv420):
        return gray_of_luma(picture, np.ascontiguousarray(picture.y[every, every]))
    return picture[every, every, 1].copy()


def turned(picture: Picture) -> Picture:
    """Rotated by 180 degrees."""
    if isinstance(picture, Yuv420):
        return Yuv420(*(np.ascontiguousarray(plane[::-1, ::-1]) for plane in (picture.y, picture.u, picture.v)))
    return np.ascontiguousarray(picture[::-1, ::-1])


@cache
def _gray_levels() -> Bytes:
    """[256]: OpenCV's grey for each luma without colour."""
    pairs = np.repeat(np.arange(256, dtype=np.uint8), 4).reshape(256, 2, 2)
    luma = pairs.transpose(1, 0, 2).reshape(2, 512)
    neutral = np.full((1, 512), 128, np.uint8)
    return np.asarray(cv2.cvtColor(np.concatenate([luma, neutral]), cv2.COLOR_YUV2RGB_I420), np.uint8)[0, ::2, 1].copy()
