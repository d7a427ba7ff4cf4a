"""From clips to training batches: random stretches, augmented, through the device's own front end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from device.errors import InputFormatError
from device.features.contract import AUDIO_TICKS_PER_LIP_TICK, FRONT_END
from train.data.augment import PREROLL_TICKS, Augmentation, PictureAugmenter, SoundAugmenter
from train.data.landmarks import LIP_POINTS
from train.data.shards import AUDIO_REACH, HOP_SAMPLES, LIP_REACH, Clip, Floats

_SILENCE_SHARE = 0.3


class Batches:
    """Endless training batches `(x, y)` for `TwoTowerModel` from clips of at least the given number of lip ticks."""

    def __init__(
        self, clips: list[Clip], *, lip_ticks: int, batch_size: int, seed: int, augmentation: Augmentation | None
    ) -> None:
        self._clips = [
            clip for clip in clips if int(clip.valid.sum()) >= lip_ticks * 0.7 and len(clip.valid) >= lip_ticks
        ]
        if not self._clips:
            raise InputFormatError(
                f"no clip has {lip_ticks} lip ticks", where="training clips", remedy="Give longer clips or fewer ticks"
            )
        # Long clips offer more than short ones, but not in proportion, because the speaker is the same.
        weight = np.array([np.sqrt(len(clip.valid) / lip_ticks) for clip in self._clips])
        per_speaker: dict[str, float] = {}
        for clip, share in zip(self._clips, weight, strict=True):
            per_speaker[clip.speaker] = per_speaker.get(clip.speaker, 0.0) + share
        weight /= np.sqrt([per_speaker[clip.speaker] for clip in self._clips])
        self._share = weight / weight.sum()
        self._lip_ticks, self._batch_size = lip_ticks, batch_size
        self._random = np.random.default_rng(seed)
        self._augmentation = augmentation
        self._pictures = PictureAugmenter(augmentation, self._random)
        self._sound = SoundAugmenter(augmentation, self._random, [clip.samples for clip in self._clips])

    def __iter__(self) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        while True:
            chosen = self._random.choice(len(self._clips), self._batch_size, p=self._share)
            yield self._batch([self._clips[index] for index in chosen])

    def _batch(self, clips: list[Clip]) -> tuple[dict[str, Any], dict[str, Any]]:
        ticks, random, a = self._lip_ticks, self._random, self._augmentation
        windows = ticks - 2 * LIP_REACH
        audio_windows = AUDIO_TICKS_PER_LIP_TICK * (windows - 1) + 1
        rows_needed = audio_windows + 2 * AUDIO_REACH
        crops = np.empty((len(clips), ticks, FRONT_END.crop_px, FRONT_END.crop_px), np.uint8)
        points = np.empty((len(clips), ticks, LIP_POINTS, 2), np.float32)
        sound = np.empty(
            (len(clips), (PREROLL_TICKS + rows_needed - 1) * HOP_SAMPLES + FRONT_END.stft_window_samples), np.float32
        )
        inside = np.empty((len(clips), PREROLL_TICKS + rows_needed), np.bool_)
        lip_weight = np.empty((len(clips), windows), np.float32)
        first_match = np.zeros(len(clips), np.float32)
        for n, clip in enumerate(clips):
            speed = 1.0
            if a and random.random() < a.speed_share:
                longest = (len(clip.valid) - 1) / (ticks - 1)
                speed = min(float(np.exp(random.uniform(-a.log_speed, a.log_speed))), longest)
            start = float(random.uniform(0, max(len(clip.valid) - 1 - (ticks - 1) * speed, 0)))
            # Whole ticks are the recorded images; between them there are only blends.
            start = start if speed != 1.0 else round(start)
            at = start + np.arange(ticks) * speed
            pictures, seen, lips = _at_ticks(clip, at)
            crops[n], points[n] = self._pictures.warp(pictures, lips)
            own = clip.shift_ms / FRONT_END.audio_tick_ms
            middle = (clip.first_lip_tick + start + LIP_REACH * speed) * AUDIO_TICKS_PER_LIP_TICK - own
            if speed == 1.0:  # on the grid; the remaining offset goes into the target
                first_match[n] = middle - round(middle)
                middle = round(middle)
            first_audio = middle - AUDIO_REACH * speed
            sound[n], inside[n] = clip.audio(first_audio - PREROLL_TICKS * speed, PREROLL_TICKS + rows_needed, speed)
            sound[n] = self._sound.samples(sound[n])
            whole = np.lib.stride_tricks.sliding_window_view(seen, 2 * LIP_REACH + 1).all(1)
            spoken = clip.is_speech(
                np.rint(middle + AUDIO_TICKS_PER_LIP_TICK * speed * np.arange(windows)).astype(np.int64)
            )
            # Closed lips fit any silence, which is worth learning, but not as often as it occurs.
            lip_weight[n] = whole & (spoken | (random.random(windows) < _SILENCE_SHARE))
        audio_valid = np.lib.stride_tricks.sliding_window_view(inside[:, PREROLL_TICKS:], 2 * AUDIO_REACH + 1, 1).all(2)
        x = {"crops": self._pictures.normalized(crops), "rows": self._sound.rows(sound, inside)}
        y = {"first_match": first_match, "lip_weight": lip_weight, "audio_valid": audio_valid.astype(np.float32)}
        return x, y | {"lip_points": lip_targets(points)}


def _at_ticks(
    clip: Clip, at: npt.NDArray[np.floating[Any]]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_], Floats]:
    """Crops, their valid flags, and lip landmarks at fractional ticks of a clip, blended as on the grid."""
    points = clip.lip_points
    low = np.minimum(np.floor(at).astype(np.int64), len(clip.valid) - 1)
    high = np.minimum(low + 1, len(clip.valid) - 1)
    weight = (at - low).astype(np.float32)
    if not weight.any():
        return clip.crops[low], clip.valid[low], points[low]
    part = weight[:, None, None]
    crops = np.rint(clip.crops[low] * (1 - part) + clip.crops[high] * part).astype(np.uint8)
    return crops, clip.valid[low] & clip.valid[high], points[low] * (1 - part) + points[high] * part


def lip_targets(points: Floats) -> Floats:
    """The shape targets of the lip tower: landmarks [..., ticks, 40, 2] in units of 8 pixels from the crop's middle.

    For each tick but the first and the last: position, and twice the movement from the tick before to the one after:
    160.
    """
    place = (points - np.float32((FRONT_END.crop_px - 1) / 2)) / np.float32(8)
    motion = 2 * (place[..., 2:, :, :] - place[..., :-2, :, :])
    both = np.stack([place[..., 1:-1, :, :], motion], axis=-3)
    return np.asarray(both.reshape(*both.shape[:-3], -1), np.float32)
