"""`avdrift-train check` on folders as users have them: all problems at once, and no clip is lost."""

from __future__ import annotations

import csv
import shutil
from fractions import Fraction
from pathlib import Path

import pytest

from device.errors import InputFormatError
from device.features.model_download import face_model_path
from tests import recordings
from tests.recordings import Picture
from tests.scenes import ROOT
from train.check.minimum import ADAPT, FROM_SCRATCH, chosen_recipe, shortages
from train.check.run import check_clips
from train.check.survey import Side, Survey

UHD = Picture(width=3840, height=2160, rate_hz=Fraction(5), options={"preset": "ultrafast"})
SAMPLE = ROOT / "device" / "models" / "sample.mkv"

pytestmark = pytest.mark.skipif(not face_model_path().is_file(), reason="the face detector's model is not here")


def write_table(folder: Path, *rows: tuple[str, ...], header: str = "file,speaker,corpus,duration_s,language") -> None:
    with (folder / "clips.csv").open("w", newline="", encoding="utf-8-sig") as out:
        csv.writer(out, delimiter=";").writerows([header.split(","), *rows])


def test_a_folder_as_people_have_it(tmp_path: Path) -> None:
    """A folder for each speaker with the same names in it, a phone's 4K, no sound among good ones, Excel's table."""
    for speaker in ("Анна", "bert k", "carl"):
        (tmp_path / speaker).mkdir()
        recordings.write(tmp_path / speaker / "001.mkv", duration_s=2.0)
    recordings.write(tmp_path / "carl" / "phone.mp4", UHD, duration_s=1.2)
    recordings.write(tmp_path / "carl" / "mute.mkv", sound=None, duration_s=2.0)
    (tmp_path / "carl" / "broken.mkv").write_bytes(bytes(range(256)) * 40)
    rows = [(f"{speaker}/001.mkv", speaker, "office", "2,0", "de") for speaker in ("Анна", "bert k", "carl")]
    rows += [(f"carl/{name}", "carl", "office", "", "") for name in ("phone.mp4", "mute.mkv", "broken.mkv")]
    write_table(tmp_path, *rows)
    said: list[str] = []
    found = check_clips(tmp_path, said.append)
    assert {row.file for row in found.usable} == {"Анна/001.mkv", "bert k/001.mkv", "carl/001.mkv", "carl/phone.mp4"}
    assert found.survey.sides["train"].speakers + found.survey.sides["valid"].speakers == 3
    text = "\n".join(said)
    for words in ("3840x2160 (1)", "languages: de (3)", "row 6 (carl/mute.mkv): has no audio track", "made by speaker",
                  "row 7 (carl/broken.mkv): not a recording", "no face in the beginning of 4 clips"):  # fmt: skip
        assert words in text


def test_every_kind_of_fault_at_once_has_its_row_and_its_remedy(tmp_path: Path) -> None:
    """As from Windows, macOS and a phone, with what people leave in folders; semicolons, CRLF, UTF-16, empty rows."""
    for folder in ("anna", "Ольга", "x"):
        (tmp_path / folder).mkdir()
        recordings.write(tmp_path / folder / "001.mkv", duration_s=2.0)
    recordings.write(tmp_path / "mu\u0308ller.mkv", duration_s=2.5)
    (tmp_path / "x" / "empty.mp4").touch()
    (tmp_path / "x" / "loop").symlink_to("..")
    (tmp_path / "x" / "self.mkv").symlink_to("self.mkv")
    (tmp_path / "x" / "folder.mkv").mkdir()
    rows = [
        ("anna/001.mkv", "anna", "train"), ("Ольга\\001.mkv", "Ольга", "train"), ("m\u00fcller.mkv", "müller", "train"),
        ("x/empty.mp4", "x", "train"), ("x/loop", "x", "train"), ("x/loop/x/001.mkv", "x", "train"),
        ("x/self.mkv", "x", "train"), ("x/folder.mkv", "x", "train"), ("/x/001.mkv", "x", "train"),
        ("ANNA/001.mkv", "Anna", "valid"), ("x/010.mkv", "x", "train"), ("001.mkv", "y", "valid"),
    ]  # fmt: skip
    lines = ["file;speaker;split;corpus", *(f"{file};{speaker};{split};c" for file, speaker, split in rows), ";;;", ""]
    (tmp_path / "clips.csv").write_bytes("\r\n".join(lines).encode("utf-16"))
    with pytest.raises(InputFormatError) as caught:
        check_clips(tmp_path, lambda _: None)
    said = str(caught.value).splitlines()
    for words in (
        ("row 3", "Write / between folders"), ("row 4", "Rename the file", "macOS"), ("row 5", "the file is empty"),
        ("row 6", "row 9", "not a file. Correct the path"), ("row 8", "symbolic links"), ("row 10", "an absolute path"),
        ("row 11", "'Anna' is hard to tell from 'anna' in row 2"), ("row 11", "Did you mean anna/001.mkv?"),
        ("row 12", "Did you mean x/001.mkv?"), ("row 13", "Did you mean anna/001.mkv?"),
        ("3 recordings are not in the table", "mu\u0308ller.mkv, x/001.mkv", "Ольга/001.mkv"),
    ):  # fmt: skip
        assert any(all(word in line for word in words) for line in said), (words, said)
    assert "11 faults" in said[0] and not any("row 14" in line for line in said)


def test_recordings_that_the_table_forgets_are_named(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        recordings.write(tmp_path / f"{name}.mkv", duration_s=2.0 + 0.1 * ord(name) % 1)
    rows = [("a.mkv", "a", "train", "x"), ("b.mkv", "b", "valid", "x")]
    write_table(tmp_path, *rows, header="file,speaker,split,corpus")
    said: list[str] = []
    check_clips(tmp_path, said.append)
    assert said[-1] == "1 recording is not in the table: c.mkv"


def test_one_speaker_cannot_be_split(tmp_path: Path) -> None:
    """As `harvest` leaves one recording of several people."""
    recordings.write(tmp_path / "a.mkv", duration_s=2.0)
    write_table(tmp_path, ("a.mkv", "talk.mp4", "x", "", ""))
    with pytest.raises(InputFormatError, match="All clips are of one speaker: record others, or correct the column"):
        check_clips(tmp_path, lambda _: None)


def test_a_copy_under_another_name_and_a_hidden_folder_are_seen(tmp_path: Path) -> None:
    (tmp_path / ".card").mkdir()
    recordings.write(tmp_path / "a.mkv", duration_s=2.0)
    shutil.copy(tmp_path / "a.mkv", tmp_path / ".card" / "b.mkv")
    recordings.write(tmp_path / "c.mkv", duration_s=3.0)
    rows = [("a.mkv", "a", "train", "x"), (".card/b.mkv", "b", "valid", "x"), ("c.mkv", "c", "valid", "x")]
    write_table(tmp_path, *rows, header="file,speaker,split,corpus")
    said: list[str] = []
    found = check_clips(tmp_path, said.append)
    assert len(found.usable) == 3
    assert "row 3 (.card/b.mkv): the same recording as in row 2. Leave one of them out: a model knows" in said[-1]


def test_faults_of_files_and_of_the_table_come_together(tmp_path: Path) -> None:
    recordings.write(tmp_path / "a.mkv", duration_s=2.0)
    shutil.copy(tmp_path / "a.mkv", tmp_path / "b.mkv")
    write_table(
        tmp_path, ("a.mkv", "a", "x", "15.32", ""), ("b.mkv", "", "x", "", ""), ("nothing.mkv", "c", "x", "", "")
    )
    with pytest.raises(InputFormatError) as caught:
        check_clips(tmp_path, lambda _: None)
    text = str(caught.value)
    assert "3 faults" in text
    for words in ("row 2 (a.mkv): duration_s is 15.32, and the file lasts 2.", "row 3 (b.mkv): speaker is empty",
                  "row 4 (nothing.mkv): cannot be read (No such file",
                  "row 3 (b.mkv): the same recording as in row 2"):  # fmt: skip
        assert words in text


def test_faces_are_found_and_measured(tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / f"{number}.mkv").symlink_to(SAMPLE)
    rows = [("0.mkv", "a", "train", "x"), ("1.mkv", "b", "valid", "x")]
    write_table(tmp_path, *rows, header="file,speaker,split,corpus")
    said: list[str] = []
    found = check_clips(tmp_path, said.append).survey
    assert found.face_px is not None and 5 < found.face_px[1] < 100 and not found.faceless
    assert {name: round(side.minutes, 1) for name, side in found.sides.items()} == {"train": 0.8, "valid": 0.8}


@pytest.mark.parametrize(("minutes", "recipe"), [(29.9, ADAPT), (30.0, FROM_SCRATCH)])
def test_the_recipe_follows_from_the_minutes(minutes: float, recipe: str) -> None:
    assert chosen_recipe("auto", minutes) == recipe and chosen_recipe("corpus", minutes) == "corpus"


@pytest.mark.parametrize(
    ("train", "valid", "stages"),
    [
        (Side(9, 3, 10.0), Side(4, 2, 2.0), []),
        (Side(1, 1, 1.0), Side(1, 1, 0.5), ["fit", "calibrate", "calibrate"]),
        (Side(9, 3, 10.0), Side(9, 1, 9.0), ["calibrate"]),
    ],
)
def test_what_is_too_little_is_said_with_its_stage(train: Side, valid: Side, stages: list[str]) -> None:
    found = Survey({"train": train, "valid": valid}, {}, {}, {}, {}, None, (), 0, {}, None)
    assert [line.split()[0].rstrip(":,") for line in shortages(found, ADAPT)] == stages
