"""Augmentation: varies poses, cameras, rooms, microphones and voices, because a few hours of clips hold few of them.

Nothing here moves audio against video. `None` instead of an Augmentation leaves everything as it was recorded.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from device.features.contract import AUDIO_RATE_HZ, AUDIO_TICK_NS, FRONT_END
from device.features.logmel import LevelTracker, log_mel
from device.features.mouth_grid import normalize
from device.records import NS_PER_S
from train.data.landmarks import MIRRORED
from train.data.rooms import convolve, impulse_response

Floats = npt.NDArray[np.float32]
Crops = npt.NDArray[np.uint8]

MARGIN_PX = 8  # of prepared crops on each side
PREROLL_TICKS = 150  # audio before a stretch, for the running mean
_HOP = AUDIO_RATE_HZ * AUDIO_TICK_NS // NS_PER_S
_NOISES, _ROOMS = 64, 200


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How far training video and audio deviate from the recorded ones; every amount is the end of a uniform range."""

    shift_px: float = 5.0
    log_scale: float = 0.16
    rotation_deg: float = 8.0
    gamma: float = 0.35
    noise: float = 0.12
    blur_share: float = 0.3
    repeat_share: float = 0.3
    erase_share: float = 0.2
    speed_share: float = 0.5
    log_speed: float = 0.18  # for video and audio alike: another pace and another voice
    gain_db: float = 12.0
    noise_share: float = 0.6
    snr_db: tuple[float, float] = (3.0, 30.0)
    babble_share: float = 0.25
    reverb_share: float = 0.2
    reverb_s: tuple[float, float] = (0.1, 0.6)  # until it has decayed by 60 dB
    reverb_db: tuple[float, float] = (-12.0, 0.0)  # relative to the direct sound
    band_share: float = 0.0  # of stretches without their lowest and highest frequencies, as from a telephone
    colour_db: float = 6.0
    log_tract: float = 0.12  # of the length of the vocal tract: formants higher or lower
    mask_share: float = 0.5
    mask_bands: int = 8


class PictureAugmenter:
    """Augments prepared crops and converts them to the encoder's input."""

    def __init__(self, augmentation: Augmentation | None, random: np.random.Generator) -> None:
        self._augmentation, self._random = augmentation, random
        self._grain = random.standard_normal(1 << 22 if augmentation else 0, np.float32)

    def warp(self, crops: Crops, points: Floats) -> tuple[Crops, Floats]:
        """Crops with margin [ticks, ...] and landmarks [ticks, 40, 2], all ticks alike, to crops without one."""
        size, a, random = FRONT_END.crop_px, self._augmentation, self._random
        if a is None:
            return crops[:, MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX], points
        scale = np.exp(random.uniform(-a.log_scale, a.log_scale))
        stretch = np.exp(random.uniform(-a.log_scale, a.log_scale) / 2)
        angle = np.deg2rad(random.uniform(-a.rotation_deg, a.rotation_deg))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * scale
        turn = turn @ np.diag([stretch, 1 / stretch])
        if random.random() < 0.5:
            turn = turn @ np.diag([-1, 1])
            points = points[:, MIRRORED]
        middle = (crops.shape[1] - 1) / 2
        matrix = np.column_stack(
            [turn, (size - 1) / 2 - turn @ np.full(2, middle) + random.uniform(-a.shift_px, a.shift_px, 2)]
        )
        table = (255 * (np.arange(256) / 255) ** np.exp(random.uniform(-a.gamma, a.gamma))).astype(np.uint8)
        sigma = random.uniform(0.3, 1.2) if random.random() < a.blur_share else 0.0
        order = np.arange(len(crops))
        if random.random() < a.repeat_share:  # a dropped frame shows the previous one again
            dropped = random.random(len(crops)) < random.uniform(0, 0.15)
            order = np.maximum.accumulate(np.where(dropped, 0, order))
        out = np.empty((len(crops), size, size), np.uint8)
        for n, index in enumerate(order):
            picture = cv2.warpAffine(crops[index], matrix, (size, size), borderMode=cv2.BORDER_REPLICATE)
            out[n] = cv2.LUT(cv2.GaussianBlur(picture, (0, 0), sigma) if sigma else picture, table)
        if random.random() < a.erase_share:  # a microphone or a hand in front of the face
            wide, high = random.integers(6, size // 3, 2)
            x, y = random.integers(0, size - wide), random.integers(0, size - high)
            out[:, y : y + high, x : x + wide] = random.integers(256)
        return out, np.asarray((points[order] + MARGIN_PX) @ matrix[:, :2].T + matrix[:, 2], np.float32)

    def normalized(self, crops: Crops) -> Floats:
        """Crops [batch, ticks, ...] as from the device's front end, plus sensor noise."""
        pictures = normalize(crops)
        if self._augmentation:
            for picture in pictures:
                first = int(self._random.integers(len(self._grain) - picture.size))
                grain = self._grain[first : first + picture.size].reshape(picture.shape)
                picture += np.float32(self._random.uniform(0, self._augmentation.noise)) * grain
        return pictures


class SoundAugmenter:
    """Augments samples and converts them to log-mel rows; `voices` (int16) speak in the background."""

    def __init__(
        self, augmentation: Augmentation | None, random: np.random.Generator, voices: list[npt.NDArray[np.int16]]
    ) -> None:
        self._augmentation, self._random, self._voices = augmentation, random, voices
        self._noises = [_coloured_noise(random, 10 * AUDIO_RATE_HZ) for _ in range(_NOISES)] if augmentation else []
        self._rooms = _rooms(augmentation, random) if augmentation else []

    def samples(self, samples: Floats) -> Floats:
        """One stretch of audio in another room, with other sounds, at another level."""
        a, random = self._augmentation, self._random
        if a is None:
            return samples
        if random.random() < a.reverb_share:
            samples = convolve(samples, self._rooms[int(random.integers(len(self._rooms)))])
        if random.random() < a.band_share:
            samples = _band_limited(samples, random)
        level = float(np.sqrt(np.mean(samples**2))) + 1e-4
        if random.random() < a.noise_share:
            noise = self._noises[int(random.integers(len(self._noises)))]
            start = int(random.integers(len(noise) - len(samples)))
            samples = samples + noise[start : start + len(samples)] * level * 10 ** (-random.uniform(*a.snr_db) / 20)
        if random.random() < a.babble_share:
            other = self._voices[int(random.integers(len(self._voices)))].astype(np.float32) / 32767
            other = np.resize(np.roll(other, int(random.integers(len(other)))), len(samples)).astype(np.float32)
            loud = float(np.sqrt(np.mean(other**2))) + 1e-4
            gain = level / loud * 10 ** (-random.uniform(8, 30) / 20)
            samples = np.asarray(samples + other * gain, np.float32)
        return np.asarray(samples * 10 ** (random.uniform(-a.gain_db, a.gain_db) / 20), np.float32)

    def rows(self, sound: Floats, inside: npt.NDArray[np.bool_]) -> Floats:
        """Rows [batch, ticks, bands] after the pre-roll, of samples [batch, n]; `inside`: which rows contain audio."""
        windows = np.lib.stride_tricks.sliding_window_view(sound, FRONT_END.stft_window_samples, 1)[:, ::_HOP]
        rows = log_mel(windows)
        if self._augmentation:
            rows = np.stack([row @ self._tract() for row in rows]) + self._colour(len(rows))
        # There is no stream before a clip begins: the device starts from the prior, and so does this.
        first = np.argmax(inside, axis=1)
        for n, tick in enumerate(first):
            rows[n, :tick] = FRONT_END.level_prior_log
        rows = LevelTracker()(rows)[:, PREROLL_TICKS:]
        if self._augmentation:
            for row in rows:
                self._mask(row)
        return rows

    def _tract(self) -> Floats:
        """A matrix [bands, bands] that stretches the mel axis like a longer or shorter vocal tract."""
        assert self._augmentation
        amount = self._augmentation.log_tract
        at = np.arange(FRONT_END.mel_bands) * np.exp(self._random.uniform(-amount, amount))
        distance = np.abs(np.clip(at, 0, FRONT_END.mel_bands - 1) - np.arange(FRONT_END.mel_bands)[:, None])
        return np.maximum(1 - distance, 0).astype(np.float32)

    def _colour(self, count: int) -> Floats:
        """A smooth random microphone response [count, 1, bands] in nats."""
        assert self._augmentation
        knots = self._random.uniform(-1, 1, (count, 5)) * self._augmentation.colour_db * np.log(10) / 10
        at = np.linspace(0, 4, FRONT_END.mel_bands)
        return np.stack([np.interp(at, np.arange(5), row) for row in knots])[:, None].astype(np.float32)

    def _mask(self, row: Floats) -> None:
        """Blank a few neighbouring bands of rows [ticks, bands] in place."""
        assert self._augmentation
        if self._random.random() < self._augmentation.mask_share:
            count = int(self._random.integers(1, self._augmentation.mask_bands + 1))
            first = int(self._random.integers(FRONT_END.mel_bands - count + 1))
            row[:, first : first + count] = 0


def _coloured_noise(random: np.random.Generator, count: int) -> Floats:
    """Noise of unit power whose spectrum falls by 0 to 2 powers of frequency, with slow swells half of the time."""
    spectrum = np.fft.rfft(random.standard_normal(count))
    spectrum *= np.maximum(np.arange(len(spectrum)), 20.0) ** (-random.uniform(0, 1))
    noise = np.fft.irfft(spectrum, count)
    if random.random() < 0.5:
        noise *= 1 + 0.9 * np.sin(
            2 * np.pi * (random.uniform(0.1, 4) * np.arange(count) / AUDIO_RATE_HZ + random.random())
        )
    return np.asarray(noise / (np.sqrt(np.mean(noise**2)) + 1e-9), np.float32)


def _rooms(a: Augmentation, random: np.random.Generator) -> list[Floats]:
    """Impulse responses; short and long decays are equally frequent on a logarithmic scale."""
    shortest, longest = np.log(a.reverb_s)
    decays_s = np.exp(random.uniform(shortest, longest, _ROOMS))
    return [impulse_response(random, float(decay_s), random.uniform(*a.reverb_db)) for decay_s in decays_s]


def _band_limited(samples: Floats, random: np.random.Generator) -> Floats:
    """With the lowest and highest frequencies taken away by Butterworth filters of zero phase."""
    low_hz, high_hz = random.uniform(50, 400), random.uniform(3000, 7500)
    size = 1 << (len(samples) - 1).bit_length()
    hz = np.maximum(np.fft.rfftfreq(size, 1 / AUDIO_RATE_HZ), 1)
    gain = 1 / np.sqrt((1 + (low_hz / hz) ** 8) * (1 + (hz / high_hz) ** 16))
    return np.fft.irfft(np.fft.rfft(samples, size) * gain, size)[: len(samples)].astype(np.float32)
