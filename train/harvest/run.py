"""`avdrift-train harvest FOLDER OUT --max-hours H`: from long recordings to training clips.

Each recording is processed once: `OUT/harvest.jsonl` has one line per recording with what was kept and dropped, and
why. `OUT/clips.csv` and `OUT/dropped.csv` are made from it. `licence` is left empty in the table, because only the user
knows the terms. The speaker is the recording, unless the table is corrected.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2

from device.bundles.bundle import Bundle, load_bundle
from device.errors import AvdriftError, InputMissingError, UsageError
from device.features.model_download import require_face_model
from train.data.clip_table import TABLE, shard_name
from train.files import make_folder, sha256
from train.harvest.recording import study, write_parts
from train.harvest.stretches import Part
from train.progress import with_progress

DONE, DROPPED = "harvest.jsonl", "dropped.csv"
_ENDINGS = {".avi", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ts", ".webm", ".wmv"}
_COLUMNS = ("file", "speaker", "corpus", "duration_s", "language", "licence", "source", "source_from_s", "offset_ms")


def harvest(folder: Path, out: Path, *, bundle: Path, max_hours: float, corpus: str, jobs: int = 0) -> int:
    """Make clips of all recordings below a folder, until there are so many hours; return the number of clips.

    Raises InputMissingError without recordings, UsageError if OUT is inside the folder or cannot be written.
    """
    recordings = list_recordings(folder, out)
    require_face_model()
    load_bundle(bundle)  # here, so that a failure is reported once and not per recording
    make_folder(out)
    done = {line["source"]: line for line in _lines(out)}
    todo = [path for path in recordings if _key(folder, path) not in done]
    hours = sum(_seconds(line) for line in done.values()) / 3600
    # Spawned, because a fork of a process whose libraries have threads may block for ever.
    with ProcessPoolExecutor(jobs or os.cpu_count(), mp_context=get_context("spawn")) as pool:
        running = [pool.submit(harvest_recording, path, _key(folder, path), out, bundle) for path in todo]
        for task in with_progress(as_completed(running), "recordings", len(todo), "recording"):
            if task.cancelled():
                continue
            line = task.result()
            with (out / DONE).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
            done[line["source"]] = line
            hours += _seconds(line) / 3600
            if hours >= max_hours:
                for other in running:
                    other.cancel()  # running ones finish, and count
    return write_tables(out, [done[key] for key in sorted(done)], corpus)


def list_recordings(folder: Path, out: Path) -> list[Path]:
    """All recordings below a folder, by their endings. Raises InputMissingError, UsageError."""
    if out.resolve().is_relative_to(folder.resolve()):
        remedy = "Choose another place, or its clips would be harvested again"
        raise UsageError("lies in the folder that is harvested", where=str(out), remedy=remedy)
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _ENDINGS and path.is_file())
    if not found:
        remedy = f"Known endings: {', '.join(sorted(_ENDINGS))}"
        raise InputMissingError("no recordings", where=str(folder), remedy=remedy)
    return found


def harvest_recording(path: Path, source: str, out: Path, bundle: Path) -> dict[str, Any]:
    """Write the clips of one recording; return its line of `harvest.jsonl`."""
    cv2.setNumThreads(1)
    try:
        parts = study(path, _bundle(bundle))
        kept = [part for part in parts if not part.reason]
        stem = shard_name(source).removesuffix(".npz")
        files = [f"{stem}_{part.from_s:08.2f}.mkv" for part in kept]
        write_parts(path, kept, [out / file for file in files])
    except AvdriftError as error:
        return {"source": source, "problem": str(error), "kept": [], "dropped": []}
    kept_rows = [{"file": file, **asdict(part)} for file, part in zip(files, kept, strict=True)]
    return {
        "source": source,
        "sha256": sha256(path),
        "kept": kept_rows,
        "dropped": [*map(_part_row, _without(parts, kept))],
    }


@cache
def _bundle(folder: Path) -> Bundle:
    return load_bundle(folder)


def _without(parts: Sequence[Part], kept: Sequence[Part]) -> Iterator[Part]:
    return (part for part in parts if part not in kept)


def _part_row(part: Part) -> dict[str, Any]:
    return {"from_s": round(part.from_s, 2), "to_s": round(part.to_s, 2), "reason": part.reason}


def write_tables(out: Path, lines: Sequence[dict[str, Any]], corpus: str) -> int:
    """Write clips.csv and dropped.csv, keeping what users have filled in. Returns the number of clips."""
    filled = _filled_in(out / TABLE)
    rows = [
        {"file": clip["file"], "speaker": line["source"], "corpus": corpus, "language": "", "licence": "",
         "duration_s": round(clip["to_s"] - clip["from_s"], 2), "source": line["source"],
         "source_from_s": round(clip["from_s"], 2), "offset_ms": clip["offset_ms"]} | filled.get(clip["file"], {})
        for line in lines for clip in line["kept"]
    ]  # fmt: skip
    _write_table(out / TABLE, _COLUMNS, rows)
    dropped = [{"source": line["source"], **part} for line in lines for part in line["dropped"]]
    dropped += [{"source": line["source"], "reason": line["problem"]} for line in lines if line.get("problem")]
    _write_table(out / DROPPED, ("source", "from_s", "to_s", "reason"), dropped)
    return len(rows)


def _filled_in(table: Path) -> dict[str, dict[str, str]]:
    """The cells that users write into the table, by file."""
    if not table.is_file():
        return {}
    with table.open(newline="", encoding="utf-8-sig") as file:
        return {row["file"]: {key: row[key] for key in ("speaker", "language", "licence") if row.get(key)}
                for row in csv.DictReader(file)}  # fmt: skip


def _write_table(path: Path, columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> None:
    partial = path.with_suffix(".part")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(path)


def _lines(out: Path) -> list[dict[str, Any]]:
    """The finished recordings; a truncated line does not count."""
    try:
        text = (out / DONE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    found = []
    for line in text.splitlines(keepends=True):
        if line.endswith("\n"):
            found.append(json.loads(line))
    return found


def _seconds(line: dict[str, Any]) -> float:
    return float(sum(clip["to_s"] - clip["from_s"] for clip in line["kept"]))


def _key(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()
