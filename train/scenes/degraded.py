"""`avdrift-train degraded CLIPS`: real clips with degraded video or audio, through the device's own chain.

Each clip's video or audio is degraded in one way and its audio shifted by slicing. Each second's report is compared
with the shift plus the clip's own offset, as `measure` finds it on the original clip. What counts is not coverage, but
that reported offsets are right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from device.analysis.measure import measure
from device.features.contract import AUDIO_RATE_HZ
from device.features.model_download import require_face_model
from device.processes import worker_pool
from device.records import NS_PER_MS, Frame, RgbImage
from train.data.clip_table import read_rows
from train.data.rooms import convolve
from train.scenes.compose import SIDE_PX, Samples, loaded, read_clip, reports, square, tally, with_sound, word_of

Random = np.random.Generator
Pictures = Callable[[RgbImage, Random], RgbImage]
Sound = Callable[[Samples, Random], Samples]


def _small(picture: RgbImage, _random: Random, *, side_px: int) -> RgbImage:
    return np.asarray(cv2.resize(picture, (side_px, side_px), interpolation=cv2.INTER_AREA), np.uint8)


def _blurred(picture: RgbImage, _random: Random, *, sigma_px: float) -> RgbImage:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma_px), np.uint8)


def _dark(picture: RgbImage, random: Random, *, gain: float, noise: float) -> RgbImage:
    return np.clip(gain * picture + random.normal(0, noise, picture.shape), 0, 255).astype(np.uint8)


def _compressed(picture: RgbImage, _random: Random, *, quality: int) -> RgbImage:
    _, coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)


def _turned(picture: RgbImage, _random: Random, *, yaw_deg: float) -> RgbImage:
    """Like a flat image turned about its vertical axis: narrower, its far side smaller."""
    yaw, far = np.radians(yaw_deg), 2.5 * SIDE_PX
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * SIDE_PX / 2
    depth = far + corners[:, 0] * np.sin(yaw)
    seen = np.stack([corners[:, 0] * np.cos(yaw), corners[:, 1]], 1) * (far / depth)[:, None]
    before, after = (np.asarray(points + SIDE_PX / 2, np.float32) for points in (corners, seen))
    matrix = cv2.getPerspectiveTransform(before, after)
    return np.asarray(cv2.warpPerspective(picture, matrix, (SIDE_PX, SIDE_PX), borderMode=cv2.BORDER_REFLECT), np.uint8)


def _hidden(picture: RgbImage, _random: Random, *, share: float) -> RgbImage:
    """A bar in front of the lower part, like a microphone or a hand."""
    corruption = picture.copy()
    corruption[round((1 - share) * SIDE_PX) :] = 40
    return corruption


def _noisy(samples: Samples, random: Random, *, snr_db: float) -> Samples:
    noise = random.standard_normal(len(samples)).astype(np.float32)
    return samples + noise * np.float32(samples.std() * 10 ** (-snr_db / 20))


def _reverberant(samples: Samples, random: Random, *, rt60_s: float) -> Samples:
    t = np.arange(round(rt60_s * AUDIO_RATE_HZ)) / AUDIO_RATE_HZ
    tail = 0.06 * random.standard_normal(len(t)) * np.exp(-6.9 * t / rt60_s)
    tail[0] = 1.0
    heard = convolve(samples, tail.astype(np.float32))
    return (heard / max(np.abs(heard).max(), 1)).astype(np.float32)


def _clipped(samples: Samples, _random: Random, *, gain: float) -> Samples:
    return np.clip(samples * np.float32(gain / max(float(np.abs(samples).max()), 1e-6)), -1, 1)


def _telephone(samples: Samples, _random: Random) -> Samples:
    tones = np.fft.rfft(samples)
    hz = np.fft.rfftfreq(len(samples), 1 / AUDIO_RATE_HZ)
    return np.fft.irfft(tones * ((hz > 300) & (hz < 3400)), len(samples)).astype(np.float32)


PICTURES: dict[str, Pictures] = {
    **{f"picture of {side} px": partial(_small, side_px=side) for side in (180, 120, 90, 60, 45)},
    **{f"blur of {sigma:g} px": partial(_blurred, sigma_px=sigma) for sigma in (2, 4, 6, 9)},
    "dark": partial(_dark, gain=0.15, noise=3),
    "very dark": partial(_dark, gain=0.05, noise=3),
    "noise": partial(_dark, gain=1, noise=25),
    "JPEG 10": partial(_compressed, quality=10),
    "JPEG 3": partial(_compressed, quality=3),
    **{f"turned by {yaw} degrees": partial(_turned, yaw_deg=yaw) for yaw in (30, 50, 65)},
    "lower third hidden": partial(_hidden, share=1 / 3),
    "lower half hidden": partial(_hidden, share=1 / 2),
}
SOUNDS: dict[str, Sound] = {
    **{f"noise at {snr} dB": partial(_noisy, snr_db=snr) for snr in (10, 0, -5)},
    "reverberation of 1 s": partial(_reverberant, rt60_s=1.0),
    "reverberation of 3 s": partial(_reverberant, rt60_s=3.0),
    "clipped": partial(_clipped, gain=20),
    "telephone": _telephone,
}
RATES = {"every second picture": 2, "every third picture": 3, "every fifth picture": 5}
CORRUPTIONS = ("as it is", *PICTURES, *RATES, *SOUNDS)


def corruption(way: str, frames: Sequence[Frame], samples: Samples, random: Random) -> tuple[list[Frame], Samples]:
    """Square frames and samples, one of them degraded by a key of PICTURES, SOUNDS or RATES, or neither."""
    frames = list(frames[:: RATES.get(way, 1)])
    if way in PICTURES:
        frames = [replace(frame, picture=PICTURES[way](frame.rgb, random)) for frame in frames]
    return frames, SOUNDS[way](samples, random) if way in SOUNDS else samples


def judge_clip(
    clip: Path, bundle_folder: Path, window_s: float, seed: int, ways: Sequence[str] = CORRUPTIONS
) -> dict[str, dict[str, Any]]:
    """For each degradation: the number of reports, of `measuring` and right ones, and of each reason why not.

    Empty for an unsure clip.
    """
    cv2.setNumThreads(1)
    bundle, random = loaded(bundle_folder), np.random.default_rng(seed)
    own_ms = measure(clip, bundle, require_face_model())["offset_ms"]
    if own_ms is None:
        return {}
    frames, samples, audio_ns = read_clip(clip)
    frames = [replace(frame, picture=square(frame.rgb)) for frame in frames]
    shift_ms = round(float(random.uniform(-400, 400)))
    found = {}
    for way in ways:
        shown, heard = corruption(way, frames, samples, random)
        results = reports(with_sound(shown, heard, audio_ns - shift_ms * NS_PER_MS), bundle, window_s)
        reasons = Counter(word_of(result) for result in results if result.offset_ms is None)
        found[way] = tally(results, own_ms + shift_ms) | {"reasons": reasons}
    return found


def degraded(
    clips: Path, bundle: Path, *, split: str, window_s: float, seed: int = 0, jobs: int = 0, most: int | None = None
) -> dict[str, Any]:
    """The sums over all clips of a split, or `most` random ones. Raises AvdriftError for a folder without clips."""
    files = [clips / row.file for row in read_rows(clips) if row.split == split]
    if most is not None:
        files = [files[int(k)] for k in np.random.default_rng(seed).permutation(len(files))[:most]]
    with worker_pool(jobs) as pool:
        waiting = [pool.submit(judge_clip, file, bundle, window_s, seed + k) for k, file in enumerate(files)]
        found = [part for task in tqdm(waiting, desc="clips", disable=None) if (part := task.result())]
    sums = {
        way: {key: sum(part[way][key] for part in found) for key in ("reports", "measuring", "right")}
        | {"reasons": dict(sum((part[way]["reasons"] for part in found), Counter()).most_common())}
        for way in CORRUPTIONS
    }
    return {"clips": len(found), "unsure": len(files) - len(found), "ways": sums}
