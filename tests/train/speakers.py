"""Synthetic people who say nothing but "ba": lips that part and bursts that sound at given times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from device.features.contract import AUDIO_RATE_HZ, FRONT_END
from tests.train.made import make_clip
from train.data.landmarks import LIP_POINTS
from train.data.shards import Clip

CLOSURE_MS = 90.0
VOWEL_MS = 200.0
Floats = npt.NDArray[np.float64]


def lips_at(gap: Floats, width_px: float = 26.0) -> npt.NDArray[np.float32]:
    """Landmarks [ticks, 40, 2] of level lips whose inner gap is `gap` [ticks] in pixels."""
    angle = np.pi * np.arange(20) / 10
    ring = np.stack([-np.cos(angle), np.where(np.arange(20) <= 10, -1.0, 1.0) * (np.arange(20) % 10 > 0)], axis=1)
    points = np.empty((len(gap), LIP_POINTS, 2), np.float32)
    points[:, :20] = 32 + ring * [width_px / 2, 6]
    points[:, 20:, 0] = 32 + ring[:, 0] * width_px / 2 * 0.9
    points[:, 20:, 1] = 32 + ring[:, 1] * gap[:, None] / 2
    return points


def parting_lips(times_ms: Sequence[float], ticks: int, first_tick: int = 0, opening_ms: float = 70.0) -> Floats:
    """The gap in pixels at each tick: shut before each time, open at even speed from it on, then shut again."""
    t_ms = (first_tick + np.arange(ticks)) * float(FRONT_END.lip_tick_ms)
    gap = np.zeros(ticks)
    for time_ms in times_ms:
        opening = np.clip((t_ms - time_ms) / opening_ms, 0, 1)
        closing = np.clip((time_ms + VOWEL_MS + 100 - t_ms) / 100, 0, 1)
        gap = np.maximum(gap, 6 * np.minimum(opening, closing))
    return gap + 0.6


def bursts(
    times_ms: Sequence[float], duration_s: float, *, seed: int = 0, voiced: bool = True, voice_after_ms: float = 5.0
) -> npt.NDArray[np.float32]:
    """Samples from time 0 on: at each time a burst of 8 ms and, `voice_after_ms` later, a vowel; a murmur before it."""
    random = np.random.default_rng(seed)
    t_ms = np.arange(round(duration_s * AUDIO_RATE_HZ)) * 1000 / AUDIO_RATE_HZ
    buzz = np.sum([np.sin(2 * np.pi * 120 * k * t_ms / 1000) / k**0.7 for k in range(1, 45)], axis=0)
    murmur = np.sin(2 * np.pi * 120 * t_ms / 1000)
    sound = 1e-4 * random.standard_normal(len(t_ms))
    for time_ms in times_ms:
        since = t_ms - time_ms
        sound += 0.03 * random.standard_normal(len(t_ms)) * ((since >= 0) & (since < 8))
        sound += 0.1 * buzz * ((since >= voice_after_ms) & (since < VOWEL_MS))
        if voiced:
            # Voicing goes on through the closure: it fades in, as a step would be a burst itself.
            sound += 0.05 * murmur * np.clip((since + CLOSURE_MS) / 30, 0, 1) * (since < 0)
    return sound.astype(np.float32)


def sayer(
    name: str, *, early_ms: float, releases: int = 12, corpus: str = "made", speaker: str | None = None, seed: int = 0,
    split: str = "train",
) -> Clip:  # fmt: skip
    """A clip of somebody who says "ba" at uneven times, whose sound is early by `early_ms`."""
    random = np.random.default_rng(seed)
    sounds_ms = 1000 + np.cumsum(random.uniform(520, 900, releases))
    seconds = float(sounds_ms[-1] + 1500) / 1000
    ticks = round(seconds * 1000 / FRONT_END.lip_tick_ms)
    clip = make_clip(name, seconds=seconds, speaker=speaker or name, corpus=corpus, split=split)
    samples = bursts(sounds_ms.tolist(), seconds, seed=seed)
    return replace(
        clip, lip_points=lips_at(parting_lips((sounds_ms + early_ms).tolist(), ticks)), crops=clip.crops[:ticks],
        valid=np.ones(ticks, np.bool_), samples=np.rint(samples * 32767).astype(np.int16),
    )  # fmt: skip
