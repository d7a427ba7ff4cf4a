"""A part of a picture made smaller by a whole factor: what has to be averaged before it can be sampled coarsely."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from device.pictures import Picture

Point = npt.NDArray[np.float64]  # x, y


def shrunk(picture: Picture, low: Point, high: Point, factor: int) -> tuple[npt.NDArray[np.uint8], Point]:
    """The part from `low` to `high` and a little more, `factor` times smaller, and its corner in the picture.

    The corner is a multiple of the factor, so that the same pixels are averaged whatever part is asked for; at least
    one pixel is left. Pixel (x, y) of the result is the mean around corner + factor * (x, y) + (factor - 1) / 2.
    """
    cells = np.array(picture.shape[1::-1]) // factor
    if not cells.all():  # a strip narrower than the factor
        return np.zeros_like(picture[:1, :1]), np.zeros(2)
    first = np.clip(low // factor - 1, 0, cells - 1).astype(np.int64) * factor
    end = np.clip(high // factor + 2, first // factor + 1, cells).astype(np.int64) * factor
    part = picture[first[1] : end[1], first[0] : end[0]]
    size = ((end - first) // factor).tolist()
    small = part if factor == 1 else np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), np.uint8)
    return small, first.astype(np.float64)
