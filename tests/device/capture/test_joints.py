"""Joined recordings and clocks that wrap: all frames and all audio are measured, at their own offsets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import av
import pytest
from av.stream import Stream

from device.capture.file import FileSource
from device.capture.joints import Joints
from device.records import NS_PER_S, Chunk, Frame
from tests.recordings import Picture, Sound, click_times_s, flash_times_s, write
from tests.remux import joined, moved

FLASHES_S = (0.4, 1.0, 1.8, 2.4)
LATE_S = 0.3
# Ending, picture, sound, and what makes it live, so that its header promises no length.
KINDS: dict[str, tuple[str, str, dict[str, str]]] = {
    "ts": ("libx264", "aac", {}),
    "vob": ("mpeg2video", "mp2", {}),
    "webm": ("libvpx", "libopus", {"live": "1"}),
}


def part(folder: Path, kind: str, *, late_s: float = 0.0) -> Path:
    video, audio, options = KINDS[kind]
    sound = Sound(audio, clicks_s=[flash_s + late_s for flash_s in FLASHES_S])
    return write(folder / f"{late_s}.{kind}", Picture(video, flashes_s=FLASHES_S), sound, options=options)


def read(path: Path) -> tuple[list[float], list[float], FileSource]:
    """When it flashes and clicks; and the source, for what it says of it."""
    with FileSource(path) as source:
        items = list(source)
    frames = [item for item in items if isinstance(item, Frame)]
    chunks = [item for item in items if isinstance(item, Chunk)]
    for times_ns in ([frame.t_ns for frame in frames], [chunk.t_ns for chunk in chunks]):
        assert all(later > earlier for earlier, later in pairwise(times_ns))
    return flash_times_s(frames), click_times_s(chunks), source


@pytest.mark.parametrize("kind", ["ts", "vob", "webm"])
def test_each_recording_keeps_its_own_distance(tmp_path: Path, kind: str) -> None:
    path = joined(tmp_path / f"in.{kind}", part(tmp_path, kind), part(tmp_path, kind, late_s=LATE_S))
    flashes_s, clicks_s, source = read(path)
    assert len(flashes_s) == len(clicks_s) == 8
    late_s = [click_s - flash_s for flash_s, click_s in zip(flashes_s, clicks_s, strict=True)]
    assert late_s == pytest.approx([0.0] * 4 + [LATE_S] * 4, abs=0.01)
    (joint_s,) = source.joints_s
    assert flashes_s[3] < joint_s < flashes_s[4]
    assert source.damaged is None


def test_recordings_of_any_beginning_are_joined(tmp_path: Path) -> None:
    first = part(tmp_path, "ts")
    later, wrapping = tmp_path / "later.ts", tmp_path / "wrapping.ts"
    moved(first, later, 18_000.0)
    moved(first, wrapping, 2**33 / 90_000 - 1.5)
    flashes_s, clicks_s, source = read(joined(tmp_path / "in.ts", first, later, wrapping, first))
    assert len(flashes_s) == len(clicks_s) == 16
    assert clicks_s == pytest.approx(flashes_s, abs=0.01)
    assert len(source.joints_s) == 3 and source.damaged is None
    assert flashes_s[-1] - flashes_s[0] < 20.0


@pytest.mark.parametrize("begin_s", [2**33 / 90_000 - 1.5, 18_000.0])
def test_one_recording_that_wraps_or_begins_late_is_whole(tmp_path: Path, begin_s: float) -> None:
    flashes_s, clicks_s, source = read(moved(part(tmp_path, "ts"), tmp_path / "in.ts", begin_s))
    assert len(flashes_s) == len(clicks_s) == 4
    assert source.joints_s == [] and source.damaged is None


def stamps(path: Path, spoil: Callable[[av.Packet[Stream]], None]) -> tuple[list[int | None], list[int | None], Joints]:
    """Of a recording's packets after `spoil`, and after the joints have been taken out."""
    with av.open(str(path)) as given:
        packets = [packet for packet in given.demux() if packet.size]
        for packet in packets:
            spoil(packet)
        before = [packet.pts for packet in packets]
        joints = Joints(given.format.name, (0, 1))
        return before, [packet.pts for packet in joints.follow(packets)], joints


def test_one_track_that_goes_back_alone_is_damage_and_stays(tmp_path: Path) -> None:
    def spoil(packet: av.Packet[Stream]) -> None:
        if packet.stream.type == "audio" and packet.pts is not None and packet.pts > 3.0 * 90_000:
            packet.pts -= 180_000
            packet.dts = packet.pts

    before, after, joints = stamps(part(tmp_path, "ts"), spoil)
    assert after == before and joints.at_s == []


@pytest.mark.parametrize("kinds", [("video",), ("audio",), ("video", "audio")])
def test_single_stray_stamps_move_nothing(tmp_path: Path, kinds: tuple[str, ...]) -> None:
    seen: Counter[str] = Counter()

    def spoil(packet: av.Packet[Stream]) -> None:
        seen[packet.stream.type] += 1
        if packet.stream.type in kinds and seen[packet.stream.type] == 40:
            packet.pts = packet.dts = 0

    before, after, joints = stamps(part(tmp_path, "ts"), spoil)
    assert 0 in before and after == before and joints.at_s == []


def test_what_waits_at_a_joint_keeps_the_memory_bounded(tmp_path: Path) -> None:
    """Sound that stops for good while the pictures begin again: they are not held back until the end."""
    silent_end = write(tmp_path / "b.ts", Picture(), None, duration_s=20.0)
    path = joined(tmp_path / "in.ts", part(tmp_path, "ts"), silent_end)
    with FileSource(path) as source:
        times_s = [item.t_ns / NS_PER_S for item in source if isinstance(item, Frame)]
    assert len(times_s) > 75
