"""train/comparison/data_curve.py: runs of a report in order of their minutes of training data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from train.comparison.data_curve import LENGTHS_S, main


def run_of(folder: Path, share: float, minutes: float) -> Path:
    folder.mkdir()
    config = {"loss": "multiway", "input_px": 64, "data_share": share, "epochs": 3, "steps_per_epoch": 100}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "data.json").write_text(json.dumps({"web": {"clips": 4, "speakers": 2, "minutes": minutes}}))
    return folder


def test_more_minutes_come_later_in_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [run_of(tmp_path / "all", 1.0, 50.0), run_of(tmp_path / "part", 0.125, 6.4)]
    names = {"SyncNet, multiway, 64 px": 0.75, "SyncNet, multiway, 64 px, 12%": 0.5}
    figures = {name: {"within_frame": share, "low": share - 0.1, "high": share + 0.1} for name, share in names.items()}
    results = [{"model": name, "figures": {"15": dict.fromkeys(LENGTHS_S, figures[name])}} for name in names]
    (tmp_path / "report.json").write_text(json.dumps({"results": results}))
    page = tmp_path / "page.md"
    page.write_text("<!-- data curve -->\n<!-- end of data curve -->\n")
    arguments = [str(tmp_path / "report.json"), "--page", str(page), "--out", str(tmp_path)]
    main([*arguments, *(word for run in runs for word in ("--run", str(run)))])
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == ["| 6 min, 4 clips", "| 50 min, 4 clips"]
    assert " 75.0 (65.0 to 85.0) " in rows[1] and rows[1] in page.read_text()
    assert (tmp_path / "data-curve.png").stat().st_size > 5000
