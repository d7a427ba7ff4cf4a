"""Copies with moved audio: flashes and clicks are where they should be, and nothing else changes."""

from __future__ import annotations

import hashlib
import os
import shutil
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import pytest

from device.capture.file import FileSource
from device.errors import InputFormatError, UsageError
from device.fix.copy import Copied, copy_moved
from device.fix.plan import Move, Plan
from device.records import Chunk, Frame
from tests.recordings import Picture, Sound, click_times_s, flash_times_s, write
from tests.scenes import scene_folder

FLASHES_S = (0.4, 1.0, 1.8, 2.4)
# Container, picture, sound: two B-frames where the codec has them, priming where the sound has it.
KINDS = {
    "mp4": ("libx264", "aac"), "mkv": ("libx264", "flac"), "mov": ("libx264", "aac"), "webm": ("libvpx", "libopus"),
    "ts": ("libx264", "aac"), "mp3.mp4": ("mpeg4", "libmp3lame"), "aac.mkv": ("libx264", "aac"),
}  # fmt: skip
EARLY, LATE = Plan((Move(0.0, 80.0),)), Plan((Move(0.0, -80.0),))
DRIFT = Plan((Move(0.0, 40.0, 2000.7),))  # no simple ratio
UP, DOWN = Plan((Move(0.0, 0.0), Move(1.4, 100.0))), Plan((Move(0.0, 0.0), Move(1.4, -100.0)))


@cache
def recording(kind: str) -> Path:
    video, audio = KINDS[kind]
    picture = Picture(codec=video, options={"bf": "2"} if video == "libx264" else {}, flashes_s=FLASHES_S)
    return write(scene_folder() / f"fix-in.{kind}", picture, Sound(codec=audio, clicks_s=FLASHES_S))


def copied(source: Path, out: Path, plan: Plan, *, force: bool = False) -> Copied:
    return copy_moved(source, out, plan, video_index=0, audio_index=1, force=force)


def delays_ms(path: Path) -> list[float]:
    """How much later than its flash each click comes."""
    with FileSource(path) as source:
        items = list(source)
    clicks = click_times_s([item for item in items if isinstance(item, Chunk)])
    flashes = flash_times_s(item for item in items if isinstance(item, Frame))
    assert len(clicks) == len(flashes) == len(FLASHES_S)
    return [1000 * (click_s - flash_s) for click_s, flash_s in zip(clicks, flashes, strict=True)]


def video_packets(path: Path) -> list[str]:
    with av.open(str(path)) as container:
        packets = container.demux(container.streams.video[0])
        return [hashlib.sha256(bytes(packet)).hexdigest() for packet in packets if packet.size]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("plan", "expected_ms"),
    [
        (EARLY, [80.0] * 4), (LATE, [-80.0] * 4), (DRIFT, [40.8, 42.0, 43.6, 44.8]),
        (UP, [0.0, 0.0, 100.0, 100.0]), (DOWN, [0.0, 0.0, -100.0, -100.0]),
    ],
    ids=["early", "late", "drift", "step up", "step down"],
)  # fmt: skip
def test_the_sound_lies_where_the_plan_says(tmp_path: Path, kind: str, plan: Plan, expected_ms: list[float]) -> None:
    out = tmp_path / f"out.{kind}"
    found = copied(recording(kind), out, plan)
    before, after = delays_ms(recording(kind)), delays_ms(out)
    moved_ms = [late - early for late, early in zip(after, before, strict=True)]
    assert moved_ms == pytest.approx(expected_ms, abs=1.5)
    assert (found.sound == "shifted") == (plan.shift_ms is not None) and not found.left_out
    assert [path.name for path in tmp_path.iterdir()] == [out.name], "nothing lies about"


@pytest.mark.parametrize("plan", [EARLY, DRIFT])
def test_no_picture_is_coded_again(tmp_path: Path, plan: Plan) -> None:
    out = tmp_path / "out.mkv"
    copied(recording("mkv"), out, plan)
    assert video_packets(out) == video_packets(recording("mkv"))


@pytest.mark.parametrize(
    ("source", "out"), [("mkv", "out.mp4"), ("mp4", "out.mkv"), ("mp4", "out.ts"), ("mov", "out.mp4")]
)
@pytest.mark.parametrize("plan", [EARLY, DRIFT])
def test_into_another_container(tmp_path: Path, source: str, out: str, plan: Plan) -> None:
    copied(recording(source), tmp_path / out, plan)
    assert delays_ms(tmp_path / out) == pytest.approx([80.0] * 4 if plan is EARLY else [40.8, 42, 43.6, 44.8], abs=2)


def test_a_shift_codes_nothing_again_and_metadata_stays(tmp_path: Path) -> None:
    titled = tmp_path / "titled.mkv"
    with av.open(str(recording("mkv"))) as given, av.open(str(titled), "w") as made:
        made.metadata["title"] = "A talk"
        chapter = {"id": 1, "start": 0, "end": 2000, "time_base": Fraction(1, 1000), "metadata": {"title": "One"}}
        made.set_chapters([chapter])  # type: ignore[list-item]
        tracks = [made.add_stream_from_template(stream, opaque=True) for stream in given.streams]
        second = made.add_stream_from_template(given.streams.audio[0], opaque=True)
        tracks[1].metadata["language"] = "deu"
        seen = 0
        for packet in given.demux():
            if packet.size and packet.pts is not None:
                if packet.stream.type == "video":
                    packet.dts, seen = round((seen - 3) * Fraction(1, 25) / packet.time_base), seen + 1
                packet.stream = tracks[packet.stream.index]
                made.mux(packet)
        assert second.index == 2
    out = tmp_path / "out.mkv"
    copied(titled, out, EARLY)
    with av.open(str(out)) as container:
        assert container.metadata["title"] == "A talk"
        assert [chapter["metadata"]["title"] for chapter in container.chapters()] == ["One"]
        assert [stream.type for stream in container.streams] == ["video", "audio", "audio"]
        assert container.streams.audio[0].metadata["language"] == "deu"
        assert container.streams.audio[0].codec_context.name == "flac"


# What must not happen


def test_the_recording_itself_is_never_the_target(tmp_path: Path) -> None:
    source = Path(shutil.copy(recording("mkv"), tmp_path / "in.mkv"))
    before = source.read_bytes()
    (tmp_path / "link.mkv").symlink_to(source)
    os.link(source, tmp_path / "hard.mkv")
    for name in ("in.mkv", "link.mkv", "hard.mkv"):
        with pytest.raises(UsageError, match="itself"):
            copied(source, tmp_path / name, EARLY, force=True)
    assert source.read_bytes() == before


def test_nothing_is_overwritten_unless_asked(tmp_path: Path) -> None:
    out = tmp_path / "out.mkv"
    out.write_bytes(b"dear")
    with pytest.raises(UsageError, match="--force"):
        copied(recording("mkv"), out, EARLY)
    assert out.read_bytes() == b"dear"
    copied(recording("mkv"), out, EARLY, force=True)
    assert delays_ms(out) == pytest.approx([80.0] * 4, abs=1)
    with pytest.raises(UsageError, match="exists"):
        copied(recording("mkv"), tmp_path, EARLY, force=True)


@pytest.mark.parametrize("name", ["out.jpeg2", "out", "nowhere/out.mkv"])
def test_a_target_that_cannot_be_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        copied(recording("mkv"), tmp_path / name, EARLY)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("plan", [EARLY, DRIFT])
def test_what_the_container_cannot_hold_leaves_nothing(tmp_path: Path, plan: Plan) -> None:
    with pytest.raises(InputFormatError, match="another container"):
        copied(recording("mkv"), tmp_path / "out.wav", plan)
    assert not list(tmp_path.iterdir())


def test_a_failure_keeps_what_was_there(tmp_path: Path) -> None:
    out = tmp_path / "out.webm"
    out.write_bytes(b"dear")
    with pytest.raises(InputFormatError):
        copied(recording("mp4"), out, EARLY, force=True)
    assert out.read_bytes() == b"dear" and len(list(tmp_path.iterdir())) == 1
