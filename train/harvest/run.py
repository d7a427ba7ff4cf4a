"""`avdrift-train harvest FOLDER OUT --max-hours H`: from long recordings to training clips.

Each recording is processed once: `OUT/harvest.jsonl` has one line per recording with what was kept and dropped, and
why. `OUT/clips.csv` and `OUT/dropped.csv` are made from it. `licence` is left empty in the table, because only the user
knows the terms. The speaker is the recording, unless the table is corrected.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from threading import TIMEOUT_MAX
from typing import Any

import cv2

from device.bundles.bundle import Bundle, load_bundle
from device.check.find import ENDINGS, find
from device.check.pool import Lost, each
from device.errors import AvdriftError, InputMissingError, UsageError
from device.features.model_download import require_face_model
from train.data.clip_table import TABLE, read_cells, shard_name
from train.files import make_folder, sha256
from train.harvest.recording import study, write_parts
from train.harvest.stretches import Part
from train.progress import with_progress

DONE, DROPPED = "harvest.jsonl", "dropped.csv"
_MEASURED = ("file", "duration_s", "source", "source_from_s", "offset_ms")
_COLUMNS = ("file", "speaker", "corpus", "duration_s", "language", "licence", "source", "source_from_s", "offset_ms")


def harvest(folder: Path, out: Path, *, bundle: Path, max_hours: float, corpus: str, jobs: int = 0) -> int:
    """Make clips of all recordings below a folder, until there are so many hours; return the number of clips.

    Raises InputMissingError without recordings, UsageError if OUT is inside the folder or cannot be written.
    """
    recordings = list_recordings(folder, out)
    require_face_model()
    load_bundle(bundle)  # here, so that a failure is reported once and not per recording
    make_folder(out)
    filled_in(out)  # fail now, not after hours, if somebody has spoilt the table
    done = read_finished(out)
    hours = sum(_seconds(line) for line in done.values()) / 3600
    todo = [key for path in recordings if (key := _key(folder, path)) not in done]
    wanted = (key for key in todo if hours < max_hours)  # what is under way then still counts
    work = partial(harvest_recording, folder, out, bundle)
    with closing(each(work, wanted, workers=jobs or os.cpu_count() or 1, limit_s=lambda _: TIMEOUT_MAX)) as answers:
        for key, answer in with_progress(answers, "recordings", len(todo), "recording"):
            line = _failed(key, answer.why) if isinstance(answer, Lost) else answer
            with (out / DONE).open("a", encoding="ascii") as file:
                file.write(as_lines([line]))
            done[line["source"]] = line
            hours += _seconds(line) / 3600
    return write_tables(out, [done[key] for key in sorted(done)], corpus)


def list_recordings(folder: Path, out: Path) -> list[Path]:
    """All recordings below a folder, by their endings. Raises InputMissingError, UsageError."""
    if out.resolve().is_relative_to(folder.resolve()):
        remedy = "Choose another place, or its clips would be harvested again"
        raise UsageError("lies in the folder that is harvested", where=str(out), remedy=remedy)
    if not folder.is_dir():
        what = "not a folder" if folder.exists() else "no such folder"
        raise InputMissingError(what, where=str(folder), remedy="Give the folder that holds the recordings")
    found = find([folder], recursive=True)
    for place, why in found.unreadable_folders.items():
        print(f"left out: {place}: {why}", file=sys.stderr)
    recordings = [path for path in map(Path, found.files) if path.is_file()]
    if not recordings:
        remedy = f"Known endings: {', '.join(sorted(ENDINGS))}"
        raise InputMissingError("no recordings", where=str(folder), remedy=remedy)
    return recordings


def harvest_recording(folder: Path, out: Path, bundle: Path, source: str) -> dict[str, Any]:
    """Write the clips of one recording of a folder; return its line of `harvest.jsonl`."""
    path = folder / source
    cv2.setNumThreads(1)
    try:
        source.encode()
    except UnicodeEncodeError:
        return _failed(source, "its name is not UTF-8, which clips.csv is. Rename it")
    try:
        parts = study(path, _bundle(bundle))
        kept = [part for part in parts if not part.reason]
        stem = shard_name(source).removesuffix(".npz")
        files = [f"{stem}_{part.from_s:08.2f}.mkv" for part in kept]
        write_parts(path, kept, [out / file for file in files])
    except AvdriftError as error:
        return _failed(source, str(error))
    kept_rows = [{"file": file, **asdict(part)} for file, part in zip(files, kept, strict=True)]
    return {
        "source": source,
        "sha256": sha256(path),
        "kept": kept_rows,
        "dropped": [*map(_part_row, _without(parts, kept))],
    }


def _failed(source: str, problem: str) -> dict[str, Any]:
    return {"source": source, "problem": problem, "kept": [], "dropped": []}


@cache
def _bundle(folder: Path) -> Bundle:
    return load_bundle(folder)


def _without(parts: Sequence[Part], kept: Sequence[Part]) -> Iterator[Part]:
    return (part for part in parts if part not in kept)


def _part_row(part: Part) -> dict[str, Any]:
    return {"from_s": round(part.from_s, 2), "to_s": round(part.to_s, 2), "reason": part.reason}


def write_tables(out: Path, lines: Sequence[dict[str, Any]], corpus: str) -> int:
    """Write clips.csv and dropped.csv, keeping what users have filled in. Returns the number of clips."""
    filled = filled_in(out)
    added = dict.fromkeys(name for cells in filled.values() for name in cells if name not in _COLUMNS)
    rows = [
        {"file": clip["file"], "speaker": line["source"], "corpus": corpus, "language": "", "licence": "",
         "duration_s": round(clip["to_s"] - clip["from_s"], 2), "source": line["source"],
         "source_from_s": round(clip["from_s"], 2), "offset_ms": clip["offset_ms"]} | filled.get(clip["file"], {})
        for line in lines for clip in line["kept"]
    ]  # fmt: skip
    _write_table(out / TABLE, (*_COLUMNS, *added), rows)
    dropped = [{"source": line["source"], **part} for line in lines for part in line["dropped"]]
    dropped += [{"source": line["source"], "reason": line["problem"]} for line in lines if line.get("problem")]
    _write_table(out / DROPPED, ("source", "from_s", "to_s", "reason"), dropped)
    return len(rows)


def filled_in(out: Path) -> dict[str, dict[str, str]]:
    """What users may have written into the table, by file. Raises InputFormatError."""
    table = out / TABLE
    if not table.is_file():
        return {}
    return {
        str(cells["file"]): {
            name: value
            for name, value in cells.items()
            if name and name not in _MEASURED and isinstance(value, str) and value
        }
        for _, cells in read_cells(table)
    }


def _write_table(path: Path, columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> None:
    partial = path.with_suffix(".part")
    with partial.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(path)


def read_finished(out: Path) -> dict[str, dict[str, Any]]:
    """The lines of finished recordings, by source; a line that a kill cut short is removed."""
    path, done = out / DONE, dict[str, dict[str, Any]]()
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
            with suppress(ValueError):
                found = json.loads(line)
                done[found["source"]] = found
        partial = path.with_suffix(".part")
        partial.write_text(as_lines(done.values()), encoding="ascii")
        partial.replace(path)
    return done


def as_lines(found: Iterable[dict[str, Any]]) -> str:
    return "".join(json.dumps(line) + "\n" for line in found)


def _seconds(line: dict[str, Any]) -> float:
    return float(sum(clip["to_s"] - clip["from_s"] for clip in line["kept"]))


def _key(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()
