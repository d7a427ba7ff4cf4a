"""The display of a working retraining: a line, and a page that can be read at any moment."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from train.progress import Progress
from train.retrain.report import REPORT, write_report
from train.retrain.subprocesses import PROGRESS
from train.retrain.watch import Watcher


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A work folder in the middle of a training, and its clips."""
    clips, work = tmp_path / "clips", tmp_path / "work"
    for folder in (clips / "anna k", work / "fit", work / "clean", work / "prepare"):
        folder.mkdir(parents=True)
    (clips / "anna k" / "ü 1.mkv").touch()
    epochs = [{"epoch": 1, "loss": 3.0, "rate": 0.1}, {"epoch": 2, "loss": 2.0, "rate": 0.2, "1s": 0.5, "2s": 0.75}]
    lines = [json.dumps(epochs[0]), json.dumps(epochs[0]), json.dumps(epochs[1]), '{"epoch": 3, "lo']
    (work / "fit" / "log.jsonl").write_text("\n".join(lines))
    worst = {"clip": "anna k%2Fü 1.mkv", "at_s": 4.0, "error_ms": 320.5, "confidence": 0.7, "truth_ms": 10.0,
             "curve": [0.0, 1.0, 0.0]}  # fmt: skip
    bins = [{"low": 0, "high": 1, "windows": 9, "confidence": 0.8, "right": 0.7}]
    (work / "fit" / "watched.json").write_text(json.dumps({"reliability": bins, "worst": [worst]}))
    dropped = {"anna k%2Fü 1.mkv": {"dropped": True, "gain": 0.003}, "b.mkv": {"dropped": False, "gain": 1}}
    (work / "clean" / "offsets.json").write_text(json.dumps(dropped))
    (work / "prepare" / "log.txt").write_text("skipped: <b>.mkv: has no audio track. Give one.\nother\n")
    return work


def test_the_page_has_what_is_known_and_links_to_the_clips(work: Path) -> None:
    write_report(work, work.parent / "clips")
    page = (work / REPORT).read_text(encoding="utf-8")
    assert 'href="../clips/anna%20k/%C3%BC%201.mkv"' in page and "anna k/ü 1.mkv" in page
    for words in ("fit: epoch 2", "320.5 ms", "left out: 2", "0.003 nats", "&lt;b&gt;.mkv: has no", "what is right"):
        assert words in page
    assert page.count("<svg") == 3 and "<script" not in page and page.endswith("</html>")


def test_a_page_of_nothing_and_of_damaged_files(work: Path) -> None:
    for file in ("clean/offsets.json", "fit/watched.json", "fit/log.jsonl", "prepare/log.txt"):
        (work / file).write_text("{")
    write_report(work, work.parent / "clips")
    assert "Clips left out" not in (work / REPORT).read_text(encoding="utf-8")


@pytest.mark.parametrize("terminal", [True, False])
def test_a_line_in_place_on_a_terminal_and_one_a_minute_elsewhere(work: Path, terminal: bool) -> None:
    said: list[str] = []
    clock = iter([0.0, 1.0, 2.0, 61.0, 62.0])
    watcher = Watcher(work, work.parent / "clips", said.append, terminal=terminal, now_s=lambda: next(clock))
    (work / "fit" / PROGRESS).write_text(json.dumps(asdict(Progress("batches", 5, 10, 5.0))))
    for _ in range(4):
        watcher(work / "fit")
    shown = "batches: 5 of 10, 5 s left"
    assert [shown in words for words in said] == [True] * (4 if terminal else 1)
    assert all(words.startswith("\r") and "\n" not in words for words in said) == terminal


def test_the_page_is_written_again_after_each_epoch(work: Path) -> None:
    watcher = Watcher(work, work.parent / "clips", lambda _: None, terminal=False)
    watcher(work / "fit")
    (work / REPORT).unlink()
    watcher(work / "fit")
    assert not (work / REPORT).exists(), "nothing is new"
    with (work / "fit" / "log.jsonl").open("a") as log:
        log.write('ss": 1}\n{"epoch": 4, "loss": 1.0}\n')
    watcher(work / "fit")
    assert "fit: epoch 4" in (work / REPORT).read_text(encoding="utf-8")
