"""On Apache Beam's direct runner the rows are those of one machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from device.cli import main
from device.features.model_download import face_model_path
from tests import recordings
from tests.device.check.batch import cut

pytest.importorskip("apache_beam", reason="pip install 'avdrift[beam]'")
pytestmark = pytest.mark.skipif(not face_model_path().is_file(), reason="the face detector's model is not here")


def rows_of(path: Path) -> dict[str, dict[str, Any]]:
    """By file, without what depends on the moment and on the place of a copy."""
    rows = [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]
    return {row["file"]: row | {"took_s": None, "identity": None} for row in rows}


@pytest.mark.slow
def test_the_rows_are_those_of_one_machine(tmp_path: Path) -> None:
    files = tmp_path / "files"
    (files / "deep").mkdir(parents=True)
    cut(files / "a.mkv", early_ms=280.0)
    cut(files / "deep" / "new\nline é.mkv")
    (files / "empty.mp4").touch()
    (files / "notes.txt").write_text("skipped")
    recordings.write(files / "faceless.mkv", duration_s=1.0)
    here, there = tmp_path / "here.jsonl", tmp_path / "there.jsonl"
    options = ["check", str(files), "--recursive", "--fail-on", "detectable"]
    assert main([*options, "--jobs", "1", "--jsonl", str(here)]) == 3
    assert main([*options, "--jsonl", str(there), "--csv", str(tmp_path / "there.csv"), "--beam"]) == 3
    assert rows_of(there) == rows_of(here) and len(rows_of(here)) == 4
    assert (tmp_path / "there.csv").read_text(encoding="utf-8").count("\n") == 5


def test_addresses_reach_beam_as_they_were_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "nowhere://archive/2026", "--jsonl", str(tmp_path / "j"), "--beam"]) == 2
    assert "nowhere://archive/2026" in capsys.readouterr().err


def test_the_rows_never_overwrite_a_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.mkv").write_text("a film")
    assert main(["check", str(tmp_path), "--jsonl", str(tmp_path / "a.mkv"), "--beam"]) == 2
    assert "another kind" in capsys.readouterr().err and (tmp_path / "a.mkv").read_text() == "a film"


def test_options_that_beam_does_not_know(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.mkv").touch()
    command = ["check", str(tmp_path / "a.mkv"), "--jsonl", str(tmp_path / "j"), "--beam", "--speed", "3"]
    assert main(command) == 2
    assert "unknown: --speed" in capsys.readouterr().err
