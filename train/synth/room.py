"""What a camera and a room do to a clean picture and a clean voice. Neither moves anything in time."""

from __future__ import annotations

import cv2
import numpy as np

from device.records import RgbImage, Samples
from train.synth.appearance import Appearance


def roughen_picture(rng: np.random.Generator, picture: RgbImage, look: Appearance) -> RgbImage:
    """What a camera does: a soft lens and sensor noise."""
    if look.blur_px > 0:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), look.blur_px), np.uint8)
    if look.noise > 0:
        # Noise from one large draw, cut at a random place: fresh numbers for every pixel would cost more than the face.
        grain = rng.integers(-128, 128, picture.shape[:2], dtype=np.int8).astype(np.float32) * (look.noise / 74.0)
        picture = np.asarray(np.clip(picture + grain[..., None], 0, 255), np.uint8)
    return picture


def roughen_sound(rng: np.random.Generator, samples: Samples, rate_hz: int) -> Samples:
    """What a room does: reflections that decay, a noise floor, another level. The direct sound stays where it is."""
    reverb_s = float(rng.uniform(0.0, 0.25))
    direct = float(rng.uniform(0.6, 1.0))
    tail = np.zeros(int(0.3 * rate_hz), np.float32)
    tail[0] = 1.0
    if reverb_s > 0.05:
        t_s = np.arange(len(tail)) / rate_hz
        late = rng.standard_normal(len(tail)) * np.exp(-6.9 * t_s / reverb_s) * (t_s > 0.003) * 0.04 * (1.6 - direct)
        tail += late.astype(np.float32)
    length = 1 << int(np.ceil(np.log2(len(samples) + len(tail))))
    wet = np.fft.irfft(np.fft.rfft(samples, length) * np.fft.rfft(tail, length), length)[: len(samples)]
    noise = rng.standard_normal(len(samples)) * 10.0 ** float(rng.uniform(-4.0, -2.2))
    mixed = wet * (float(rng.uniform(0.25, 0.9)) / max(1e-3, float(np.abs(wet).max()))) + noise
    return np.asarray(np.clip(mixed, -1.0, 1.0), np.float32)
