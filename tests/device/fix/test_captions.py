"""The video moved instead of the audio: nothing is cut, and captions, inside and beside, stay with the video."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pysubs2
import pytest

from device.cli import main
from device.errors import InputFormatError
from device.fix.captions import beside, write_moved
from tests.device.fix.test_copy import delays_ms, recording
from tests.device.fix.test_kinds import two_tracks

SRT = "1\n00:00:01,000 --> 00:00:02,000\n<i>Hello</i> {\\an8}you\n\n2\n00:01:00,500 --> 00:01:02,000\nGoodbye\n"


def fix(*arguments: object) -> int:
    return main(["fix", *map(str, arguments)])


def first_s(path: Path, kind: str) -> float:
    with av.open(str(path)) as container:
        stamps = [p.pts * p.time_base for s in container.streams if s.type == kind for p in container.demux(s)
                  if p.pts is not None and p.size and not p.is_discard]  # fmt: skip
    return float(min(stamps, default=Fraction(-1)))


@pytest.mark.parametrize("offset_ms", [-120, 120])
def test_whichever_is_early_waits_and_captions_go_with_the_picture(tmp_path: Path, offset_ms: int) -> None:
    source, out = two_tracks(tmp_path / "in.mkv", "mkv"), tmp_path / "out.mkv"
    (tmp_path / "in.en.srt").write_text(SRT)
    assert fix(source, out, "--offset", offset_ms, "--move", "video", "--audio-track", 2) == 0
    after, before = delays_ms(out), delays_ms(source)
    assert [late - early for late, early in zip(after, before, strict=True)] == pytest.approx([offset_ms] * 4, abs=1.5)
    waits_s = 0.12 if offset_ms < 0 else 0.0
    assert first_s(out, "subtitle") - first_s(source, "subtitle") == pytest.approx(waits_s, abs=0.002)
    with av.open(str(out)) as copy, av.open(str(source)) as given:
        assert copy.chapters()[0]["end"] - given.chapters()[0]["end"] == pytest.approx(1e9 * waits_s, abs=2e6)
        for track, same in zip(copy.streams.audio, given.streams.audio, strict=True):
            assert track.start_time is not None and same.start_time is not None
            assert track.start_time - same.start_time == pytest.approx(1000 * max(offset_ms / 1000, 0), abs=2)
    moved = tmp_path / "out.en.srt"
    assert moved.exists() == (offset_ms < 0)
    if moved.exists():
        assert pysubs2.load(str(moved))[1].start == 60_620
    assert (tmp_path / "in.en.srt").read_text() == SRT


def test_captions_that_exist_are_not_overwritten(tmp_path: Path) -> None:
    source = two_tracks(tmp_path / "in.mkv", "mkv")
    for name in ("in.srt", "out.srt"):
        (tmp_path / name).write_text(SRT)
    assert fix(source, tmp_path / "out.mkv", "--offset", -120, "--move", "video") == 2
    assert not (tmp_path / "out.mkv").exists() and (tmp_path / "out.srt").read_text() == SRT
    assert fix(source, tmp_path / "out.mkv", "--offset", -120, "--move", "picture", "--force") == 0
    assert (tmp_path / "out.srt").read_text() != SRT == (tmp_path / "in.srt").read_text()


def test_the_picture_cannot_move_where_sound_is_coded_again(tmp_path: Path) -> None:
    assert fix(recording("mkv"), tmp_path / "out.mkv", "--drift", 100, "--move", "video") == 2
    assert not list(tmp_path.iterdir())


def test_captions_of_others_and_other_files_are_let_be(tmp_path: Path) -> None:
    for name in ("talk.srt", "talk.en.VTT", "talk.txt", "talker.srt", "talk [1].srt"):
        (tmp_path / name).write_text(SRT)
    (tmp_path / "talk.ass").mkdir()
    pairs = beside(tmp_path / "talk.mp4", tmp_path / "elsewhere" / "good.mkv")
    assert [(given.name, made.name) for given, made in pairs] == [
        ("talk.en.VTT", "good.en.VTT"),
        ("talk.srt", "good.srt"),
    ]
    ((given, made),) = beside(tmp_path / "talk [1].mp4", tmp_path / "out.mp4")
    assert (given.name, made.name) == ("talk [1].srt", "out.srt")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_any_encoding_and_markup_go_through(tmp_path: Path, encoding: str) -> None:
    given, made = tmp_path / "a.srt", tmp_path / "b.srt"
    given.write_text(SRT.replace("Goodbye", "Adiós"), encoding=encoding)
    write_moved(given, made, 0.25)
    text = made.read_bytes().decode(encoding)
    assert "00:00:01,250 --> 00:00:02,250" in text and "<i>Hello</i>" in text and "Adiós" in text


def test_what_holds_no_captions_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_text("nothing of the kind")
    with pytest.raises(InputFormatError, match=r"a\.srt: no captions"):
        write_moved(tmp_path / "a.srt", tmp_path / "b.srt", 1.0)
