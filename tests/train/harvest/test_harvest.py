"""train/harvest: what is cut out of long recordings is one face with its own voice, and the rest has a reason."""

from __future__ import annotations

import csv
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.bundles.bundle import DEFAULT_BUNDLE
from device.errors import InputMissingError, UsageError
from device.features.model_download import face_model_path
from tests import recordings
from tests.scenes import ROOT
from train.cli import main
from train.data.clip_table import read_rows
from train.harvest.run import harvest, list_recordings
from train.harvest.stretches import MAX_S, MIN_S, WINDOW_S, FaceCheck, SeenWindow, parts_of

SAMPLE = ROOT / "device" / "models" / "sample.mkv"
CHECKS = [FaceCheck(k * 0.4, 1, False) for k in range(1000)]


def window(number: int, offset_ms: float | None = 10.0, reason: str = "") -> SeenWindow:
    return SeenWindow(number * WINDOW_S, offset_ms, 0.97, reason)


@given(st.lists(st.sampled_from([0.0, 10.0, 30.0, 200.0, None]), max_size=60))
def test_every_second_is_kept_or_has_a_reason_and_stretches_are_steady(offsets: list[float | None]) -> None:
    windows = [window(number, offset_ms, "ambiguous") for number, offset_ms in enumerate(offsets)]
    parts = parts_of(windows, CHECKS)
    edges = [at for part in parts for at in (part.from_s, part.to_s)]
    assert edges == sorted(edges) and sum(part.to_s - part.from_s for part in parts) == WINDOW_S * len(offsets)
    for part in parts:
        inside = [w.offset_ms for w in windows if part.from_s <= w.t_s < part.to_s]
        if part.reason:
            continue
        assert MIN_S <= part.to_s - part.from_s <= MAX_S
        assert all(offset is not None and abs(offset - (part.offset_ms or 0.0)) <= 40 for offset in inside)


@pytest.mark.parametrize(
    ("check", "reason"),
    [
        (FaceCheck(4.5, 0, False), "no face"),
        (FaceCheck(4.5, 2, False), "several faces"),
        (FaceCheck(4.5, 1, True), "a cut"),
    ],
)
def test_what_the_pictures_show_breaks_a_stretch(check: FaceCheck, reason: str) -> None:
    parts = parts_of([window(number) for number in range(6)], sorted([*CHECKS, check], key=lambda each: each.t_s))
    assert [(part.from_s, part.to_s, part.reason) for part in parts] == [(0, 4, ""), (4, 6, reason), (6, 12, "")]


def test_a_window_without_face_checks_is_not_kept() -> None:
    assert [part.reason for part in parts_of([window(0), window(1)], [])] == ["no face"]


def test_folders_that_cannot_be_harvested(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match="no recordings"):
        list_recordings(tmp_path, tmp_path.parent / "out")
    with pytest.raises(UsageError, match="lies in the folder"):
        list_recordings(tmp_path, tmp_path / "out")
    assert main(["harvest", str(tmp_path), str(tmp_path.parent / "out"), "--max-hours", "0"]) == 2


@pytest.mark.slow
@pytest.mark.skipif(not face_model_path().is_file(), reason="the face detector's model is not here")
def test_a_talk_among_other_recordings(tmp_path: Path) -> None:
    """The sample: 48 s of one synthetic speaker with three offsets, 16 s each."""
    folder, out = tmp_path / "archive", tmp_path / "clips"
    (folder / "мой доклад").mkdir(parents=True)
    (folder / "мой доклад" / "talk 1.mkv").symlink_to(SAMPLE)
    recordings.write(folder / "test pattern.mp4", duration_s=6.0)
    (folder / "broken.mkv").write_bytes(bytes(range(256)) * 40)
    count = harvest(folder, out, bundle=DEFAULT_BUNDLE, max_hours=1.0, corpus="talks", jobs=1)
    rows = read_rows(out)
    assert count == len(rows) >= 2 and {row.speaker for row in rows} == {"мой доклад/talk 1.mkv"}
    with (out / "clips.csv").open(newline="", encoding="utf-8") as file:
        kept_rows = list(csv.DictReader(file))
    for row, more in zip(rows, kept_rows, strict=True):
        with av.open(str(out / row.file)) as clip:
            assert clip.duration is not None and row.duration_s == pytest.approx(clip.duration / 1e6, abs=0.2)
        assert min(abs(float(more["offset_ms"]) - truth_ms) for truth_ms in (80, -160, 240)) < 40
    reasons = (out / "dropped.csv").read_text(encoding="utf-8")
    assert "test pattern.mp4" in reasons and "broken.mkv" in reasons and "no face" in reasons

    # Again: nothing is done twice, and what somebody has filled in stays.
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.mkv")}
    text = (out / "clips.csv").read_text(encoding="utf-8")
    (out / "clips.csv").write_text(text.replace(",,,", ",de,CC0,", 1), encoding="utf-8")
    assert harvest(folder, out, bundle=DEFAULT_BUNDLE, max_hours=1.0, corpus="talks", jobs=1) == count
    assert {path: path.stat().st_mtime_ns for path in out.glob("*.mkv")} == before
    assert "de,CC0" in (out / "clips.csv").read_text(encoding="utf-8")
