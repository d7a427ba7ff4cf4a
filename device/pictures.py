"""Pictures as sources give them: RGB, or the YUV 4:2:0 of a camera, of which only parts are ever made colour or grey.

Most of a picture is never looked at: the face detector sees the surroundings of one face a few times a second, the
mouth crops are grey. Converting all of each picture costs a small computer more than either.

Conventions: RGB is [height, width, 3]. Grey is 0.299 R + 0.587 G + 0.114 B, 0 to 255, as the models were trained on.
YUV is ITU-R BT.601's with luma 16 to 235: its luma is that grey already, on another scale.
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
    """A picture of even width and height: `y` [height, width], `u` and `v` half as high and wide."""

    y: Bytes
    u: Bytes
    v: Bytes

    @property
    def shape(self) -> tuple[int, int, int]:
        """As the RGB picture's."""
        return (*self.y.shape, 3)

    @property
    def nbytes(self) -> int:
        return self.y.nbytes + self.u.nbytes + self.v.nbytes

    def __getitem__(self, part: Part) -> Bytes:
        """A part in RGB, the same pixels as if all had been converted."""
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
    """A part in grey, but a camera's picture on its own scale: `gray_of_luma` is cheaper once little is left of it.

    A picture [height, width] is grey already.
    """
    if isinstance(picture, Yuv420):
        return picture.y[part]
    cut = picture[part]
    return np.asarray(cv2.cvtColor(cut, cv2.COLOR_RGB2GRAY), np.uint8) if cut.ndim == 3 else cut


def gray_of_luma(picture: Picture, values: Bytes) -> Bytes:
    """What `luma` gave of this picture, or what was made of it, in grey."""
    return np.asarray(cv2.LUT(values, _gray_levels()), np.uint8) if isinstance(picture, Yuv420) else values


def brightness(picture: Picture, step: int) -> Bytes:
    """How bright each `step`-th pixel of each `step`-th row is, 0 to 255: grey, or green of an RGB picture."""
    every = slice(step // 2, None, step)
    if isinstance(picture, Yuv420):
        return gray_of_luma(picture, np.ascontiguousarray(picture.y[every, every]))
    return picture[every, every, 1].copy()


def turned(picture: Picture) -> Picture:
    """Upside down."""
    if isinstance(picture, Yuv420):
        return Yuv420(*(np.ascontiguousarray(plane[::-1, ::-1]) for plane in (picture.y, picture.u, picture.v)))
    return np.ascontiguousarray(picture[::-1, ::-1])


@cache
def _gray_levels() -> Bytes:
    """[256]: what OpenCV makes of each luma without colour."""
    pairs = np.repeat(np.arange(256, dtype=np.uint8), 4).reshape(256, 2, 2)
    luma = pairs.transpose(1, 0, 2).reshape(2, 512)
    neutral = np.full((1, 512), 128, np.uint8)
    return np.asarray(cv2.cvtColor(np.concatenate([luma, neutral]), cv2.COLOR_YUV2RGB_I420), np.uint8)[0, ::2, 1].copy()
