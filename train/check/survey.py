"""A survey of a folder of clips: minutes, speakers, languages, faces and rates, and their offsets by a bundle."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from device.analysis.measure import measure
from device.bundles.bundle import Bundle
from device.errors import AvdriftError
from device.features.model_download import require_face_model
from train.check.file_headers import Head
from train.data.clip_table import SPLITS

_MEASURED_CLIPS = 6
_MEASURED_S = 20.0  # longer clips are not measured, to finish within seconds
_SMALL_FACE_PX = 12.0  # crops of smaller faces are mostly interpolated pixels


@dataclass(frozen=True, slots=True)
class Side:
    """One split."""

    clips: int
    speakers: int
    minutes: float


@dataclass(frozen=True, slots=True)
class Survey:
    """The survey of usable clips."""

    sides: dict[str, Side]
    speakers: dict[str, tuple[str, ...]]  # by split
    languages: dict[str, int]
    sizes: dict[str, int]
    frame_rates: dict[str, int]
    face_px: tuple[float, float, float] | None  # 5 %, median, 95 %
    faceless: tuple[str, ...]
    small_faces: int
    offsets_ms: dict[str, float | None]
    decode_s_per_s: float | None  # measuring time per second of a clip

    def minutes(self, split: str) -> float:
        return self.sides[split].minutes


def survey(folder: Path, heads: Sequence[Head], examined: int, bundle: Bundle) -> Survey:
    """Survey a folder; a few clips of different speakers are measured with the bundle."""
    sides, speakers = {}, {}
    for split in SPLITS:
        own = [head for head in heads if head.row.split == split]
        speakers[split] = tuple(sorted({head.row.speaker for head in own}))
        sides[split] = Side(len(own), len(speakers[split]), sum(head.duration_s for head in own) / 60)
    faces = [head.face_px for head in heads if head.face_px is not None]
    seen = heads[:: max(-(-len(heads) // max(examined, 1)), 1)]
    offsets_ms, cost = _offsets(folder, heads, bundle)
    return Survey(
        sides, speakers, dict(Counter(head.row.language for head in heads if head.row.language)),
        dict(Counter(f"{head.width}x{head.height}" for head in heads).most_common(6)),
        dict(Counter(f"{head.fps:.2f}".rstrip("0").rstrip(".") for head in heads).most_common(6)),
        tuple(np.percentile(faces, (5, 50, 95))) if faces else None,
        tuple(head.row.file for head in seen if head.face_px is None) if faces or examined else (),
        sum(px < _SMALL_FACE_PX for px in faces), offsets_ms, cost,
    )  # fmt: skip


def _offsets(folder: Path, heads: Sequence[Head], bundle: Bundle) -> tuple[dict[str, float | None], float | None]:
    """By file, and the seconds per second of a clip."""
    by_speaker: dict[str, Head] = {}
    for head in heads:
        if 3 <= head.duration_s <= _MEASURED_S:
            by_speaker.setdefault(head.row.speaker, head)
    found: dict[str, float | None] = {}
    began_s, clips_s = time.monotonic(), 0.0
    for head in list(by_speaker.values())[:_MEASURED_CLIPS]:
        try:
            found[head.row.file] = measure(folder / head.row.file, bundle, require_face_model())["offset_ms"]
        except AvdriftError:  # prepare reports why
            found[head.row.file] = None
        clips_s += head.duration_s
    return found, (time.monotonic() - began_s) / clips_s if clips_s else None


def lines(found: Survey) -> list[str]:
    """For people."""
    rows = [
        f"{split}: {side.clips} clips, {side.minutes:.1f} minutes, {side.speakers} speakers"
        for split, side in found.sides.items()
    ]
    tables = {"languages": found.languages, "pictures": found.sizes, "frames per second": found.frame_rates}
    for name, counts in tables.items():
        if counts:
            rows.append(f"{name}: " + ", ".join(f"{key} ({count})" for key, count in counts.items()))
    if found.face_px:
        low, middle, high = found.face_px
        small = f"; {found.small_faces} below {_SMALL_FACE_PX:g}, which is little" if found.small_faces else ""
        rows.append(f"eyes to mouth, in pixels of 480 lines: {low:.0f} to {high:.0f}, median {middle:.0f}{small}")
    if found.faceless:
        shown = ", ".join(found.faceless[:5]) + (" …" if len(found.faceless) > 5 else "")
        rows.append(f"no face in the beginning of {len(found.faceless)} clips: {shown}")
    if found.offsets_ms:
        offsets = [f"{file} {'unknown' if ms is None else f'{ms:+.0f} ms'}" for file, ms in found.offsets_ms.items()]
        rows.append("offsets by the built-in models: " + ", ".join(offsets))
    return rows
