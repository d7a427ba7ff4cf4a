"""Shards to training batches: random stretches of clips, augmented, through the device's own front end."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from device.errors import InputFormatError, InputMissingError
from device.features.contract import (
    AUDIO_RATE_HZ,
    AUDIO_TICK_NS,
    AUDIO_TICKS_PER_LIP_TICK,
    FRONT_END,
    LIP_TICK_NS,
)
from device.features.logmel import LevelTracker, log_mel
from device.features.mouth_grid import normalize
from device.records import NS_PER_S
from train.data.augment import MARGIN_PX, PREROLL_TICKS, Augmentation, PictureAugmenter, SoundAugmenter
from train.data.landmarks import LIP_POINTS

Floats = npt.NDArray[np.float32]

LIP_REACH = FRONT_END.lip_window_ticks // 2
AUDIO_REACH = FRONT_END.audio_window_ticks // 2
_SILENCE_SHARE = 0.3
_HOP = AUDIO_RATE_HZ * AUDIO_TICK_NS // NS_PER_S
# What numpy raises for files that are cut, overwritten or something else.
_DAMAGED = (OSError, ValueError, KeyError, EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, slots=True)
class Clip:
    """One prepared clip in memory. `shift_ms` is the clip's own offset as measured: its audio is early by so much."""

    name: str
    speaker: str
    split: str
    corpus: str
    crops: npt.NDArray[np.uint8]
    valid: npt.NDArray[np.bool_]
    first_lip_tick: int
    samples: npt.NDArray[np.int16]
    samples_t_ns: int
    speech: npt.NDArray[np.bool_]
    speech_first_tick: int
    lip_points: Floats  # [ticks, 40, 2], NaN where unknown
    shift_ms: float = 0.0

    def audio(self, first_tick: float, ticks: int, speed: float = 1.0) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """Samples for `ticks` log-mel rows from `first_tick` on, zero beyond the clip; and which rows are inside.

        At another speed each row is `speed` ticks of the clip after the one before.
        """
        half = FRONT_END.stft_window_samples // 2
        start = (first_tick * AUDIO_TICK_NS - self.samples_t_ns) * AUDIO_RATE_HZ / NS_PER_S - half * speed
        count = (ticks - 1) * _HOP + 2 * half
        begins = start + np.arange(ticks) * (_HOP * speed)
        inside = (begins >= 0) & (begins + 2 * half * speed <= len(self.samples))
        if speed == 1.0:
            first = round(start)
            out = np.zeros(count, np.float32)
            low, high = max(first, 0), min(first + count, len(self.samples))
            if high > low:
                out[low - first : high - first] = self.samples[low:high]
        else:
            at = start + np.arange(count) * speed
            out = np.interp(at, np.arange(len(self.samples)), self.samples, left=0, right=0).astype(np.float32)
        return out / np.float32(32767), inside

    def is_speech(self, ticks: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Whether somebody speaks at each audio tick."""
        index = ticks - self.speech_first_tick
        inside = np.clip(index, 0, max(len(self.speech) - 1, 0))
        return np.asarray(self.speech[inside] & (index == inside)) if len(self.speech) else np.zeros(len(ticks), bool)


def load_clip(shard: Path) -> Clip:
    """One shard. Raises InputFormatError when it is damaged or from another front end."""
    try:
        with np.load(shard) as arrays:
            meta = json.loads(str(arrays["meta"]))
            fields: dict[str, Any] = {
                key: arrays[key] for key in ("crops", "valid", "samples", "speech", "lip_points")
            }
            fields |= {key: int(arrays[key]) for key in ("first_lip_tick", "samples_t_ns", "speech_first_tick")}
            fields |= {key: str(meta[key]) for key in ("speaker", "split", "corpus")}
            front_end_of_shard = meta["front_end"]
    except _DAMAGED as error:
        remedy = "Delete it and prepare again"
        raise InputFormatError(f"not a shard ({error})", where=str(shard), remedy=remedy) from error
    if _content(front_end_of_shard) != _content(FRONT_END.to_dict()):
        raise InputFormatError("made by another front end", where=str(shard), remedy="Delete it and prepare again")
    return Clip(name=shard.stem, **fields)


def _content(front_end: dict[str, Any]) -> dict[str, Any]:
    """What of a front end decides what a shard holds: not how much of it a tower sees at once."""
    return {key: value for key, value in front_end.items() if key not in ("lip_window_ticks", "audio_window_ticks")}


def load_clips(folders: list[Path], offsets: Path | None = None) -> list[Clip]:
    """All clips of some folders of shards; with `offsets` (from `clean`), shifted, and without those that it drops."""
    shards = [shard for folder in folders for shard in sorted(folder.glob("*.npz"))]
    if not shards:
        raise InputMissingError(
            "no shards", where=", ".join(map(str, folders)), remedy="Run avdrift-train prepare CLIPS OUT first"
        )
    clips = [load_clip(shard) for shard in shards]
    if offsets is None:
        return clips
    table = json.loads(offsets.read_text(encoding="utf-8"))
    return [
        replace(clip, shift_ms=table.get(clip.name, {}).get("offset_ms", 0.0))
        for clip in clips
        if not table.get(clip.name, {}).get("dropped", False)
    ]


class Batches:
    """Endless training batches `(x, y)` for `TowerPair` from clips of at least the given number of lip ticks."""

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
        # Long clips offer more than short ones, but not in proportion: a speaker is a speaker.
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
            (len(clips), (PREROLL_TICKS + rows_needed - 1) * _HOP + FRONT_END.stft_window_samples), np.float32
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
            # Whole ticks are the recorded pictures; between them there are only blends.
            start = start if speed != 1.0 else round(start)
            at = start + np.arange(ticks) * speed
            pictures, seen, lips = _at_ticks(clip, at)
            crops[n], points[n] = self._pictures.warp(pictures, lips)
            own = clip.shift_ms / FRONT_END.audio_tick_ms
            middle = (clip.first_lip_tick + start + LIP_REACH * speed) * AUDIO_TICKS_PER_LIP_TICK - own
            if speed == 1.0:  # on the grid, and what is left of the offset goes into the target
                first_match[n] = middle - round(middle)
                middle = round(middle)
            first_audio = middle - AUDIO_REACH * speed
            sound[n], inside[n] = clip.audio(
                first_audio - PREROLL_TICKS * speed, PREROLL_TICKS + rows_needed, speed
            )
            sound[n] = self._sound.samples(sound[n])
            whole = np.lib.stride_tricks.sliding_window_view(seen, 2 * LIP_REACH + 1).all(1)
            spoken = clip.is_speech(
                np.rint(middle + AUDIO_TICKS_PER_LIP_TICK * speed * np.arange(windows)).astype(np.int64)
            )
            # Closed lips belong to any silence, which is worth knowing, but not as often as it occurs.
            lip_weight[n] = whole & (spoken | (random.random(windows) < _SILENCE_SHARE))
        audio_valid = np.lib.stride_tricks.sliding_window_view(inside[:, PREROLL_TICKS:], 2 * AUDIO_REACH + 1, 1).all(2)
        x = {"crops": self._pictures.normalized(crops), "rows": self._sound.rows(sound, inside)}
        y = {"first_match": first_match, "lip_weight": lip_weight, "audio_valid": audio_valid.astype(np.float32)}
        return x, y | {"lip_points": lip_targets(points)}


def _at_ticks(
    clip: Clip, at: npt.NDArray[np.floating[Any]]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_], Floats]:
    """Crops, whether they are valid, and lip landmarks at fractional ticks of a clip, blended as the grid does."""
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
    """What the lip tower learns of shapes: landmarks [..., ticks, 40, 2] in units of 8 pixels around the crop's middle.

    For each tick but the first and the last: place, and twice the way from the tick before to the one after: 160.
    """
    place = (points - np.float32((FRONT_END.crop_px - 1) / 2)) / np.float32(8)
    motion = 2 * (place[..., 2:, :, :] - place[..., :-2, :, :])
    both = np.stack([place[..., 1:-1, :, :], motion], axis=-3)
    return np.asarray(both.reshape(*both.shape[:-3], -1), np.float32)


def front_end(clip: Clip) -> tuple[Floats, int, npt.NDArray[np.bool_], Floats, int]:
    """What the device would compute of a whole clip: normalised crops, their first tick and flags; rows, first tick."""
    crops = normalize(clip.crops[:, MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX])
    half_ns = FRONT_END.stft_window_samples * NS_PER_S // (2 * AUDIO_RATE_HZ)
    first = -(-(clip.samples_t_ns + half_ns) // AUDIO_TICK_NS)
    last = (clip.samples_t_ns + len(clip.samples) * NS_PER_S // AUDIO_RATE_HZ - half_ns) // AUDIO_TICK_NS
    samples, _ = clip.audio(first, max(last - first + 1, 1))
    windows = np.lib.stride_tricks.sliding_window_view(samples, FRONT_END.stft_window_samples)[::_HOP]
    return crops, clip.first_lip_tick, clip.valid, LevelTracker()(log_mel(windows)), first


__all__ = ["LIP_TICK_NS", "Augmentation", "Batches", "Clip", "front_end", "load_clip", "load_clips"]
