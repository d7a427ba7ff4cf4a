"""train/harvest: clips cut from long recordings have one face with its own voice; the rest has a reason."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.bundles.bundle import DEFAULT_BUNDLE
from device.capture.file import FileSource
from device.errors import InputFormatError, InputMissingError, UsageError
from device.features.model_download import face_model_path
from device.records import Chunk, Frame
from tests import recordings
from tests.scenes import ROOT
from train.cli import main
from train.data.clip_table import read_rows
from train.harvest import recording
from train.harvest.run import as_lines, harvest, harvest_recording, list_recordings, read_finished, write_tables
from train.harvest.stretches import MAX_S, MIN_S, WINDOW_S, FaceCheck, Part, SeenWindow, parts_of

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
    with pytest.raises(InputMissingError, match="nothing: no such folder"):
        list_recordings(tmp_path / "nothing", tmp_path.parent / "out")
    (tmp_path / "talk.mp4").touch()
    with pytest.raises(InputMissingError, match=r"talk\.mp4: not a folder"):
        list_recordings(tmp_path / "talk.mp4", tmp_path.parent / "out")
    assert main(["harvest", str(tmp_path), str(tmp_path.parent / "out"), "--max-hours", "0"]) == 2


def test_every_recording_is_found_once(tmp_path: Path) -> None:
    """A phone's and a camcorder's endings; not what macOS leaves beside them, nor a loop of links."""
    for name in ("PHONE.3GP", "b/clip.MTS", "b/._clip.MTS", "b/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b" / "loop").symlink_to("..")
    (tmp_path / "self.mkv").symlink_to("self.mkv")
    found = list_recordings(tmp_path, tmp_path.parent / "out")
    assert {path.relative_to(tmp_path).as_posix() for path in found} == {"PHONE.3GP", "b/clip.MTS"}


def test_a_table_whose_licence_column_was_deleted_gets_it_back(tmp_path: Path) -> None:
    kept = [{"file": "talk.mkv", "from_s": 4.0, "to_s": 8.0, "offset_ms": 12.5}]
    line = {"source": "talk.mkv", "kept": kept, "dropped": []}
    (tmp_path / "clips.csv").write_text("speaker;file;corpus\r\nAnna;talk.mkv;talks\r\n", encoding="utf-8-sig")
    write_tables(tmp_path, [line], "harvest")
    with (tmp_path / "clips.csv").open(newline="", encoding="utf-8") as table:
        (row,) = csv.DictReader(table)
    assert (row["speaker"], row["corpus"], row["licence"]) == ("Anna", "talks", "")


def test_no_clip_is_no_reason_to_fill_in_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.harvest.run.harvest", lambda *_, **__: 0)
    assert main(["harvest", str(tmp_path), str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("no clip in") and "dropped.csv" in shown and "next" not in shown


def test_what_a_spreadsheet_made_of_the_table_stays(tmp_path: Path) -> None:
    """Semicolons, a byte-order mark, a column of one's own; and new clips come beside it."""
    kept = [{"file": f"talk%2F{n}.mkv", "from_s": 4.0 * n, "to_s": 4.0 * n + 4, "offset_ms": 12.5} for n in range(2)]
    line = {"source": "Müller/talk.mkv", "kept": kept, "dropped": []}
    write_tables(tmp_path, [line], "talks")
    text = (tmp_path / "clips.csv").read_text(encoding="utf-8").replace(",", ";")
    first, second, third = text.splitlines()
    second = second.replace("Müller/talk.mkv;talks;4.0;;;", "Anna;mine;4,0;de;CC0;")
    text = "\r\n".join([f"{first};split", f"{second};valid", f"{third};train"])
    (tmp_path / "clips.csv").write_text(text, encoding="utf-8-sig")
    other = {"source": "b.mkv", "kept": [{**kept[0], "file": "b_0.mkv"}], "dropped": []}
    assert write_tables(tmp_path, [line, other], "talks") == 3
    with (tmp_path / "clips.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = ("speaker", "corpus", "duration_s", "language", "licence", "split")
    assert [tuple(row[name] for name in names) for row in rows] == [
        ("Anna", "mine", "4.0", "de", "CC0", "valid"),
        ("Müller/talk.mkv", "talks", "4.0", "", "", "train"),
        ("b.mkv", "talks", "4.0", "", "", ""),
    ]


def test_a_table_that_was_spoilt_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.mkv").touch()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "clips.csv").write_text("name,who\n1,2\n")
    with pytest.raises(InputFormatError, match="no column file"):
        harvest(tmp_path / "in", tmp_path / "out", bundle=DEFAULT_BUNDLE, max_hours=1.0, corpus="talks", jobs=1)


def test_a_line_that_a_kill_cut_short_costs_its_own_recording(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [
        {"source": name, "kept": [], "dropped": []} for name in ("доклад.mkv", "a\u2028b.mkv", "c.mkv")
    ]
    (tmp_path / "harvest.jsonl").write_text(as_lines(lines)[:-9])
    assert list(read_finished(tmp_path)) == ["доклад.mkv", "a\u2028b.mkv"]
    with (tmp_path / "harvest.jsonl").open("a") as file:
        file.write(as_lines(lines[2:]))
    assert list(read_finished(tmp_path).values()) == lines


def test_a_name_that_no_table_can_hold_is_dropped_with_its_reason(tmp_path: Path) -> None:
    source = "caf\udce9.mkv"
    line = harvest_recording(tmp_path, tmp_path, DEFAULT_BUNDLE, source)
    assert write_tables(tmp_path, [line], "talks") == 0
    assert "not UTF-8" in (tmp_path / "dropped.csv").read_text(encoding="utf-8")


def test_few_clips_are_open_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An open encoder holds dozens of pictures, and an hour has hundreds of clips."""
    recordings.write(tmp_path / "long.mkv", duration_s=8.0)
    parts, opened = [Part(float(n), n + 1.0) for n in range(8)], []

    class Watched(FileSource):
        def __iter__(self) -> Iterator[Frame | Chunk]:
            for item in super().__iter__():
                opened.append(len(list(tmp_path.glob("*.part"))))
                yield item

    monkeypatch.setattr(recording, "FileSource", Watched)
    targets = [tmp_path / f"{n}.mkv" for n in range(8)]
    recording.write_parts(tmp_path / "long.mkv", parts, targets)
    assert max(opened) <= 2
    for target in targets:
        with av.open(str(target)) as clip:
            assert clip.duration is not None and clip.duration / 1e6 == pytest.approx(1.0, abs=0.1)


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
