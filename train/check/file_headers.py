"""Quick checks of a recording, in a fraction of a second: its tracks, its length, and the size of the face."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from device.capture.container import AS_PLAYED, choose_tracks, declared_length_s, open_recording
from device.capture.file import FileSource
from device.errors import AvdriftError
from device.features.face import FaceDetector
from device.features.model_download import require_face_model
from device.records import Frame
from train.check.paths import remedy_for
from train.data.clip_table import ClipRow, Fault

MIN_CLIP_S = 1.1  # the length of the shortest training stretch
_MAX_FACES = 200  # clips in which a face is looked for
_FACE_ITEMS = 40  # frames and chunks, from the beginning
_DURATION_S, _DURATION_SHARE = 0.5, 0.05  # tolerance of a table


@dataclass(frozen=True, slots=True)
class Head:
    """One clip's quick checks. `face_px`: from the eyes to the mouth, in an image of at most 480 lines."""

    row: ClipRow
    duration_s: float
    width: int
    height: int
    fps: float
    face_px: float | None = None


@dataclass(frozen=True, slots=True)
class Heads:
    """`faults` must be corrected in the table; `unusable` clips are left out, and the rest goes on without them."""

    clips: tuple[Head, ...]
    faults: tuple[Fault, ...]
    unusable: tuple[Fault, ...]
    examined: int  # clips in which a face was searched for


def read_heads(folder: Path, rows: Sequence[ClipRow], present: Collection[str]) -> Heads:
    """Check all clips, and the faces of at most 200, evenly chosen. Raises ModelError without the detector.

    present: the folder's recordings, to say what a wrong path may mean.
    """
    model = require_face_model()
    step = max(-(-len(rows) // _MAX_FACES), 1)

    def read_head(numbered: tuple[int, ClipRow]) -> Head | Fault:
        number, row = numbered
        return _head(folder, row, FaceDetector(model) if number % step == 0 else None)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(read_head, enumerate(rows)))
    clips = tuple(head for head in found if isinstance(head, Head))
    wrong = [fault for fault in found if isinstance(fault, Fault)]
    faults = [
        replace(fault, remedy=remedy_for(folder, fault.row.file, present))
        for fault in wrong if _is_of_table(folder, fault)
    ]  # fmt: skip
    faults += [fault for head in clips for fault in _duration_faults(head)]
    unusable = [fault for fault in wrong if not _is_of_table(folder, fault)]
    return Heads(clips, tuple(faults), tuple(unusable), len(range(0, len(rows), step)))


def _is_of_table(folder: Path, fault: Fault) -> bool:
    """Whether the row is to blame rather than the file."""
    return not (folder / fault.row.file).is_file()


def _head(folder: Path, row: ClipRow, detector: FaceDetector | None) -> Head | Fault:
    path = folder / row.file
    try:
        with open_recording(path) as container:
            video, _ = choose_tracks(container, path, AS_PLAYED)
            length_s = container.duration / 1e6 if container.duration else declared_length_s(video) or 0.0
            rate = video.average_rate or video.guessed_rate
            head = Head(row, length_s, video.width, video.height, float(rate or 0))
        if length_s and length_s < MIN_CLIP_S:
            return Fault(row, f"lasts less than {MIN_CLIP_S:g} s", "Leave it out, or give a longer one")
        return head if detector is None else _with_face(head, path, detector)
    except AvdriftError as error:
        return Fault(row, error.what, error.remedy.removesuffix("."))


def _with_face(head: Head, path: Path, detector: FaceDetector) -> Head | Fault:
    with FileSource(path) as source:
        for item in islice(source, _FACE_ITEMS):
            if isinstance(item, Frame) and (faces := detector.detect(item.rgb)):
                eyes = [(a + b) / 2 for a, b in zip(faces[0].left_eye, faces[0].right_eye, strict=True)]
                down = [m - e for m, e in zip(faces[0].mouth, eyes, strict=True)]
                return replace(head, face_px=math.hypot(*down))
    return head


def _duration_faults(head: Head) -> list[Fault]:
    told_s, seen_s = head.row.duration_s, head.duration_s
    if told_s is None or not seen_s or abs(told_s - seen_s) <= max(_DURATION_S, _DURATION_SHARE * seen_s):
        return []
    what = f"duration_s is {told_s:g}, and the file lasts {seen_s:.1f} s"
    return [Fault(head.row, what, "Copy the file again, or correct the table")]
