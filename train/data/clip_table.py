"""`clips.csv`, validated strictly: the clips, their speakers, and the use of each; reports all faults at once.

Columns: `file` (relative, `/` between folders), `speaker`, `corpus`. `split` (`train` or `valid`) may be left out
altogether and is then assigned by speaker. `duration_s`, `language` and `kind` (of recording: studio, phone, …) are
optional; other columns are ignored. UTF-8 with or without a byte-order mark, or UTF-16 with one; commas, semicolons or
tabs: what spreadsheets write.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import posixpath
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from device.errors import InputFormatError, InputMissingError

Cells = dict[str | None, str | list[str] | None]  # as csv.DictReader gives them

TABLE = "clips.csv"
TRAIN, VALID = "train", "valid"
SPLITS = (TRAIN, VALID)
MIN_VALID_SPEAKERS = 2  # with a single speaker, there is no other voice to test with

_COLUMNS = ("file", "speaker", "corpus")
_DELIMITERS = ",;\t"
_VALID_SHARE = 0.2  # of the clips, if the split is assigned here
_MAX_NAME_BYTES = 200  # a file name may have 255, and endings are added
_SHOWN_ROWS = 8
_WRITE = "Write it as UTF-8 with the columns file, speaker, split, corpus"


@dataclass(frozen=True, slots=True)
class ClipRow:
    """One row of `clips.csv`; `number` is its line in the table, as spreadsheets count."""

    file: str
    speaker: str
    split: str
    corpus: str
    number: int = 0
    duration_s: float | None = None
    language: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of one row, and its remedy; equal faults of several rows are shown as one."""

    row: ClipRow
    what: str
    remedy: str


@dataclass(frozen=True, slots=True)
class ClipTable:
    """All rows, their faults, and whether the table itself has a split or it was assigned here."""

    rows: tuple[ClipRow, ...]
    faults: tuple[Fault, ...]
    has_split: bool


def read_rows(folder: Path) -> list[ClipRow]:
    """The clips of a folder, from its `clips.csv`. Raises InputMissingError, InputFormatError with all faults."""
    found = read_table(folder)
    if found.faults:
        remedy = listed("Correct this:", found.faults)
        raise InputFormatError(counted(found.faults), where=str(folder / TABLE), remedy=remedy)
    return list(found.rows)


def read_table(folder: Path) -> ClipTable:
    """The whole table. Raises InputMissingError, InputFormatError if it is not a table."""
    table, rows, faults = folder / TABLE, list[ClipRow](), list[Fault]()
    for number, cells in read_cells(table):
        row, wrong = _row(cells, number)
        rows.append(row)
        faults += wrong
    if not rows:
        raise InputFormatError("has no rows", where=str(table), remedy="Write one for each clip")
    has_split = any(row.split for row in rows)
    if has_split:
        faults += [fault for row in rows for fault in _split_faults(row)]
        faults += _speakers_in_both(rows)
    else:
        rows = with_splits(rows)
    faults += _spellings(rows)
    return ClipTable(tuple(rows), (*faults, *_repeated(rows)), has_split)


def read_cells(table: Path) -> list[tuple[int, Cells]]:
    """The number of each row and its cells by column, unchecked. Raises InputMissingError, InputFormatError."""
    if not table.parent.is_dir():
        what = "not a folder" if table.parent.exists() else "no such folder"
        raise InputMissingError(what, where=str(table.parent), remedy=f"Give the folder that holds {TABLE}")
    if not table.is_file():
        raise InputMissingError("no such file", where=str(table), remedy=_WRITE)
    try:
        return list(_parsed(_text(table.read_bytes()), table))
    except (OSError, ValueError) as error:
        remedy = f"{_WRITE} (in a spreadsheet: save as CSV UTF-8)"
        raise InputFormatError(f"cannot be read ({error})", where=str(table), remedy=remedy) from error


def with_splits(rows: Sequence[ClipRow]) -> list[ClipRow]:
    """Assign a fifth of the clips to `valid`, by whole speakers and reproducibly: at least two, and one to train on."""
    clips: dict[str, int] = defaultdict(int)
    for row in rows:
        clips[row.speaker] += 1
    valid: set[str] = set()
    for speaker in sorted(clips, key=lambda name: hashlib.sha256(name.encode()).digest())[: max(len(clips) - 1, 0)]:
        share = sum(clips[name] for name in valid) / len(rows)
        if len(valid) >= MIN_VALID_SPEAKERS and share >= _VALID_SHARE:
            break
        valid.add(speaker)
    return [replace(row, split=VALID if row.speaker in valid else TRAIN) for row in rows]


def shard_name(file: str) -> str:
    """The name of a clip's shard: its whole relative path, escaped, so that two clips never share one."""
    name = file.replace("%", "%25").replace("/", "%2F")
    if len(name.encode()) > _MAX_NAME_BYTES:
        digest = hashlib.sha256(file.encode()).hexdigest()[:16]
        name = f"{name.encode()[:_MAX_NAME_BYTES].decode(errors='ignore')}~{digest}"
    return f"{name}.npz"


def clip_of_shard(stem: str) -> str:
    """The path behind a shard's name, unless that was too long."""
    return stem.replace("%2F", "/").replace("%25", "%")


def counted(faults: Sequence[Fault]) -> str:
    return f"{len(faults)} fault{'s' if len(faults) > 1 else ''}"


def listed(title: str, faults: Sequence[Fault]) -> str:
    """One line per kind of fault, with the rows that have it."""
    kinds: dict[tuple[str, str], list[ClipRow]] = defaultdict(list)
    for fault in faults:
        kinds[fault.what, fault.remedy].append(fault.row)
    return "\n  ".join([title, *(f"{_places(rows)}: {what}. {remedy}" for (what, remedy), rows in kinds.items())])


def _places(rows: Sequence[ClipRow]) -> str:
    names = [f"row {row.number} ({row.file})" if row.file else f"row {row.number}" for row in rows[:_SHOWN_ROWS]]
    more = [f"{len(rows) - _SHOWN_ROWS} more rows"] if len(rows) > _SHOWN_ROWS else []
    return ", ".join([*names, *more])


def _text(content: bytes) -> str:
    """Raises ValueError with the row. The first letters of a table without a byte-order mark are ASCII."""
    encoding = "UTF-8"
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "UTF-16"
    elif b"\0" in content[:2]:
        encoding = "UTF-16BE" if content.startswith(b"\0") else "UTF-16LE"
    try:
        return content.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        row = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"row {row} is not {encoding}") from error


def _parsed(text: str, table: Path) -> Iterator[tuple[int, Cells]]:
    """All rows that are not empty. Raises ValueError, InputFormatError."""
    header = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(_DELIMITERS, key=header.count), strict=True)
    names = [name.strip().lower() for name in _read(lambda: reader.fieldnames, 1) or []]
    missing = [name for name in _COLUMNS if name not in names]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if missing or twice:
        what = f"no column {', '.join(missing)}" if missing else f"two columns {', '.join(twice)}"
        raise InputFormatError(f"{what}; it has {', '.join(names)[:200] or 'none'}", where=str(table), remedy=_WRITE)
    reader.fieldnames = names
    while (cells := _read(lambda: next(reader, None), reader.line_num + 1)) is not None:
        if any(map(_filled, cells.values())):  # spreadsheets write rows of separators below the table
            yield reader.line_num, cells


def _read(part: Callable[[], Any], row: int) -> Any:
    """A part of the table that begins in a row. Raises ValueError."""
    try:
        return part()
    except csv.Error as error:
        raise ValueError(f"row {row}: {error}; check its quotation marks") from error


def _filled(cell: str | list[str] | None) -> bool:
    return any(map(str.strip, cell)) if isinstance(cell, list) else bool((cell or "").strip())


def _row(cells: Cells, number: int) -> tuple[ClipRow, list[Fault]]:
    """A row and its own faults; cells with a named column always hold text."""
    values = {name: (value or "").strip() for name, value in cells.items() if name and not isinstance(value, list)}
    file = posixpath.normpath(values["file"]) if values["file"] else ""
    row = ClipRow(file, values["speaker"], values.get("split", ""), values["corpus"], number,
                  language=values.get("language", ""), kind=values.get("kind", ""))  # fmt: skip
    wrong = []
    if _filled(cells.get(None)):
        wrong.append(("more cells than columns", "Put cells that contain the separator into double quotes"))
    wrong += [(f"{name} is empty", "Fill it in") for name in _COLUMNS if not values[name]]
    if file and not is_below(file):
        what = "an absolute path" if file.startswith("/") else "not a file below this folder"
        wrong.append((what, f"Give its path relative to {TABLE}"))
    try:
        row = replace(row, duration_s=_seconds(values.get("duration_s", "")))
    except ValueError:
        wrong.append((f"duration_s is {values['duration_s'][:40]!r}", "Give seconds above 0, or leave it empty"))
    return row, [Fault(row, what, remedy) for what, remedy in wrong]


def is_below(file: str) -> bool:
    """Whether a path, normalised, names something below its folder."""
    return bool(file) and not file.startswith(("/", "../")) and file not in ("..", ".")


def _seconds(text: str) -> float | None:
    """Raises ValueError; a comma is the decimal point in some languages."""
    if not text:
        return None
    seconds = float(text.replace(",", "."))
    if not 0 < seconds < float("inf"):
        raise ValueError(text)
    return seconds


def _split_faults(row: ClipRow) -> Iterator[Fault]:
    if row.split in SPLITS:
        return
    near = get_close_matches(row.split.lower(), SPLITS, n=1)
    what = f"split is {row.split[:40]!r}" if row.split else "split is empty, and other rows have one"
    remedy = f"Write {TRAIN} or {VALID}, or leave the whole column out"
    yield Fault(row, what, f"Did you mean {near[0]}?" if near else remedy)


def _speakers_in_both(rows: Sequence[ClipRow]) -> Iterator[Fault]:
    """Each validation row of a speaker who is also trained on."""
    trained = {row.speaker for row in rows if row.split == TRAIN}
    for row in rows:
        if row.split == VALID and row.speaker in trained:
            what = f"the speaker {row.speaker!r} is in both splits"
            yield Fault(row, what, "Put all clips of a speaker into one: a model knows those it learnt from too well")


def _spellings(rows: Sequence[ClipRow]) -> Iterator[Fault]:
    """Speakers whose names differ by capitals or spaces only: one person, who might be in both splits."""
    seen: dict[str, ClipRow] = {}
    for row in filter(lambda row: row.speaker, rows):
        first = seen.setdefault(" ".join(alike(row.speaker).split()), row)
        if first.speaker != row.speaker:
            what = f"the speaker {row.speaker!r} is hard to tell from {first.speaker!r} in row {first.number}"
            yield Fault(row, what, "Always write the same person in the same way")


def alike(name: str) -> str:
    """The same for names that some file systems, or people, take for one."""
    return unicodedata.normalize("NFC", name).casefold()


def _repeated(rows: Sequence[ClipRow]) -> Iterator[Fault]:
    """Files that are listed twice, and those whose shards would collide on some file systems."""
    seen: dict[str, ClipRow] = {}
    for row in filter(lambda row: row.file, rows):
        first = seen.setdefault(alike(shard_name(row.file)), row)
        if first is not row:
            same = first.file == row.file
            what = f"the same file as in row {first.number}" if same else f"hard to tell from {first.file!r}"
            yield Fault(row, what, "Delete one of the rows" if same else "Rename one of the files")
