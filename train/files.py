"""What the commands of `avdrift-train` share: the folders and files that they are told to read and write."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from device.errors import UsageError


def shards_parser() -> argparse.ArgumentParser:
    """The parent of all commands that read prepared clips."""
    shards = argparse.ArgumentParser(add_help=False)
    shards.add_argument("shards", type=Path, nargs="+", metavar="SHARDS", help="folder that prepare filled")
    return shards


def make_folder(folder: Path) -> None:
    """A folder to write into. Raises UsageError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot be made ({error.strerror})", where=str(folder), remedy="Choose another") from error
    if not os.access(folder, os.W_OK):
        raise UsageError("cannot be written to", where=str(folder), remedy="Choose another folder")


def check_parent(file: Path) -> None:
    """Raises UsageError where a file cannot be written."""
    if not os.access(file.parent, os.W_OK) or file.is_dir():
        raise UsageError("cannot be written", where=str(file), remedy="Name a file in a folder that is there")


def write_all(stem: Path, **contents: str) -> None:
    """One file for each form of the same thing, by its ending."""
    for ending, content in contents.items():
        stem.with_name(f"{stem.name}.{ending}").write_text(content, encoding="utf-8")
