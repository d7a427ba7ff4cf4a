"""Finds the files to check: the named files, and the recordings in the named folders."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

# Files with other endings count as no recordings: opening each one would take minutes on a file server.
ENDINGS = frozenset({
    ".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".m2t", ".m2ts", ".m2v", ".m4v", ".mkv", ".mod",
    ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogm", ".ogv", ".qt", ".rm", ".rmvb", ".tod",
    ".ts", ".vob", ".webm", ".wmv", ".wtv",
})  # fmt: skip


@dataclass(slots=True)
class Found:
    """Paths in the order in which they are checked, each file once."""

    files: list[str] = field(default_factory=list)
    unreadable_folders: dict[str, str] = field(default_factory=dict)  # reason by path
    skipped: int = 0  # other files in the folders
    duplicates: int = 0  # the same file by another path


def find(paths: Sequence[Path], *, recursive: bool) -> Found:
    """Find the files of these paths. Links to files are followed; links to folders only if they are named.

    A named path is always checked, whatever it is: its row then reports the problem.
    """
    found = Found()
    seen: set[tuple[int, int]] = set()
    for path in paths:
        for file in _files(path, found, recursive) if path.is_dir() else [str(path)]:
            try:
                status = os.stat(file)  # noqa: PTH116 - text, which keeps bytes that are no UTF-8
            except (OSError, ValueError):  # its row will report the error
                found.files.append(file)
                continue
            if (key := (status.st_dev, status.st_ino)) in seen:
                found.duplicates += 1
                continue
            seen.add(key)
            found.files.append(file)
    found.files = list(dict.fromkeys(found.files))
    return found


def _files(folder: Path, found: Found, recursive: bool) -> Iterator[str]:
    """Recordings in a folder, sorted by the bytes of their names; others are counted."""

    def refused(error: OSError) -> None:
        found.unreadable_folders[str(error.filename)] = error.strerror or str(error)

    for parent, folders, names in os.walk(folder, onerror=refused):
        if not recursive:
            folders.clear()
        folders[:] = sorted((name for name in folders if not name.startswith(".")), key=os.fsencode)
        for name in sorted(names, key=os.fsencode):
            # Hidden files are no recordings: macOS leaves `._talk.mp4` beside each `talk.mp4`.
            if name.startswith(".") or Path(name).suffix.lower() not in ENDINGS:
                found.skipped += 1
            else:
                yield str(Path(parent) / name)
