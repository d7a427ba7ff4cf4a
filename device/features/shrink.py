"""Reduces part of an image by a whole factor, to average it before it is sampled coarsely."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from device.pictures import Picture

Point = npt.NDArray[np.float64]  # x, y


def shrunk(picture: Picture, low: Point, high: Point, factor: int) -> tuple[npt.NDArray[np.uint8], Point]:
    """The part from `low` to `high` and a little more, `factor` times smaller, and its corner in the image.

    The corner is a multiple of the factor, so that the same pixels are averaged whichever part is requested; at least
    one pixel is left. Pixel (x, y) of the result is the mean around corner + factor * (x, y) + (factor - 1) / 2.
    """
    cells = [size // factor for size in picture.shape[1::-1]]
    if not all(cells):  # narrower than the factor
        return np.zeros_like(picture[:1, :1]), np.zeros(2)
    first = [min(max(0, int(x // factor) - 1), most - 1) for x, most in zip(low.tolist(), cells, strict=True)]
    end = [
        min(max(begin + 1, int(x // factor) + 2), most)
        for x, begin, most in zip(high.tolist(), first, cells, strict=True)
    ]
    part = picture[first[1] * factor : end[1] * factor, first[0] * factor : end[0] * factor]
    size = end[0] - first[0], end[1] - first[1]
    small = part if factor == 1 else np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), np.uint8)
    return small, np.array(first, np.float64) * factor
