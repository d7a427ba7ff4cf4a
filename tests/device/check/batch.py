"""A folder as users have it: good, damaged, empty and faceless recordings, text files, unusual names."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av

from tests import recordings
from tests.remux import timed
from tests.scenes import ROOT

SAMPLE = ROOT / "device" / "models" / "sample.mkv"  # its audio is 80 ms early for 16 s


def cut(target: Path, *, length_s: float = 5.0, early_ms: float = 80.0) -> Path:
    """The first seconds of the built-in sample, its packets as they are, with this offset."""
    with av.open(str(SAMPLE)) as given, av.open(str(target), "w") as made:
        tracks = [made.add_stream_from_template(stream, opaque=True) for stream in given.streams]
        later_s = {"video": max(early_ms - 80, 0) / 1000, "audio": max(80 - early_ms, 0) / 1000}
        for packet in timed(given):
            if packet.pts is None or packet.pts * packet.time_base > length_s:
                continue
            ticks = round(Fraction(later_s[packet.stream.type]) / packet.time_base)
            packet.pts += ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks
            packet.stream = tracks[packet.stream.index]
            made.mux(packet)
    return target


def mixed(folder: Path) -> dict[str, str]:
    """Make the files; the result that each must have, by its name."""
    folder.mkdir()
    good = cut(folder / "in sync.mkv", early_ms=0.0)
    cut(folder / "new\nline <b>&.mkv", early_ms=280.0)
    odd = os.fsdecode(b"caf\xe9.mkv")
    (folder / odd).write_bytes(good.read_bytes())
    (folder / "cut short.mkv").write_bytes(good.read_bytes()[:300])
    (folder / "empty.mov").touch()
    (folder / "text.mp4").write_text("not a film\n" * 20)
    recordings.write(folder / "faceless.mkv", duration_s=1.0)
    (folder / "notes.txt").write_text("skipped")
    (folder / "link.mkv").symlink_to("in sync.mkv")
    return {
        odd: "passed", "cut short.mkv": "unreadable", "empty.mov": "unreadable", "faceless.mkv": "unknown",
        "in sync.mkv": "passed", "new\nline <b>&.mkv": "failed", "text.mp4": "unreadable",
    }  # fmt: skip
