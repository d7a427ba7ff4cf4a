"""A table's paths beside what the folder holds: what a wrong path may mean, and recordings that no row names."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

from device.check.find import find
from train.data.clip_table import TABLE, ClipRow, alike

_SHOWN = 8


def recordings_in(folder: Path) -> list[str]:
    """All recordings below a folder, by their endings, as a table names them."""
    return [Path(file).relative_to(folder).as_posix() for file in find([folder], recursive=True).files]


def remedy_for(folder: Path, file: str, present: Collection[str]) -> str:
    """What to do about a path that names no file; `present` are the folder's recordings."""
    if "\\" in file:
        return f"Write / between folders, and the path relative to {TABLE}"
    likely = [one for one in present if alike(one) == alike(file)]
    likely += [one for one in present if PurePosixPath(one).name == PurePosixPath(file).name]
    if not likely and (parent := (folder / file).parent).is_dir():
        names = [path.name for path in parent.iterdir() if path.is_file()]
        near = get_close_matches(PurePosixPath(file).name, names, n=1)
        likely = [(parent / name).relative_to(folder).as_posix() for name in near]
    if not likely:
        return f"Correct the path, which is relative to {TABLE}"
    if len(likely[0]) != len(file) and alike(likely[0]) == alike(file):
        return "Rename the file: the accents of its name are letters of their own, as macOS writes them"
    return f"Did you mean {likely[0]}?"


def unnamed(rows: Sequence[ClipRow], present: Collection[str]) -> str:
    """The recordings that no row names, in one sentence; empty if there are none."""
    named = {row.file for row in rows}
    left = [one for one in present if one not in named]
    if not left:
        return ""
    more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
    count = f"{len(left)} recordings are" if len(left) > 1 else "1 recording is"
    return f"{count} not in the table: {', '.join(left[:_SHOWN])}{more}"
