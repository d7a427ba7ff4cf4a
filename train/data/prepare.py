"""`avdrift-train prepare CLIPS OUT`: decode every clip once and keep what training needs of it.

One shard per clip, named after its whole path and written atomically, so an interrupted run resumes where it stopped.
A shard records the hash of its recording and its row; only what has changed is made again. A broken clip is reported
and skipped. Crops have a margin of 8 pixels on each side at the contract's pixel pitch, for random shifts; audio is
kept as samples, so that noise can be added before the front end.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import TIMEOUT_MAX

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from device.capture.file import FileSource
from device.check.pool import Lost, each
from device.errors import AvdriftError, InputFormatError
from device.features.contract import FRONT_END, LIP_TICK_NS
from device.features.face import FaceDetector
from device.features.model_download import require_face_model
from device.features.mouth import MouthCrop
from device.features.mouth_grid import Crops, Flags, LipGrid
from device.features.tracker import MouthTracker
from device.features.vad import SpeechStream, widen
from device.records import NS_PER_S, Chunk, Frame, GrayImage, RgbImage
from train.data.augment import MARGIN_PX
from train.data.clip_table import ClipRow, read_rows, shard_name
from train.data.clips import join
from train.data.landmarks import LIP_POINTS, LipMarker, LipPoints, face_matrix, fetch_landmark_model
from train.data.shards import SHARD_FORMAT, UNREADABLE
from train.files import sha256
from train.progress import with_progress

FACE_PX = 64

_MIN_FACE_S = 0.4
_MAX_GAP_S = 10.0
_NO_POINTS = np.full((LIP_POINTS, 2), np.nan, np.float32)


class _FaceStudy:
    """Training data beyond the device's mouth crops, on the same grid: lip landmarks and the whole face."""

    def __init__(self, marker: LipMarker) -> None:
        self._marker = marker
        self._frames: dict[int, RgbImage] = {}
        self._times_ns: list[int] = []
        self._points: list[LipPoints] = []
        self._grid = LipGrid(FACE_PX)
        self.faces: list[tuple[int, Crops, Flags]] = []

    def keep(self, frame: Frame) -> None:
        """Keep a frame until its crop comes."""
        self._frames[frame.t_ns] = frame.rgb

    def push(self, crop: MouthCrop) -> None:
        """Process the crop of a kept frame."""
        rgb, face = self._frames.pop(crop.t_ns), None
        if crop.points is not None:
            face = _face(rgb, face_matrix(crop.points, FACE_PX))
            points = self._marker(rgb, crop.points)
            self._times_ns.append(crop.t_ns)
            self._points.append(_NO_POINTS if points is None else points)
        self.faces.append(self._grid.push(replace(crop, crop=face)))

    def lip_points(self, valid: Flags, first_lip_tick: int) -> npt.NDArray[np.float32]:
        """Landmarks at the grid's ticks, interpolated like the crops; NaN where there are none."""
        at_ns = (first_lip_tick + np.arange(len(valid))) * LIP_TICK_NS
        flat = np.stack(self._points).reshape(len(self._points), -1)
        lips = np.stack([np.interp(at_ns, self._times_ns, column) for column in flat.T], axis=1)
        lips[~valid] = np.nan
        return lips.reshape(-1, LIP_POINTS, 2).astype(np.float32)


def _face(rgb: RgbImage, matrix: npt.NDArray[np.float64]) -> GrayImage:
    shrink = max(int(0.6 / np.hypot(matrix[0, 0], matrix[0, 1])), 1)  # average before sampling, to avoid aliasing
    blurred = cv2.blur(rgb, (shrink, shrink)) if shrink > 1 else rgb
    return np.asarray(cv2.cvtColor(cv2.warpAffine(blurred, matrix, (FACE_PX, FACE_PX)), cv2.COLOR_RGB2GRAY), np.uint8)


def prepare_clip(path: Path, row: ClipRow, shard: Path) -> None:
    """Decode one clip and write its shard. Raises a CaptureError if it is unusable."""
    tracker = MouthTracker(FaceDetector(require_face_model()), margin_px=MARGIN_PX, max_faces=1)
    study = _FaceStudy(LipMarker(fetch_landmark_model()))
    grid, speech = LipGrid(FRONT_END.crop_px + 2 * MARGIN_PX), SpeechStream()
    lips, flags, chunks = [], [], []

    def take(crop: MouthCrop) -> None:
        study.push(crop)
        lips.append(grid.push(crop))

    with FileSource(path) as source:
        for item in _without_jumps(source, path):
            if isinstance(item, Frame):
                study.keep(item)
                for (crop,) in tracker.push(item):
                    take(crop)
            else:
                chunks.append(item)
                flags.append(speech.push(item))
    for (crop,) in tracker.finish():
        take(crop)
    first_lip_tick, crops, valid = placed(lips)
    if valid.sum() * FRONT_END.lip_tick_ms < _MIN_FACE_S * 1000:
        raise InputFormatError("no face for long enough", where=str(path), remedy="Leave it out, or check the video")
    samples, t_ns = join(chunks)
    speech_first = flags[0][0]
    speech_flags = np.zeros(max(first + len(f) for first, f in flags) - speech_first, np.bool_)
    for first, part in flags:
        speech_flags[first - speech_first : first - speech_first + len(part)] = part
    partial = shard.with_suffix(f".{os.getpid()}.part")
    with partial.open("wb") as out:
        np.savez(
            out,
            crops=crops,
            valid=valid,
            faces=placed(study.faces)[1],
            lip_points=study.lip_points(valid, first_lip_tick),
            first_lip_tick=first_lip_tick,
            samples=np.clip(np.rint(samples * 32767), -32768, 32767).astype(np.int16),
            samples_t_ns=t_ns,
            speech=widen(speech_flags),
            speech_first_tick=speech_first,
            meta=_meta(row, sha256(path)),
        )  # fmt: skip
    partial.replace(shard)


def _without_jumps(items: Iterable[Frame | Chunk], path: Path) -> Iterator[Frame | Chunk]:
    """Raises InputFormatError at a jump of the time stamps, since a shard holds blank pictures for all of a gap."""
    last_ns: dict[type, int] = {}
    for item in items:
        gap_s = (item.t_ns - last_ns.get(type(item), item.t_ns)) / NS_PER_S
        if gap_s > _MAX_GAP_S:
            what = f"its time stamps jump by {gap_s:.0f} s; at most {_MAX_GAP_S:g} s can be used"
            raise InputFormatError(what, where=str(path), remedy="Cut it into clips there, or leave it out")
        last_ns[type(item)] = item.t_ns
        yield item


def _meta(row: ClipRow, digest: str) -> str:
    """A shard's metadata. Two shards are the same if their metadata and their recordings are."""
    return json.dumps({"format": SHARD_FORMAT, "file": row.file, "speaker": row.speaker, "split": row.split,
                       "corpus": row.corpus, "front_end": FRONT_END.to_dict(), "sha256": digest})  # fmt: skip


def is_current(shard: Path, row: ClipRow, digest: str) -> bool:
    """Whether a shard is what `prepare_clip` would make of a row and a recording with this hash."""
    try:
        with np.load(shard) as arrays:
            return str(arrays["meta"]) == _meta(row, digest)
    except UNREADABLE:
        return False


def placed(parts: list[tuple[int, Crops, Flags]]) -> tuple[int, Crops, Flags]:
    """Join runs of the grid: the first tick, images and flags, blank where no run has data."""
    parts = [part for part in parts if len(part[1])]
    if not parts:
        return 0, np.empty((0, 0, 0), np.uint8), np.empty(0, np.bool_)
    first_tick = parts[0][0]
    pictures = np.zeros((parts[-1][0] + len(parts[-1][1]) - first_tick, *parts[0][1].shape[1:]), np.uint8)
    valid = np.zeros(len(pictures), np.bool_)
    for first, run, ok in parts:
        span = slice(first - first_tick, first - first_tick + len(run))
        pictures[span], valid[span] = run, ok
    return first_tick, pictures, valid


def _work(job: tuple[Path, ClipRow, Path]) -> tuple[bool, str | None]:
    """Whether a shard was made, and otherwise the reason, if it is an error."""
    path, row, shard = job
    try:
        if shard.exists() and is_current(shard, row, sha256(path)):
            return False, None
        shard.unlink(missing_ok=True)  # if the new one fails, nobody must train on the old one
        prepare_clip(path, row, shard)
    except AvdriftError as error:
        return False, str(error)
    return True, None


def prepare(clips: Path, out: Path, *, jobs: int = 0, prune: bool = False, split: str | None = None) -> int:
    """Write a shard for every clip whose recording or row has changed; return the number of skipped clips.

    prune: delete shards that no row names. split: prepare only its clips. Raises CaptureError if the table is invalid.
    """
    rows = [row for row in read_rows(clips) if split in (None, row.split)]
    out.mkdir(parents=True, exist_ok=True)
    work = [(clips / row.file, row, out / shard_name(row.file)) for row in rows]
    strangers = sorted(set(out.glob("*.npz")) - {shard for _, _, shard in work})
    if prune:
        for shard in strangers:
            shard.unlink()
    made, skipped = 0, 0
    with closing(each(_work, work, workers=jobs or os.cpu_count() or 1, limit_s=lambda _: TIMEOUT_MAX)) as answers:
        for (path, _, _), answer in with_progress(answers, "prepare", len(work), "clip"):
            new, problem = (False, f"{path}: {answer.why}") if isinstance(answer, Lost) else answer
            made += new
            if problem:
                skipped += 1
                tqdm.write(f"skipped: {problem}", file=sys.stderr)
    print(f"{len(rows) - skipped} of {len(rows)} clips ready in {out}, {made} made now, {skipped} skipped")
    if strangers and not prune:
        print(f"{len(strangers)} shards there belong to no row, and would be trained on: delete them, or give --prune")
    return skipped
