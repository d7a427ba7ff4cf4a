"""Rows for people and spreadsheets: a line as each file is done, a table at the end, and CSV."""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from device.check.row import Result, Row, offset_text
from device.errors import UsageError
from device.printable import printable, shown_name

COLUMNS = (
    "file", "result", "problem", "verdict", "state", "reason", "offset_ms", "offset_std_ms", "confidence", "drift_ppm",
    "drift_std_ppm", "drift_class", "steps", "pieces", "duration_s", "speech_s", "audio_track", "damaged",
)  # fmt: skip
_MAX_ROWS = 200  # of the table: worst first, so that passed ones are left out first
_STYLES = {Result.FAILED: "red", Result.UNREADABLE: "magenta", Result.UNKNOWN: "yellow", Result.PASSED: "green"}
_NO_EDGE = 10_000  # columns of a pipe or a file
_FORMULA = ("=", "+", "-", "@")


def line(row: Row) -> str:
    """One file, when it is done."""
    return f"{row.result:<10}  {_offset(row):<18}  {_verdict(row):<12}  {shown_name(row.file)}{_note(row, ': {}')}"


def worst_first(rows: Sequence[Row]) -> list[Row]:
    order = list(Result)
    return sorted(rows, key=lambda row: (-order.index(row.result), row.file))


def totals(rows: Sequence[Row]) -> str:
    """Totals, such as `3 files: 1 failed, 2 passed`."""
    counts = Counter(row.result for row in rows)
    counted = ", ".join(f"{counts[result]} {result}" for result in reversed(Result) if counts[result])
    return f"{len(rows)} file{'' if len(rows) == 1 else 's'}: {counted}"


def print_table(rows: Sequence[Row]) -> None:
    """Print all files, worst first, as wide as the terminal allows."""
    from rich.console import Console  # a third of a second that other commands do not need
    from rich.table import Column, Table
    from rich.text import Text

    table = Table("result", "offset", "verdict", Column("file", overflow="fold"), "note", box=None, pad_edge=False)
    for row in worst_first(rows)[:_MAX_ROWS]:
        cells = (_offset(row), _verdict(row), shown_name(row.file), _note(row, "{}"))
        table.add_row(Text(row.result, _STYLES[row.result]), *map(Text, cells))
    if sys.stdout.isatty():
        Console(file=sys.__stdout__, highlight=False).print("", table)  # print() would escape its colours
    else:
        text = StringIO()
        Console(file=text, width=_NO_EDGE).print("", table)
        print("\n".join(drawn.rstrip() for drawn in text.getvalue().splitlines()))
    if len(rows) > _MAX_ROWS:
        print(f"… and {len(rows) - _MAX_ROWS} more, for which --csv or --html have room")


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """One row per file; empty is unknown. Raises UsageError if it cannot be written."""
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(COLUMNS)
            table.writerows([_cell(name, row) for name in COLUMNS] for row in rows)
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> UsageError:
    what = f"cannot be written ({error.strerror})"
    return UsageError(what, where=str(path), remedy="Give a file name in a folder that can be written")


def _cell(name: str, row: Row) -> Any:
    if name == "file":
        text = shown_name(row.file)
        return f"./{text}" if text.startswith(_FORMULA) else text  # a spreadsheet would evaluate it as a formula
    if name in ("result", "problem"):
        return getattr(row, name)
    value = (row.measured or {}).get(name)
    return len(value) if isinstance(value, list) else value


def _offset(row: Row) -> str:
    return offset_text(row.measured) if row.measured else "-"


def _verdict(row: Row) -> str:
    return str(row.measured["verdict"]).replace("_", " ") if row.measured else "-"


def _note(row: Row, form: str) -> str:
    damaged = f"damaged: {row.measured['damaged']}" if row.measured and row.measured["damaged"] else None
    notes = [note for note in (row.problem, damaged) if note]
    return form.format("; ".join(map(printable, notes))) if notes else ""
