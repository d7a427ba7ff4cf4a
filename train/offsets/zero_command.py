"""The command `avdrift-train zero`: the zero of towers over shards, or of a table of offsets, and where it goes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from device.bundles.calibration import Calibration
from device.errors import InputFormatError, InputMissingError
from train.data.shards import Clip, load_clip
from train.evaluation.tracks import own_offset, track
from train.models.encoders import Towers
from train.models.load import read_calibration
from train.offsets.physical_zero import Zero, find_zero, moved, residuals
from train.offsets.table import read_offsets
from train.progress import with_progress

_MIN_CONFIDENCE = 0.5  # in a clip's own offset: below it the offset may be anything


def zero_of_towers(
    folders: Sequence[Path], towers: Towers, calibration: Calibration, calibration_file: Path | None, seed: int
) -> Zero:
    """The towers' answer for audio and video in sync; written into a calibration file, if one is given.

    Raises InputMissingError, InputFormatError.
    """
    if calibration_file:
        # fail now, with a message, not after an hour of work
        read_calibration(calibration_file, calibration.logit_scale)
    unmoved = replace(calibration, zero_offset_ms=0.0)
    clips, offsets_ms = [], {}
    for clip in _clips(folders):
        offset_ms, confidence = own_offset(track(clip, towers), unmoved)
        clips.append(_light(clip))
        if confidence >= _MIN_CONFIDENCE:
            offsets_ms[clip.name] = offset_ms
    zero = find_zero(residuals(clips, offsets_ms), np.random.default_rng(seed))
    if calibration_file:
        table = json.loads(calibration_file.read_text(encoding="utf-8"))
        known = {"zero_offset_ms": zero.zero_offset_ms, "zero_uncertainty_ms": zero.zero_uncertainty_ms}
        _write(calibration_file, table | known, indent=1)
    return zero


def zero_of_table(folders: Sequence[Path], offsets: Path, out: Path | None, seed: int) -> Zero:
    """The zero of a table of offsets; `out` gets the table relative to the physical one.

    Raises InputMissingError, InputFormatError.
    """
    offsets_ms = read_offsets(offsets)
    clips = [_light(clip) for clip in _clips(folders)]
    zero = find_zero(residuals(clips, offsets_ms), np.random.default_rng(seed))
    if out:
        table: dict[str, Any] = json.loads(offsets.read_text(encoding="utf-8"))
        _write(out, moved(table, {clip.name: clip.corpus for clip in clips}, zero), indent=0)
    return zero


def _clips(folders: Sequence[Path]) -> Iterator[Clip]:
    """One at a time, and without clips that have no lip landmarks."""
    shards = [shard for folder in folders for shard in sorted(folder.glob("*.npz"))]
    where = ", ".join(map(str, folders))
    if not shards:
        raise InputMissingError("no shards", where=where, remedy="Run avdrift-train prepare CLIPS OUT first")
    seen = 0
    for shard in with_progress(shards, "zero", len(shards), "clip"):
        clip = load_clip(shard)
        if np.isfinite(clip.lip_points).any():
            seen += 1
            yield clip
    if not seen:
        raise InputFormatError("no clip has lip landmarks", where=where, remedy="Delete the shards and prepare again")


def _light(clip: Clip) -> Clip:
    """The clip without its images, so that a large corpus fits into memory."""
    return replace(clip, crops=clip.crops[:0].copy())


def _write(path: Path, content: Any, indent: int) -> None:
    partial = path.with_suffix(f".{os.getpid()}.part")
    partial.write_text(json.dumps(content, indent=indent, allow_nan=False), encoding="utf-8")
    partial.replace(path)
