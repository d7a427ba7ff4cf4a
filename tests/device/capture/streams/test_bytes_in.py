"""Pipes and growing files: data as soon as there is some, an end in time, and a close that never blocks."""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from device.capture.streams.bytes_in import GrowingFile, Pipe
from device.capture.streams.inputs import FromGrowingFile
from device.capture.streams.source import Stream
from device.errors import InputMissingError
from tests.streams.flashes import film, watched


def test_a_pipe_gives_what_is_there_then_waits_then_ends() -> None:
    reading, writing = os.pipe()
    pipe = Pipe(reading, within_s=0.2)
    os.write(writing, b"abc")
    assert pipe.read(100) == b"abc"
    with pytest.raises(TimeoutError):
        pipe.read(100)
    assert not pipe.ended
    os.close(writing)
    assert pipe.read(100) == b"" and pipe.ended
    os.close(reading)


def test_a_file_is_read_while_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "growing"
    path.write_bytes(b"abc")
    file = GrowingFile(path, within_s=0.2)
    assert file.read(100) == b"abc" and not file.at_end
    with pytest.raises(TimeoutError):
        file.read(100)
    with path.open("ab") as more:
        more.write(b"def")
    assert file.at_end and file.read(100) == b"def"


@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_closing_ends_a_read(tmp_path: Path, kind: str) -> None:
    reading, writing = os.pipe()
    (tmp_path / "empty").touch()
    source: Pipe | GrowingFile = Pipe(reading, 60) if kind == "pipe" else GrowingFile(tmp_path / "empty", 60)
    threading.Timer(0.2, source.close).start()
    began = time.monotonic()
    assert source.read(1) == b"" and time.monotonic() - began < 5
    os.close(reading)
    os.close(writing)


def test_a_recording_is_followed_from_its_present_end(tmp_path: Path) -> None:
    """What lies in it already is not measured: the first flash comes after half of the film has been written."""
    whole, path = film().read_bytes(), tmp_path / "growing.mkv"
    path.write_bytes(whole[: len(whole) // 2])

    def write() -> None:
        time.sleep(1.0)
        with path.open("ab") as out:
            for begin in range(len(whole) // 2, len(whole), len(whole) // 40):
                out.write(whole[begin : begin + len(whole) // 40])
                out.flush()
                time.sleep(0.5)

    threading.Thread(target=write, daemon=True).start()
    with Stream(FromGrowingFile(path)).open() as items:
        found = watched(items, 3)
        items.close()
    assert len(found.apart_ms()) >= 2 and max(map(abs, found.apart_ms())) < 5


def test_a_file_that_cannot_be_followed(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(InputMissingError):
            FromGrowingFile(path).open()
    shutil.rmtree(tmp_path)
