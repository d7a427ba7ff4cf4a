"""Markers for editors: read back by OpenTimelineIO itself, at the timecode of the recording."""

from __future__ import annotations

import csv
from pathlib import Path

import av
import pytest

from device.check.markers import write_markers
from device.check.row import Result
from tests import recordings
from tests.device.check.test_row import PIECE, measured, row
from tests.remux import remuxed

otio = pytest.importorskip("opentimelineio", reason="pip install 'avdrift[check]'")

FOUND = measured(
    "in_sync", "unacceptable", duration_s=3.0, steps=[{"t_s": 2.0, "step_ms": -90.0}],
    pieces=[PIECE | {"to_s": 2.0}, PIECE | {"from_s": 2.0, "to_s": 3.0, "offset_ms": None}],
)  # fmt: skip
ROW = row(Result.FAILED, "a.mkv", FOUND)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("film")
    recordings.write(folder / "plain.mp4", duration_s=3.0)

    def with_timecode(made: av.container.OutputContainer, _: object) -> None:
        made.metadata["timecode"] = "10:00:00:00"

    return remuxed(folder / "plain.mp4", folder / "with timecode é.mkv", prepare=with_timecode)


def test_a_timeline_has_pieces_and_steps_at_their_timecode(film: Path, tmp_path: Path) -> None:
    write_markers(row(Result.FAILED, str(film), FOUND), tmp_path / "out.otio")
    (clip,) = otio.adapters.read_from_file(str(tmp_path / "out.otio")).find_clips()
    found = [
        (marker.name, str(otio.opentime.to_timecode(marker.marked_range.start_time, 25)),
         marker.marked_range.duration.to_seconds())
        for marker in clip.markers
    ]  # fmt: skip
    assert found == [
        ("+50 ms +-3", "10:00:00:00", 2.0), ("no offset", "10:00:02:00", 1.0),
        ("step of -90 ms", "10:00:02:00", 0.0),
    ]  # fmt: skip
    assert clip.media_reference.target_url == film.as_uri()


def test_an_edl_has_locators(film: Path, tmp_path: Path) -> None:
    write_markers(row(Result.FAILED, str(film), FOUND), tmp_path / "out.edl")
    lines = (tmp_path / "out.edl").read_text(encoding="utf-8").splitlines()
    assert [line.split()[2:4] for line in lines if line.startswith("* LOC:")] == [
        ["10:00:00:00", "GREEN"], ["10:00:02:00", "RED"], ["10:00:02:00", "RED"],
    ]  # fmt: skip


def test_a_table_has_times_in_both_forms(film: Path, tmp_path: Path) -> None:
    write_markers(row(Result.FAILED, str(film), FOUND), tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        first, *_, last = csv.DictReader(file)
    assert (first["in"], first["out"], first["from_s"]) == ("10:00:00:00", "10:00:02:00", "0.0")
    assert (last["kind"], last["name"]) == ("step", "step of -90 ms")


def test_what_could_not_be_measured_has_no_markers(tmp_path: Path) -> None:
    write_markers(row(Result.UNREADABLE, "a.mkv"), tmp_path / "out.otio")
    assert not (tmp_path / "out.otio").exists()
