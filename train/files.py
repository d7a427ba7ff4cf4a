"""Input and output files and folders of commands: checked, hashed, written atomically."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from device.errors import InputMissingError, UsageError


def make_folder(folder: Path) -> None:
    """Create a folder for output. Raises UsageError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot be made ({error.strerror})", where=str(folder), remedy="Choose another") from error
    if not os.access(folder, os.W_OK):
        raise UsageError("cannot be written to", where=str(folder), remedy="Choose another folder")


def check_parent(file: Path) -> None:
    """Raises UsageError if a file cannot be written."""
    if not os.access(file.parent, os.W_OK) or file.is_dir():
        raise UsageError("cannot be written", where=str(file), remedy="Give a file in an existing folder")


def write_all(stem: Path, **contents: str) -> None:
    """Write one file per format, by its ending."""
    for ending, content in contents.items():
        stem.with_name(f"{stem.name}.{ending}").write_text(content, encoding="utf-8")


def hash_of_hashes(files: Iterable[tuple[str, str]]) -> str:
    """The hash of sha256sum's output for these files (name, hash)."""
    listed = "".join(f"{digest}  {name}\n" for name, digest in files)
    return hashlib.sha256(listed.encode()).hexdigest()


def sha256(file: Path) -> str:
    """Raises InputMissingError."""
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        remedy = "Give a file that this user may read"
        raise InputMissingError(f"cannot be read ({error.strerror})", where=str(file), remedy=remedy) from error


def write_atomically(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON atomically: readers find the old file or the new one, never a part."""
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    partial.replace(path)
