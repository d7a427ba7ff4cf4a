"""A part of a frame, scaled down: the right pixels, averaged on a fixed grid, and their origin."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from device.features.shrink import Point, shrunk

X, Y = np.meshgrid(np.arange(64), np.arange(48))
RAMP = (2 * X + Y).astype(np.uint8)


def point(x: float, y: float) -> Point:
    return np.array([x, y], np.float64)


def test_a_pixel_is_the_mean_of_its_cell() -> None:
    small, corner = shrunk(RAMP, point(0, 0), point(63, 47), 4)
    assert small.shape == (12, 16) and corner.tolist() == [0, 0]
    assert abs(int(small[5, 7]) - RAMP[20:24, 28:32].mean()) <= 0.5


PAIR = st.tuples(st.floats(0, 160), st.floats(0, 160))


@given(PAIR, st.tuples(st.floats(0, 90), st.floats(0, 90)), st.integers(2, 9))
def test_a_part_holds_the_same_pixels_as_the_whole(low: tuple[float, float], size: tuple[float, float], f: int) -> None:
    whole, _ = shrunk(RAMP, point(0, 0), point(63, 47), f)
    small, corner = shrunk(RAMP, point(*low) - 80, point(*low) - 80 + size, f)
    x, y = (corner // f).astype(int)
    assert (corner % f == 0).all() and small.size >= 1
    assert np.array_equal(small, whole[y : y + small.shape[0], x : x + small.shape[1]])


@given(st.floats(0, 40), st.floats(0, 30), st.floats(0, 20), st.integers(2, 5))
def test_what_was_asked_for_is_inside(x: float, y: float, side: float, factor: int) -> None:
    small, corner = shrunk(RAMP, point(x, y), point(x, y) + side, factor)
    end = corner + factor * np.array(small.shape[::-1])
    assert (corner <= (x, y)).all()
    assert (end >= np.minimum(np.array([x, y]) + side, np.array([64, 48]) // factor * factor)).all()


def test_colour_keeps_its_channels_and_a_strip_is_no_error() -> None:
    colour = np.dstack([RAMP, RAMP // 2, RAMP * 0]).astype(np.uint8)
    small, _ = shrunk(colour, point(10, 10), point(30, 30), 2)
    assert small.ndim == 3 and not small[..., 2].any() and small[..., 0].any()
    strip, corner = shrunk(colour[:3], point(0, 0), point(60, 60), 8)
    assert strip.shape == (1, 1, 3) and not strip.any() and not corner.any()
