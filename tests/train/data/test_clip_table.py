"""clips.csv as people write it: no row is lost, and all faults are reported at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.errors import InputFormatError, InputMissingError
from train.data.clip_table import ClipRow, read_rows, shard_name, with_splits

HEADER = "file,speaker,split,corpus\n"


def table(folder: Path, content: str | bytes) -> Path:
    (folder / "clips.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def faults(folder: Path, rows: str) -> list[str]:
    """The lines that name what is wrong."""
    with pytest.raises(InputFormatError) as caught:
        read_rows(table(folder, HEADER + rows))
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_what_spreadsheets_write_is_read(tmp_path: Path, encoding: str, separator: str) -> None:
    rows = [("File", "Speaker", "Split", "Corpus", "duration_s"),
            ("Анна К/мой клип 1.mp4", "Анна К", "train", "büro", "1.5"),
            ("b;,\t.mkv", "bert", "valid", "büro", "")]  # fmt: skip
    text = "".join(separator.join(f'"{cell}"' for cell in row) + "\r\n" for row in rows)
    first, second = read_rows(table(tmp_path, text.encode(encoding)))
    assert (first.file, first.speaker, first.split, first.duration_s) == (rows[1][0], "Анна К", "train", 1.5)
    assert (second.file, second.corpus, second.duration_s, second.number) == ("b;,\t.mkv", "büro", None, 3)


def test_a_second_byte_order_mark_and_empty_rows_do_not_matter(tmp_path: Path) -> None:
    """As iconv leaves it of a table with a mark, and spreadsheets write cells that were emptied."""
    text = f"\ufeff{HEADER}a.mkv,a,train,c\n,,,\n , ,,,\n\nb.mkv,b,valid,c,,\n"
    rows = read_rows(table(tmp_path, text.encode("utf-16")))
    assert [(row.file, row.number) for row in rows] == [("a.mkv", 2), ("b.mkv", 6)]


@pytest.mark.parametrize(
    ("content", "words"),
    [((HEADER + "a.mkv,a,train,c\nmüller.mkv,b,valid,c\n").encode("latin-1"), "row 3 is not UTF-8"),
     ((HEADER + 'a.mkv,a,train,c\nb.mkv,"b,valid,c\n').encode(), "row 3: .*quotation marks")],
)  # fmt: skip
def test_what_cannot_be_read_has_its_row(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(InputFormatError, match=words):
        read_rows(table(tmp_path, content))


def test_a_speaker_is_spelled_in_one_way(tmp_path: Path) -> None:
    said = faults(tmp_path, "a.mkv,anna k,train,x\nb.mkv,Anna  K,valid,x\nc.mkv,bert,valid,x\n")
    assert said == ["row 3 (b.mkv): the speaker 'Anna  K' is hard to tell from 'anna k' in row 2. "
                    "Always write the same person in the same way"]  # fmt: skip


def test_decimal_commas_of_a_german_spreadsheet(tmp_path: Path) -> None:
    text = "file;speaker;split;corpus;duration_s\na.mkv;a;train;c;11,64\n"
    assert read_rows(table(tmp_path, text))[0].duration_s == 11.64


def test_all_faults_are_said_at_once_with_row_and_remedy(tmp_path: Path) -> None:
    said = faults(
        tmp_path,
        "a.mkv,anna,Train,x\nb.mkv,bert,test,x\nc.mkv,carl,train,x\nd.mkv,carl,valid,x\nc.mkv,carl,train,x\n"
        "./a.mkv,anna,,x\n../e.mkv,emil,train,x\nf.mkv,,train,x,more\n,gerd,train\n",
    )
    for words in (
        ("row 2 (a.mkv)", "split is 'Train'. Did you mean train?"), ("row 3", "'test'", "train or valid"),
        ("row 5", "'carl' is in both splits"), ("row 6", "the same file as in row 4"),
        ("row 7", "split is empty"), ("row 7", "the same file as in row 2"), ("row 8", "below this folder"),
        ("row 9", "more cells than columns"), ("row 9", "speaker is empty"), ("row 10", "file is empty"),
        ("row 10", "corpus is empty"),
    ):  # fmt: skip
        assert any(all(word in line for word in words) for line in said), words


def test_the_same_fault_of_many_rows_is_one_line(tmp_path: Path) -> None:
    said = faults(tmp_path, "".join(f"{n}.mkv,s{n},test,x\n" for n in range(5000)))
    assert len(said) == 1 and "4992 more rows" in said[0]


@pytest.mark.parametrize("value", ["no", "-1", "0", "inf", "nan"])
def test_durations_are_positive_seconds(tmp_path: Path, value: str) -> None:
    with pytest.raises(InputFormatError, match="duration_s is"):
        read_rows(table(tmp_path, f"file,speaker,corpus,duration_s\na.mkv,a,c,{value}\n"))


@pytest.mark.parametrize(
    "content",
    [b"", HEADER, b"file,speaker,split\n1,2,3\n", b"file\xff\xfe,speaker\nx,y\n", HEADER + 'a.mkv,"anna,train,x\n',
     b"file,file,speaker,corpus\na,a,s,c\n"],
)  # fmt: skip
def test_a_table_that_says_too_little_is_refused(tmp_path: Path, content: str | bytes) -> None:
    with pytest.raises(InputFormatError, match=r"clips\.csv"):
        read_rows(table(tmp_path, content))


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match=r"nothing: no such folder\. Give the folder that holds clips\.csv"):
        read_rows(tmp_path / "nothing")
    with pytest.raises(InputMissingError, match=r"clips\.csv: not a folder"):
        read_rows(table(tmp_path, HEADER) / "clips.csv")


def test_a_folder_without_its_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match=r"clips\.csv.*columns file, speaker, split, corpus"):
        read_rows(tmp_path)


@given(st.lists(st.integers(1, 9), min_size=3, max_size=40))
def test_a_split_that_is_left_out_keeps_speakers_apart(clips: list[int]) -> None:
    rows = [ClipRow(f"{s}/{n}.mkv", f"s{s}", "", "c") for s, count in enumerate(clips) for n in range(count)]
    split = with_splits(rows)
    sides = [{row.speaker for row in split if row.split == side} for side in ("train", "valid")]
    assert not sides[0] & sides[1] and sides[0] and len(sides[1]) >= 2
    assert {row.file: row.split for row in with_splits(rows[::-1])} == {row.file: row.split for row in split}


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), unique=True, max_size=30))
def test_two_clips_never_share_a_shard(files: list[str]) -> None:
    names = [shard_name(file) for file in files]
    assert len(set(names)) == len(files)
    assert all("/" not in name and len(name.encode()) < 240 for name in names)


def test_names_of_any_length_become_file_names() -> None:
    long = [f"{'я' * 300}/{n}.mkv" for n in range(3)]
    names = {shard_name(file) for file in long}
    assert len(names) == 3 and all(len(name.encode()) < 240 for name in names)
    assert shard_name("anna/001.mkv") == "anna%2F001.mkv.npz" != shard_name("anna%2F001.mkv")
