"""Which files are checked: each once, by the first path to it, with any name; other files are skipped."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from device.check.find import find


def made(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def names_of(folder: Path, *, recursive: bool = False) -> list[str]:
    return [os.path.relpath(file, folder) for file in find([folder], recursive=recursive).files]


def test_a_folder_gives_its_recordings_in_order_and_counts_the_rest(tmp_path: Path) -> None:
    made(tmp_path, "b.mkv", "A.MP4", "notes.txt", "._b.mkv", "with\nnewline.mov", "sub/c.ts", ".git/d.mkv", "noending")
    (tmp_path / os.fsdecode(b"caf\xe9.webm")).write_bytes(b"x")
    assert names_of(tmp_path) == ["A.MP4", "b.mkv", os.fsdecode(b"caf\xe9.webm"), "with\nnewline.mov"]
    assert find([tmp_path], recursive=False).skipped == 3
    assert names_of(tmp_path, recursive=True)[-1] == "sub/c.ts"


def test_each_file_once_by_whatever_path(tmp_path: Path) -> None:
    made(tmp_path, "a.mkv", "b.mkv")
    (tmp_path / "link.mkv").symlink_to("a.mkv")
    (tmp_path / "hard.mkv").hardlink_to(tmp_path / "b.mkv")
    (tmp_path / "loop").symlink_to(tmp_path)
    found = find([tmp_path / "a.mkv", tmp_path, tmp_path / "sub" / ".." / "b.mkv", tmp_path / "loop"], recursive=True)
    assert [Path(file).name for file in found.files[:2]] == ["a.mkv", "b.mkv"] and len(found.files) == 3
    assert found.files[2].endswith("sub/../b.mkv"), "a path through a folder that is not there is a row of its own"
    assert found.duplicates == 3 + 4


def test_what_is_named_is_checked_whatever_it_is(tmp_path: Path) -> None:
    made(tmp_path, "notes.txt")
    (tmp_path / "broken.mkv").symlink_to("nowhere")
    assert names_of(tmp_path) == ["broken.mkv"], "its owner wants to know of it"
    named = [tmp_path / "notes.txt", tmp_path / "missing.mp4", tmp_path / "missing.mp4"]
    assert find(named, recursive=False).files == [str(tmp_path / "notes.txt"), str(tmp_path / "missing.mp4")]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    found = find([tmp_path], recursive=True)
    assert list(found.unreadable_folders) == [str(tmp_path / "closed")]
