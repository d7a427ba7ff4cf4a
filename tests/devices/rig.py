"""A whole rig without a camera and a microphone: avdrift on a virtual camera and on a null sink, playing one clip.

Runs in tests/devices/tree.sh. The daemon is a process of its own, the virtual camera in it; this one plays the sound.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from device.capture.file import FileSource
from device.records import NS_PER_S, Chunk
from tests.devices.null_sink import RATE_HZ
from tests.devices.virtual_camera import STARTED

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Clip:
    """A stretch of a recording, whose sound is ahead of its picture by `own_ms`."""

    path: Path
    from_s: float
    until_s: float
    own_ms: float

    @property
    def argument(self) -> str:
        return f"{self.path}@{self.from_s:g}-{self.until_s:g}"

    def sound(self) -> tuple[npt.NDArray[np.float32], float]:
        """Its samples at RATE_HZ from its first picture on, and how long its pictures last, in s. No gaps in either."""
        values: list[npt.NDArray[np.float32]] = []
        first_ns, frames, pictures_ns = 0, 0, 0
        with FileSource(self.path, audio_rate_hz=RATE_HZ) as source:
            for item in source:
                if isinstance(item, Chunk):
                    first_ns = item.t_ns if not values else first_ns
                    values.append(item.samples)
                elif self.from_s * NS_PER_S <= item.t_ns <= self.until_s * NS_PER_S:
                    pictures_ns, frames = pictures_ns if frames else item.t_ns, frames + 1
        length_s = frames / 25
        numbers = round((pictures_ns - first_ns) * RATE_HZ / NS_PER_S) + np.arange(round(length_s * RATE_HZ))
        heard = np.concatenate(values)
        inside = (numbers >= 0) & (numbers < len(heard))
        return np.where(inside, heard[numbers.clip(0, len(heard) - 1)], 0).astype(np.float32), length_s


class Talking:
    """What is to be heard when: the clip's sound with its picture on the virtual camera, ahead of it by `offset_ms`."""

    def __init__(self, clip: Clip) -> None:
        self.offset_ms = 0.0
        self._own_ms = clip.own_ms
        self._samples, self._length_s = clip.sound()
        self._noise = np.random.default_rng(1).normal(0, 3e-4, RATE_HZ).astype(np.float32)

    def __call__(self, times_s: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        noise = self._noise[: len(times_s)]
        if not STARTED.exists():
            return noise
        begin_s = int(STARTED.read_text()) / NS_PER_S + (self._own_ms - self.offset_ms) / 1000
        into_s = (times_s - begin_s) % self._length_s
        return self._samples[(into_s * RATE_HZ).round().astype(int) % len(self._samples)] + noise


class Avdrift:
    """avdrift with the clip as its camera. `lines` are what it printed on stdout, with the time of each in s."""

    def __init__(self, clip: Clip, *arguments: str) -> None:
        command = [sys.executable, "-m", "tests.devices.virtual_camera", clip.argument, *arguments]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        STARTED.unlink(missing_ok=True)
        self.begun_s = time.monotonic()
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.lines: list[tuple[float, str]] = []
        self.said: list[str] = []
        self._threads = [threading.Thread(target=self._read), threading.Thread(target=self._read_errors)]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append((time.monotonic(), line))

    def _read_errors(self) -> None:
        assert self.process.stderr
        self.said += list(self.process.stderr)

    @property
    def reports(self) -> list[tuple[float, dict[str, Any]]]:
        return [(t_s, json.loads(line)) for t_s, line in self.lines if line.startswith("{")]

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def wait(self, timeout_s: float) -> int:
        code = self.process.wait(timeout_s)
        for thread in self._threads:
            thread.join(10)
        return code

    def stop(self) -> float:
        """How long it took, in s."""
        begun_s = time.monotonic()
        self.process.terminate()
        self.wait(30)
        return time.monotonic() - begun_s
