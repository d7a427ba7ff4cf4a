"""train/data/augment.py: nothing moves in time, nothing is lost, and without augmentation nothing changes."""

from __future__ import annotations

import numpy as np
import pytest

from device.features.contract import AUDIO_RATE_HZ, FRONT_END
from device.features.logmel import LevelTracker, log_mel
from device.features.mouth_grid import normalize
from train.data.augment import MARGIN_PX, PREROLL_TICKS, Augmentation, PictureAugmenter, SoundAugmenter
from train.data.landmarks import LIP_POINTS

SIDE = FRONT_END.crop_px + 2 * MARGIN_PX
HOP = AUDIO_RATE_HZ // 100


def click(at: int, count: int = 20_000) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    samples = np.zeros(count, np.float32)
    samples[at : at + 40] = 0.5
    return samples


def test_none_leaves_pictures_and_sound_as_the_device_has_them() -> None:
    random = np.random.default_rng(0)
    crops = random.integers(0, 256, (5, SIDE, SIDE), np.uint8)
    points = random.uniform(10, 50, (5, LIP_POINTS, 2)).astype(np.float32)
    pictures = PictureAugmenter(None, random)
    inner, same = pictures.warp(crops, points)
    assert np.array_equal(inner, crops[:, MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX])
    assert np.array_equal(same, points)
    assert np.array_equal(pictures.normalized(inner[None]), normalize(inner[None]))
    sound, ticks = SoundAugmenter(None, random, []), PREROLL_TICKS + 30
    samples = random.standard_normal((ticks - 1) * HOP + FRONT_END.stft_window_samples).astype(np.float32)
    assert sound.samples(samples) is samples
    windows = np.lib.stride_tricks.sliding_window_view(samples, FRONT_END.stft_window_samples)[::HOP]
    expected = LevelTracker()(log_mel(windows))[PREROLL_TICKS:]
    assert sound.rows(samples[None], np.ones((1, ticks), np.bool_))[0] == pytest.approx(expected, abs=1e-5)


def test_no_room_and_no_noise_moves_a_click() -> None:
    random = np.random.default_rng(1)
    loud = Augmentation(reverb_share=1.0, noise_share=1.0, babble_share=1.0, snr_db=(20.0, 30.0))
    sound = SoundAugmenter(loud, random, [random.integers(-300, 300, 16_000).astype(np.int16)])
    for _ in range(20):
        heard = np.abs(sound.samples(click(8000)))
        assert 7998 <= int(np.argmax(heard > 0.5 * heard.max())) <= 8040


def test_every_share_at_nought_changes_only_level_and_colour() -> None:
    random = np.random.default_rng(2)
    quiet = Augmentation(reverb_share=0, noise_share=0, babble_share=0, gain_db=12)
    made = SoundAugmenter(quiet, random, []).samples(click(8000))
    ratio = made[8000] / 0.5
    assert 10 ** (-12 / 20) <= ratio <= 10 ** (12 / 20)
    assert made == pytest.approx(click(8000) * ratio, abs=1e-6)


def test_a_longer_vocal_tract_lowers_a_tone_and_a_mask_hides_bands() -> None:
    random = np.random.default_rng(3)
    ticks = PREROLL_TICKS + 20
    at_s = np.arange((ticks - 1) * HOP + FRONT_END.stft_window_samples) / AUDIO_RATE_HZ
    tone = (0.3 * np.sin(2 * np.pi * 1500 * at_s) * (at_s > 1.6)).astype(np.float32)
    only = Augmentation(log_tract=0.2, colour_db=0, mask_share=0)
    stretched = SoundAugmenter(only, random, [])
    bands = {int(np.argmax(stretched.rows(tone[None], np.ones((1, ticks), np.bool_))[0, 15])) for _ in range(12)}
    assert max(bands) - min(bands) >= 3
    masked = Augmentation(log_tract=0, colour_db=0, mask_share=1.0, mask_bands=8)
    rows = SoundAugmenter(masked, random, []).rows(tone[None], np.ones((1, ticks), np.bool_))[0]
    blank = int((rows == 0).all(0).sum())
    assert 1 <= blank <= 8


def test_pictures_stay_pictures_and_a_stretch_is_warped_as_one() -> None:
    random = np.random.default_rng(4)
    crops = np.repeat(random.integers(0, 256, (1, SIDE, SIDE), np.uint8), 6, axis=0)
    points = np.full((6, LIP_POINTS, 2), 31.5, np.float32)
    warped, moved = PictureAugmenter(Augmentation(), random).warp(crops, points)
    assert warped.shape == (6, FRONT_END.crop_px, FRONT_END.crop_px) and warped.dtype == np.uint8
    assert (warped == warped[0]).all() and np.allclose(moved, moved[0])
    assert np.abs(moved - 31.5).max() <= Augmentation().shift_px + 1e-3  # the middle only shifts
