"""Crops on the 25 Hz grid: exact linear blends from any frame rate, none across gaps, cuts and lost faces."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device.features.contract import FRONT_END
from device.features.mouth import MouthCrop
from device.features.mouth_grid import LipGrid, normalize
from device.records import NS_PER_MS, NS_PER_S

TICK_NS = 40 * NS_PER_MS


def grey(value: float) -> npt.NDArray[np.uint8]:
    return np.full((64, 64), value, np.uint8)


def crop(t_ms: float, value: float | None = 100, track: int = 0) -> MouthCrop:
    return MouthCrop(round(t_ms * NS_PER_MS), None if value is None else grey(value), track, 1)


def ramp(times_ns: Iterable[int], per_s: float = 20.0, start: float = 20.0) -> list[MouthCrop]:
    """Crops whose grey value is a linear function of time, as nearly as whole grey levels allow."""
    return [MouthCrop(t, grey(round(start + per_s * t / NS_PER_S)), 0, 1) for t in times_ns]


def play(crops: Sequence[MouthCrop], grid: LipGrid | None = None) -> dict[int, float | None]:
    """Grey value at each tick, None where invalid."""
    grid, out = grid or LipGrid(), {}
    for one in crops:
        first, pictures, valid = grid.push(one)
        assert pictures.dtype == np.uint8 and valid.dtype == np.bool_ and len(pictures) == len(valid)
        for k, (picture, ok) in enumerate(zip(pictures, valid, strict=True)):
            assert first + k not in out, "each tick once"
            assert ok or not picture.any(), "invalid ticks are blank"
            out[first + k] = float(picture[0, 0]) if ok else None
    assert list(out) == sorted(out)
    return out


@pytest.mark.parametrize("rate", ["24", "25", "30000/1001", "30", "50", "60", "12", "2304/100"])
@pytest.mark.parametrize("start_ms", [0, 17, -333])
def test_a_linear_fade_comes_out_linear_at_any_rate(rate: str, start_ms: int) -> None:
    period = Fraction(NS_PER_S) / Fraction(rate)
    times = [start_ms * NS_PER_MS + int(k * period) for k in range(int(4 * Fraction(rate)))]
    out = play(ramp(times))
    whole = range(-(-times[0] // TICK_NS), times[-1] // TICK_NS + 1)
    assert list(out) == list(whole)
    for tick, value in out.items():
        assert value == pytest.approx(20 + 20 * tick * 0.04, abs=1.01)  # half a level from each rounding


def test_the_blend_is_exact_to_half_a_level() -> None:
    out = play([crop(10, 0), crop(50, 200), crop(90, 0)])
    assert out == {1: 150.0, 2: 50.0}
    assert play([crop(30, 10), crop(130, 201)]) == {1: 29.0, 2: 106.0, 3: 182.0}


def test_a_frame_on_a_tick_is_taken_as_it_is() -> None:
    assert play([crop(0, 7), crop(40, 250), crop(80, 3)]) == {0: 7.0, 1: 250.0, 2: 3.0}


@settings(max_examples=50)
@given(st.lists(st.integers(1, 119), min_size=1, max_size=60), st.integers(-100_000, 100_000))
def test_variable_rate_without_gaps_leaves_no_tick_out(steps_ms: list[int], start_ms: int) -> None:
    times = np.cumsum([start_ms, *steps_ms]) * NS_PER_MS
    base = float(times[0]) / NS_PER_S
    crops = [MouthCrop(int(t), grey(round(20 + 30 * (float(t) / NS_PER_S - base))), 0, 1) for t in times]
    out = play(crops)
    assert list(out) == list(range(-(-int(times[0]) // TICK_NS), int(times[-1]) // TICK_NS + 1))
    for tick, value in out.items():
        assert value == pytest.approx(20 + 30 * (tick * 0.04 - base), abs=1.01)


def test_a_gap_of_more_than_120_ms_is_not_bridged() -> None:
    assert play([crop(0), crop(120)]) == {0: 100.0, 1: 100.0, 2: 100.0, 3: 100.0}
    assert play([crop(0), crop(121), crop(160)]) == {0: 100.0, 1: None, 2: None, 3: None, 4: 100.0}
    assert play([crop(0), crop(160)]) == {0: 100.0, 1: None, 2: None, 3: None, 4: 100.0}


def test_two_tracks_are_not_blended() -> None:
    out = play([crop(0), crop(30), crop(70, 200, track=1), crop(90, 200, track=1)])
    assert out == {0: 100.0, 1: None, 2: 200.0}
    assert play([crop(20), crop(40, 200, track=1)]) == {1: 200.0}


def test_ticks_beside_a_lost_face_are_invalid() -> None:
    out = play([crop(0), crop(30), crop(70, None), crop(110), crop(130)])
    assert out == {0: 100.0, 1: None, 2: None, 3: 100.0}
    assert play([crop(0, None), crop(40, None), crop(80, 5)]) == {0: None, 1: None, 2: 5.0}


@pytest.mark.parametrize("hours", [0.01, 1, 1000])
def test_a_jump_of_hours_fills_no_memory(hours: float) -> None:
    grid, far = LipGrid(), crop(hours * 3_600_000)
    assert list(play([crop(0), crop(40)], grid)) == [0, 1]
    first, pictures, valid = grid.push(far)
    assert len(pictures) <= 31 and not valid[:-1].any() and valid[-1]
    assert first + len(pictures) - 1 == far.t_ns // TICK_NS
    assert list(play([replace(far, t_ns=far.t_ns + TICK_NS)], grid)) == [far.t_ns // TICK_NS + 1]


def test_the_first_frame_may_come_at_any_time() -> None:
    assert play([crop(3_600_000_000.0), crop(3_600_000_040.0)]) == {90_000_000: 100.0, 90_000_001: 100.0}


def test_a_clock_that_stands_or_goes_back_gives_no_tick_twice() -> None:
    out = play([crop(0), crop(40), crop(40), crop(10), crop(35), crop(80), crop(120)])
    assert list(out) == [0, 1, 2, 3]


def test_larger_crops_for_training_keep_their_size() -> None:
    grid = LipGrid(80)
    big = MouthCrop(0, np.full((80, 80), 9, np.uint8), 0, 1)
    assert grid.push(big)[1].shape == (1, 80, 80)
    assert grid.push(replace(big, t_ns=TICK_NS, crop=None))[1].shape == (1, 80, 80)
    assert grid.push(replace(big, t_ns=TICK_NS + 1))[1].shape == (0, 80, 80)


def textured(level: float, contrast: float, seed: int = 0) -> npt.NDArray[np.uint8]:
    pattern = np.random.default_rng(seed).uniform(-1, 1, (64, 64))
    return np.clip(level + contrast * pattern, 0, 255).astype(np.uint8)


def test_brightness_and_contrast_are_normalized() -> None:
    dim, bright = (normalize(textured(*look)[None])[0] for look in ((60, 30), (160, 90)))
    assert np.corrcoef(dim.ravel(), bright.ravel())[0, 1] > 0.999
    for picture in (dim, bright):
        assert picture.mean() == pytest.approx(0, abs=1e-4) and picture.std() == pytest.approx(1, abs=0.01)


def test_a_flat_crop_is_not_blown_up() -> None:
    assert not normalize(grey(77)[None]).any()
    faint = normalize(textured(100, 2.0)[None])
    assert 0 < faint.std() < 2.0 / FRONT_END.crop_contrast_floor


def test_each_picture_is_normalized_by_itself_and_bounded() -> None:
    spot = grey(10)
    spot[3, 3] = 255
    batch: npt.NDArray[Any] = np.stack([textured(60, 30), spot, grey(255)])
    together = normalize(batch)
    assert together.dtype == np.float32 and np.abs(together).max() <= 3
    for one, picture in zip(batch, together, strict=True):
        np.testing.assert_allclose(normalize(one[None])[0], picture, atol=1e-6)
    assert np.array_equal(batch[1], spot), "the given crops stay as they were"
