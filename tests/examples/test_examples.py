"""The examples work, and say what is true of clips whose truth is known."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest

from device.records import NS_PER_S, Frame
from examples import clean_dataset, folder_to_dataframe, webcam
from tests.scenes import scene_folder, silent, talking, talking_items
from train.scenes.sliced_files import slice_file

ROOT = Path(__file__).resolve().parents[2]


@cache
def clips() -> Path:
    """One in sync, one with early audio, a silent one, one that is no recording, and one that no example looks at."""
    folder = scene_folder() / "clips"
    folder.mkdir()
    shutil.copy(talking(), folder / "a-good.mkv")
    slice_file(talking(), folder / "b-early.mkv", 120)
    shutil.copy(silent(), folder / "c-silent.mkv")
    (folder / "d-broken.mp4").write_bytes(b"no recording")
    (folder / "notes.txt").write_text("no recording either")
    return folder


def test_a_folder_becomes_a_table() -> None:
    found = folder_to_dataframe.table(clips())
    assert list(found["state"]) == ["measuring", "measuring", "no_speech", "unreadable"]
    assert list(found["offset_ms"].iloc[:2]) == pytest.approx([0, 120], abs=20)
    assert found["offset_ms"].iloc[2:].isna().all()


def test_a_data_set_is_cleaned(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    program = [sys.executable, *map(str, (ROOT / "examples" / "clean_dataset.py", clips(), table))]
    done = subprocess.run(program, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["action"] for row in rows] == ["keep", "shift", "drop", "drop"]
    assert float(rows[1]["delay_audio_ms"]) == pytest.approx(120, abs=20)
    assert rows[2]["why"] == "no_speech" and "d-broken.mp4" in rows[3]["why"]
    assert list(rows[0]) == clean_dataset.COLUMNS


class RecordedCamera:
    """Gives the talking face as a webcam does, puts the sound before each picture into the queue, and is the clock."""

    def __init__(self, blocks: webcam.Blocks) -> None:
        self._blocks, self._items, self._t_s = blocks, iter(talking_items()), 0.0

    def now(self) -> float:
        return self._t_s

    def read(self) -> tuple[bool, np.ndarray | None]:
        for item in self._items:
            t_s = item.t_ns / NS_PER_S
            if isinstance(item, Frame):
                self._t_s = t_s
                return True, item.rgb[:, :, ::-1]
            self._blocks.put((np.repeat(item.samples, webcam.RATE_HZ // item.rate_hz), t_s))
        return False, None


def test_a_webcam_is_watched() -> None:
    said: list[str] = []
    blocks: webcam.Blocks = SimpleQueue()
    camera = RecordedCamera(blocks)
    webcam.watch(camera, blocks, said.append, camera.now)
    numbers = [float(line.split()[0]) for line in said if "in_sync" in line]
    assert len(numbers) >= 3 and numbers == pytest.approx([0] * len(numbers), abs=20)
