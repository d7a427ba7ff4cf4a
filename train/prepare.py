"""`avdrift-train prepare CLIPS OUT`: decode every clip once and keep what training needs of it.

One shard a clip, `OUT/<clip>.npz`, written atomically, so an interrupted run goes on where it stopped. A broken clip is
reported and skipped. Crops have a margin of 8 pixels on each side at the contract's pixel pitch, for jitter; sound is
kept as samples, so that noise can be added before the front end.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from device.capture.file import FileSource
from device.errors import AvdriftError, InputFormatError, InputMissingError
from device.features.contract import AUDIO_RATE_HZ, FRONT_END
from device.features.face import FaceDetector
from device.features.fetch import require_face_model
from device.features.lipgrid import LipGrid
from device.features.mouth import MouthTracker
from device.features.speech import SpeechStream, widen
from device.records import NS_PER_S, Chunk, Frame

MARGIN_PX = 8
SHARD_FORMAT = 1

_MIN_FACE_S = 0.4


@dataclass(frozen=True, slots=True)
class ClipRow:
    """One row of `clips.csv`."""

    file: str
    speaker: str
    split: str
    corpus: str


def read_rows(folder: Path) -> list[ClipRow]:
    """The clips of a folder, from its `clips.csv`. Raises InputMissingError or InputFormatError."""
    table = folder / "clips.csv"
    if not table.is_file():
        raise InputMissingError(
            "no such file", where=str(table), remedy="Write one with the columns file, speaker, split, corpus"
        )
    remedy = "Write it as UTF-8 with the columns file, speaker, split, corpus, all of them filled in each row"
    try:
        with table.open(newline="", encoding="utf-8") as lines:
            rows = [ClipRow(r["file"], r["speaker"], r["split"], r["corpus"]) for r in csv.DictReader(lines)]
    except KeyError as missing:
        raise InputFormatError(f"column {missing} is missing", where=str(table), remedy=remedy) from missing
    except (OSError, UnicodeError, csv.Error) as error:
        raise InputFormatError(f"cannot be read ({error})", where=str(table), remedy=remedy) from error
    short = [number for number, row in enumerate(rows, 2) if None in (row.file, row.speaker, row.split, row.corpus)]
    if short:
        raise InputFormatError(f"row {short[0]} is too short", where=str(table), remedy=remedy)
    return rows


def prepare_clip(path: Path, row: ClipRow, shard: Path) -> None:
    """Decode one clip and write its shard. Raises a CaptureError when it cannot be used."""
    tracker = MouthTracker(FaceDetector(require_face_model()), margin_px=MARGIN_PX)
    grid, speech = LipGrid(FRONT_END.crop_px + 2 * MARGIN_PX), SpeechStream()
    lips, flags, chunks = [], [], []
    with FileSource(path) as source:
        for item in source:
            if isinstance(item, Frame):
                lips += [grid.push(crop) for crop in tracker.push(item)]
            else:
                chunks.append(item)
                flags.append(speech.push(item))
    lips += [grid.push(crop) for crop in tracker.finish()]
    lips = [part for part in lips if len(part[1])]
    valid = np.concatenate([part[2] for part in lips]) if lips else np.empty(0, np.bool_)
    if valid.sum() * FRONT_END.lip_tick_ms < _MIN_FACE_S * 1000:
        raise InputFormatError("no face for long enough", where=str(path), remedy="Leave it out, or check the picture")
    first_lip_tick = lips[0][0]
    crops = np.zeros((lips[-1][0] + len(lips[-1][1]) - first_lip_tick, *lips[0][1].shape[1:]), np.uint8)
    placed = np.zeros(len(crops), np.bool_)
    for first, pictures, ok in lips:
        span = slice(first - first_lip_tick, first - first_lip_tick + len(pictures))
        crops[span], placed[span] = pictures, ok
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
            valid=placed,
            first_lip_tick=first_lip_tick,
            samples=np.clip(np.rint(samples * 32767), -32768, 32767).astype(np.int16),
            samples_t_ns=t_ns,
            speech=widen(speech_flags),
            speech_first_tick=speech_first,
            meta=json.dumps({"format": SHARD_FORMAT, "file": row.file, "speaker": row.speaker, "split": row.split,
                             "corpus": row.corpus, "front_end": FRONT_END.to_dict()}),
        )  # fmt: skip
    partial.replace(shard)


def join(chunks: list[Chunk]) -> tuple[np.ndarray[tuple[int], np.dtype[np.float32]], int]:
    """All samples in one array at the places where their times put them, and the time of the first one."""
    t_ns = chunks[0].t_ns
    starts = [round((chunk.t_ns - t_ns) * AUDIO_RATE_HZ / NS_PER_S) for chunk in chunks]
    samples = np.zeros(max(start + len(chunk.samples) for start, chunk in zip(starts, chunks, strict=True)), np.float32)
    end = 0
    for start, chunk in zip(starts, chunks, strict=True):
        # Chunk times are smooth to a sample or two; only a real gap may leave a hole.
        start = end if abs(start - end) < AUDIO_RATE_HZ // 50 else start
        end = start + len(chunk.samples)
        if end > len(samples):
            samples = np.pad(samples, (0, end - len(samples)))
        samples[start:end] = chunk.samples
    return samples, t_ns


def _work(job: tuple[Path, ClipRow, Path]) -> str | None:
    cv2.setNumThreads(1)
    try:
        prepare_clip(*job)
    except AvdriftError as error:
        return str(error)
    return None


def prepare(clips: Path, out: Path, *, jobs: int = 0) -> int:
    """Write a shard for every clip that has none yet; how many clips had to be skipped."""
    rows = read_rows(clips)
    out.mkdir(parents=True, exist_ok=True)
    todo = [(clips / r.file, r, out / f"{Path(r.file).stem}.npz") for r in rows]
    todo = [job for job in todo if not job[2].exists()]
    skipped = []
    # Spawned: a fork of a process whose libraries have threads may wait for ever.
    with ProcessPoolExecutor(jobs or os.cpu_count(), mp_context=get_context("spawn")) as pool:
        running = {pool.submit(_work, job): job for job in todo}
        for done in tqdm(as_completed(running), total=len(running), unit="clip", desc="prepare", disable=None):
            problem = done.result()
            if problem:
                skipped.append(running[done][1].file)
                tqdm.write(f"skipped: {problem}", file=sys.stderr)
    print(f"{len(rows) - len(skipped)} of {len(rows)} clips ready in {out}, {len(skipped)} skipped")
    return len(skipped)
