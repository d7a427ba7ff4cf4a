"""Shards in memory: prepared clips, and the device's own front end applied to a whole one."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from device.errors import InputFormatError, InputMissingError
from device.features.contract import (
    AUDIO_RATE_HZ,
    AUDIO_TICK_NS,
    FRONT_END,
)
from device.features.logmel import LevelTracker, log_mel
from device.features.mouth_grid import normalize
from device.records import NS_PER_S
from train.data.augment import MARGIN_PX

SHARD_FORMAT = 3

Floats = npt.NDArray[np.float32]

LIP_REACH = FRONT_END.lip_window_ticks // 2
AUDIO_REACH = FRONT_END.audio_window_ticks // 2
HOP_SAMPLES = AUDIO_RATE_HZ * AUDIO_TICK_NS // NS_PER_S
# numpy's errors for files that are truncated, overwritten or something else.
UNREADABLE = (OSError, ValueError, KeyError, EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, slots=True)
class Clip:
    """One prepared clip in memory. `shift_ms` is the clip's own measured offset: its audio is early by this much."""

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

        At another speed each row is `speed` ticks of the clip after the previous one.
        """
        half = FRONT_END.stft_window_samples // 2
        start = (first_tick * AUDIO_TICK_NS - self.samples_t_ns) * AUDIO_RATE_HZ / NS_PER_S - half * speed
        count = (ticks - 1) * HOP_SAMPLES + 2 * half
        begins = start + np.arange(ticks) * (HOP_SAMPLES * speed)
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
        """Whether there is speech at each audio tick."""
        index = ticks - self.speech_first_tick
        inside = np.clip(index, 0, max(len(self.speech) - 1, 0))
        return np.asarray(self.speech[inside] & (index == inside)) if len(self.speech) else np.zeros(len(ticks), bool)


def load_clip(shard: Path) -> Clip:
    """One shard. Raises InputFormatError if it is damaged or from another front end."""
    try:
        with np.load(shard) as arrays:
            meta = json.loads(str(arrays["meta"]))
            fields: dict[str, Any] = {key: arrays[key] for key in ("crops", "valid", "samples", "speech", "lip_points")}
            fields |= {key: int(arrays[key]) for key in ("first_lip_tick", "samples_t_ns", "speech_first_tick")}
            fields |= {key: str(meta[key]) for key in ("speaker", "split", "corpus")}
            front_end_of_shard = meta["front_end"]
    except UNREADABLE as error:
        remedy = "Delete it and prepare again"
        raise InputFormatError(f"not a shard ({error})", where=str(shard), remedy=remedy) from error
    if _content(front_end_of_shard) != _content(FRONT_END.to_dict()):
        raise InputFormatError("made by another front end", where=str(shard), remedy="Delete it and prepare again")
    return Clip(name=shard.stem, **fields)


def _content(front_end: dict[str, Any]) -> dict[str, Any]:
    """The part of a front end that determines a shard's contents: not how much of it an encoder sees at once."""
    return {key: value for key, value in front_end.items() if key not in ("lip_window_ticks", "audio_window_ticks")}


def load_clips(folders: list[Path], offsets: Path | None = None) -> list[Clip]:
    """All clips of some folders of shards; with `offsets` (from `clean`), shifted, and without dropped ones."""
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


def require_clips_of_each(folders: Sequence[Path], offsets: Path | None) -> None:
    """Raises CaptureError naming the command to blame if a folder contains nothing to train on.

    Otherwise training would go on with the other folders alone, such as synthetic faces.
    """
    table = json.loads(offsets.read_text(encoding="utf-8")) if offsets else {}
    for folder in folders:
        names = {shard.stem for shard in folder.glob("*.npz")}
        if not names:
            remedy = "Check what prepare reported for each clip (in a retraining: log.txt there), and correct them"
            raise InputMissingError("no shards: prepare could use none of its clips", where=str(folder), remedy=remedy)
        measured = names & set(table)
        dropped = {name for name in measured if table[name].get("dropped")}
        if measured and measured == dropped:
            what = f"no clip is left to train on: clean dropped {len(dropped)} of {len(measured)} clips of {folder}"
            remedy = "Give clean more batches, or let the built-in models measure (clean --bundle, or the recipe adapt)"
            raise InputFormatError(what, where=str(offsets), remedy=remedy)


def front_end(clip: Clip) -> tuple[Floats, int, npt.NDArray[np.bool_], Floats, int]:
    """The device's front end on a whole clip: normalized crops, their first tick and flags; rows, first tick."""
    crops = normalize(clip.crops[:, MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX])
    half_ns = FRONT_END.stft_window_samples * NS_PER_S // (2 * AUDIO_RATE_HZ)
    first = -(-(clip.samples_t_ns + half_ns) // AUDIO_TICK_NS)
    last = (clip.samples_t_ns + len(clip.samples) * NS_PER_S // AUDIO_RATE_HZ - half_ns) // AUDIO_TICK_NS
    samples, _ = clip.audio(first, max(last - first + 1, 1))
    windows = np.lib.stride_tricks.sliding_window_view(samples, FRONT_END.stft_window_samples)[::HOP_SAMPLES]
    return crops, clip.first_lip_tick, clip.valid, LevelTracker()(log_mel(windows)), first


def load_split(folders: Sequence[Path], split: str) -> list[Clip]:
    """The clips of one split. Raises InputMissingError if there are no shards or none of that split."""
    shards = [shard for folder in folders for shard in sorted(folder.glob("*.npz"))]
    where = ", ".join(map(str, folders))
    if not shards:
        raise InputMissingError("no shards", where=where, remedy="Run avdrift-train prepare CLIPS OUT first")
    # One at a time, so that excluded clips do not stay in memory.
    loaded = (load_clip(shard) for shard in tqdm(shards, desc="load", unit="clip", disable=None))
    clips = [clip for clip in loaded if clip.split == split]
    if not clips:
        raise InputMissingError(f"no clip of the split {split!r}", where=where, remedy="Give --split another name")
    return clips
