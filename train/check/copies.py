"""Finds recordings that a table lists twice, under other names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from train.data.clip_table import ClipRow, Fault
from train.files import sha256


def copies(folder: Path, rows: Sequence[ClipRow]) -> list[Fault]:
    """The rows whose recording an earlier row has as well. Raises InputMissingError if a file cannot be read."""
    by_size: dict[int, list[ClipRow]] = defaultdict(list)
    for row in rows:
        by_size[(folder / row.file).stat().st_size].append(row)
    found = [fault for same in by_size.values() if len(same) > 1 for fault in _of_same_size(folder, same)]
    return sorted(found, key=lambda fault: fault.row.number)


def _of_same_size(folder: Path, rows: Sequence[ClipRow]) -> list[Fault]:
    first: dict[str, ClipRow] = {}
    found = []
    for row in rows:
        before = first.setdefault(sha256(folder / row.file), row)
        if before is not row:
            judged = ": a model knows what it was trained on too well" if row.split != before.split else ""
            what = f"the same recording as in row {before.number}"
            found.append(Fault(row, what, f"Leave one of them out{judged}"))
    return found
