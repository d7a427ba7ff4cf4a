"""train/progress.py: the starter of a job can read its progress, which never blocks the job."""

from __future__ import annotations

from pathlib import Path

import pytest

from train import progress
from train.progress import FILE_VARIABLE, Progress, read, with_progress


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (Progress("batches", 25, 100, 50.0), "batches: 25 of 100, 2 min 30 s left"),
        (Progress("batches", 60, 100, 10.0, before=50), "batches: 60 of 100, 40 s left"),
        (Progress("batches", 50, 100, 0.0, before=50), "batches: 50 of 100"),
        (Progress("batches", 100, 100, 50.0), "batches: 100 of 100"),
    ],
)
def test_the_time_left_is_that_of_the_pace_so_far(found: Progress, text: str) -> None:
    assert str(found) == text


def test_the_file_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "progress.json"
    monkeypatch.setenv(FILE_VARIABLE, str(file))
    monkeypatch.setattr(progress, "_FILE_EVERY_S", 0.0)
    items = with_progress(range(3), "clips", 10, "clip", before=7)
    assert next(items) == 0 and read(file) is None
    assert next(items) == 1 and read(file) is not None
    assert list(items) == [2]
    found = read(file)
    assert found is not None and (found.what, found.done, found.total, found.before) == ("clips", 10, 10, 8)


def test_the_first_item_does_not_count_for_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the first batch of a training, during which TensorFlow builds its graph."""
    clock_s, told = iter([0.0, 100.0, 101.0, 102.0]), list[str]()
    monkeypatch.setattr("train.progress.time.monotonic", lambda: next(clock_s))
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    monkeypatch.setattr("builtins.print", lambda found, **_: told.append(str(found)))
    work = with_progress(range(3), "batches", 150, "batch")
    assert list(work) == [0, 1, 2]
    assert told == ["batches: 1 of 150", "batches: 2 of 150, 2 min 28 s left", "batches: 3 of 150, 2 min 27 s left"]


def test_a_disk_that_refuses_does_not_end_the_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(FILE_VARIABLE, "/proc/nowhere/progress.json")
    monkeypatch.setattr(progress, "_FILE_EVERY_S", 0.0)
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    assert list(with_progress(range(3), "clips", 3, "clip")) == [0, 1, 2]
    assert capsys.readouterr().err.splitlines()[0].startswith("clips: 1 of 3")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"what": "x"}', "null"])
def test_a_file_that_says_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "progress.json").write_text(content)
    assert read(tmp_path / "progress.json") is None
