"""The timeline as a table and as a plot: unknown values are empty, and write errors have a message."""

from __future__ import annotations

import csv
import os
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from device.analysis.measure import Measured
from device.analysis.plot import COLUMNS, Drawing, check_plot, draw, short_name, write_csv, write_plot
from device.errors import UsageError
from device.records import Estimate
from device.sync.timeline import Piece, Point, Step, Timeline

SURE = Estimate(offset_ms=100.0, offset_std_ms=4.0, confidence=0.99, at_edge=False)
DOUBTFUL = Estimate(offset_ms=-700.0, offset_std_ms=9.0, confidence=0.3, at_edge=False)
EDGE = Estimate(offset_ms=1000.0, offset_std_ms=4.0, confidence=0.99, at_edge=True)
TRACK = Timeline(
    (Piece(0.0, 10.0, 10.0, 1.0, 1.0, True), Piece(10.0, 20.0, 100.0, 1.0, 1.0, True),
     Piece(20.0, 30.0, 0, 9, 0.1, False)),
    (Step(10.0, 90.0),),
    (Point(2.5, SURE), Point(7.5, DOUBTFUL), Point(12.5, None), Point(17.5, EDGE)), 12.0, 3.0,
)  # fmt: skip
TOLD = {
    "file": "a/talk.mkv", "profile": "itu-r-bt1359", "drift_ppm": 12.0, "drift_std_ppm": 3.0, "steps": [{}],
    "verdict": "unacceptable", "zero_std_ms": 9.0,
}  # fmt: skip
FOUND = Measured(TOLD, TRACK, 0.0, None)
NOTHING = Measured(TOLD | {"drift_ppm": None, "steps": []}, Timeline((), (), (), None, None), 0.0, None)


def test_the_table_has_a_row_for_each_point_and_leaves_empty_what_is_not_known(tmp_path: Path) -> None:
    write_csv(FOUND, tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert tuple(header) == COLUMNS
    assert rows == [
        ["2.5", "100.0", "92.0", "108.0", "0.99", "measuring", "unacceptable"],
        ["7.5", "", "", "", "0.3", "uncertain", "unknown"],
        ["12.5", "", "", "", "", "uncertain", "unknown"],
        ["17.5", "", "", "", "0.99", "uncertain", "unknown"],
    ]


@pytest.mark.parametrize("found", [FOUND, NOTHING], ids=["all", "nothing"])
def test_the_picture_is_one(tmp_path: Path, found: Measured) -> None:
    write_plot(found, tmp_path / "out.png")
    picture = cv2.imread(str(tmp_path / "out.png"))
    assert picture is not None and picture.shape[1] > 1000 and np.ptp(picture) == 255


def test_what_is_doubtful_does_not_stretch_the_picture(tmp_path: Path) -> None:
    write_plot(FOUND, tmp_path / "out.svg")
    assert "−800" not in (tmp_path / "out.svg").read_text(encoding="utf-8")


def test_without_matplotlib_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UsageError, match="pip install matplotlib"):
        write_plot(FOUND, tmp_path / "out.png")


@pytest.mark.parametrize("write", [write_csv, write_plot])
def test_what_cannot_be_written_is_named(tmp_path: Path, write: object) -> None:
    assert callable(write)
    with pytest.raises(UsageError, match="nowhere"):
        write(FOUND, tmp_path / "nowhere" / "out.png")


def test_an_unknown_kind_of_picture_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"out\.xyz"):
        write_plot(FOUND, tmp_path / "out.xyz")


@pytest.mark.parametrize("name", ["costs $5 and $6.mkv", os.fsdecode(b"gr\xfc\xdfe.mkv"), "long " * 40 + ".mkv"])
def test_any_name_of_a_file_fits_into_the_title(tmp_path: Path, name: str) -> None:
    write_plot(replace(FOUND, result=TOLD | {"file": name}), tmp_path / "out.svg")
    assert len(short_name(name)) <= 49 and short_name(name).encode()


def test_of_many_steps_each_has_a_line_and_no_label_covers_another(tmp_path: Path) -> None:
    steps = [(10.0 * k, 40.0) for k in range(1, 40)]
    drawing = Drawing("many", "each 5 s", [], FOUND.limits, 400.0, steps=steps)
    draw(drawing, tmp_path / "out.svg")
    drawn = (tmp_path / "out.svg").read_text(encoding="utf-8")
    assert "steps (39)" in drawn and 10 <= drawn.count("<!-- +40 ms -->") <= 20


def test_every_line_is_in_the_legend(tmp_path: Path) -> None:
    write_plot(FOUND, tmp_path / "out.svg")
    drawn = (tmp_path / "out.svg").read_text(encoding="utf-8")
    legend = ["each 5 s, ±2 standard errors", "offset of each piece", "steps (1)", "not noticed"]
    assert all(f"<!-- {label} -->" in drawn for label in legend)


def test_what_cannot_be_drawn_is_said_before_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"\.png"):
        check_plot(Path("talk.mkv"))
    monkeypatch.setattr("device.analysis.plot.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install matplotlib"):
        check_plot(Path("talk.png"))
