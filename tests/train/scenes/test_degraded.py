"""Degraded clips: how they are degraded, and what is reported of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from device.bundles.bundle import DEFAULT_BUNDLE
from device.features.model_download import face_model_path
from device.records import Frame
from tests.scenes import talking
from train.scenes.compose import SIDE_PX, Samples, read_clip, square
from train.scenes.degraded import CORRUPTIONS, PICTURES, RATES, SOUNDS, corruption, judge_clip

Clip = tuple[list[Frame], Samples]

needs_face_model = pytest.mark.skipif(not face_model_path().is_file(), reason="the face model has not been fetched")


@pytest.fixture(scope="module")
def clip() -> Clip:
    frames, samples, _ = read_clip(talking())
    return [replace(frame, picture=square(frame.rgb)) for frame in frames[:10]], samples[:16_000]


@pytest.mark.parametrize("way", PICTURES)
def test_a_way_spoils_each_picture_and_nothing_else(clip: Clip, way: str) -> None:
    plain, _ = corruption("as it is", *clip, np.random.default_rng(0))
    frames, samples = corruption(way, *clip, np.random.default_rng(0))
    assert samples is clip[1]
    assert [frame.t_ns for frame in frames] == [frame.t_ns for frame in plain]
    for before, after in zip(plain, frames, strict=True):
        assert after.rgb.dtype == np.uint8
        assert after.rgb.shape == before.rgb.shape or max(after.rgb.shape) < SIDE_PX
        assert not np.array_equal(after.rgb, before.rgb)


@pytest.mark.parametrize("way", SOUNDS)
def test_a_way_spoils_the_sound_and_moves_nothing(clip: Clip, way: str) -> None:
    plain, _ = corruption("as it is", *clip, np.random.default_rng(0))
    frames, samples = corruption(way, *clip, np.random.default_rng(0))
    assert all(np.array_equal(a.rgb, b.rgb) for a, b in zip(plain, frames, strict=True))
    assert samples.dtype == np.float32
    assert samples.shape == clip[1].shape
    assert not np.array_equal(samples, clip[1])
    together = np.fft.irfft(np.fft.rfft(clip[1]).conj() * np.fft.rfft(samples))
    assert int(np.argmax(together)) in (0, 1, len(samples) - 1)


def test_a_rate_leaves_pictures_out(clip: Clip) -> None:
    for way, step in RATES.items():
        frames, _ = corruption(way, *clip, np.random.default_rng(0))
        assert [frame.seq for frame in frames] == [frame.seq for frame in clip[0][::step]]


@needs_face_model
def test_a_clips_numbers_are_right_and_a_degraded_one_has_fewer() -> None:
    found = judge_clip(talking(), DEFAULT_BUNDLE, 5.0, 3, ("as it is", "picture of 60 px", "lower half hidden"))
    plain, small, hidden = found["as it is"], found["picture of 60 px"], found["lower half hidden"]
    assert plain["measuring"] == plain["right"] >= 4
    assert small["measuring"] == small["right"]
    assert hidden["measuring"] < plain["measuring"]
    assert hidden["reports"] == small["reports"] == plain["reports"]
    assert set(found) <= set(CORRUPTIONS)
