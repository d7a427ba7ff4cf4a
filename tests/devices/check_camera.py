"""The real picamera2 on libcamera's virtual camera playing the built-in recording: frames, times, drops, endings.

Runs in tests/devices/tree.sh, not in `make test`: see `make test-devices`. Each check has a process of its own, for
libcamera has one manager per process, and how a process ends is part of what is checked.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
FRAMES = Path("/run/avdrift/frames")
PERIOD_NS = 40_000_000
SOON_S = 5.0  # an idle machine needs less than one; what hangs needs for ever

BEGIN = """
import json, threading, time
from tests.devices.virtual_camera import install
picamera2 = install()
from device.capture.cameras.picamera2_source import CameraSource
from device.capture.cameras.discovery import list_cameras, open_camera
from device.config.settings import CameraSettings
from device.errors import CaptureError
"""


@cache
def played() -> int:
    from tests.devices.virtual_camera import prepare

    return prepare(ROOT / "device" / "models" / "sample.mkv", FRAMES, until_s=8)


def run(code: str) -> tuple[Any, float]:
    """What the code prints as its last line, and how long the process took to end after that, in s."""
    assert played() == 201
    command = [sys.executable, "-c", BEGIN + code]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        last, at_s = "null", 0.0
        for line in process.stdout:
            last, at_s = line, time.monotonic()
        assert process.wait(30) == 0
        return json.loads(last), time.monotonic() - at_s


def say(what: str) -> str:
    return f"\nprint(json.dumps({what}), flush=True)\n"


def lost_after_the_start(numbers: Any) -> int:
    """How many are missing between these numbers of pictures, once the usual interval is known."""
    return int((np.diff(numbers)[5:] - 1).sum())


def test_the_list_gives_the_string_that_opens_it() -> None:
    said, _ = run(
        "found = list_cameras()\n"
        "with open_camera(CameraSettings(device=found[0].device)) as source:\n"
        "    frame = next(iter(source))" + say("[found[0].device, found[0].connection, source.name, frame.rgb.shape]")
    )
    assert said == ["libcamera:Clip", "virtual", "Clip", [240, 320, 3]]


@pytest.mark.quiet
def test_frames_come_at_25_a_second_with_the_pictures_of_their_times() -> None:
    from device.capture.file import FileSource
    from device.records import Frame

    said, end_s = run(
        """
with CameraSource() as source:
    t, means = [], []
    for frame in source:
        t.append(frame.t_ns - picamera2.Picamera2.pace.start_ns)
        means.append(frame.rgb.mean((0, 1)).tolist())
        if len(t) == 150:
            break
    age_ms = (time.monotonic_ns() - frame.t_ns) / 1e6
pace = picamera2.Picamera2.pace
"""
        + say('{"t": t, "means": means, "dropped": source.dropped, "missed": pace.missed, "age_ms": age_ms}')
    )
    numbers = np.array(said["t"]) / PERIOD_NS
    assert np.all(numbers == numbers.round()), "a time is not that of its picture"
    assert said["dropped"] == lost_after_the_start(numbers) <= 75, "a loaded machine explains some, not most"
    assert 0 <= said["age_ms"] < 1000 * SOON_S and end_s < SOON_S
    with FileSource(ROOT / "device" / "models" / "sample.mkv") as source:
        played_means = [item.rgb.mean((0, 1)) for item in source if isinstance(item, Frame) and item.t_ns < 8e9]
    wanted = np.array(played_means)[numbers.astype(int)]
    assert np.abs(np.array(said["means"]) - wanted).max() < 6, "a picture is not the one of its time"


@pytest.mark.quiet
def test_lost_pictures_are_counted() -> None:
    said, _ = run(
        """
with CameraSource() as source:
    pace = picamera2.Picamera2.pace
    pace.skip = {30, 50, 51, 70}
    numbers = []
    for frame in source:
        numbers.append((frame.t_ns - pace.start_ns) // pace.period_ns)
        if numbers[-1] >= 90:
            break
"""
        + say("[source.dropped, numbers]")
    )
    dropped, numbers = said
    assert not {30, 50, 51, 70}.intersection(numbers)
    assert dropped == lost_after_the_start(numbers) >= 4


def test_a_camera_that_stops_is_lost_and_the_process_ends_soon() -> None:
    said, end_s = run(
        """
with CameraSource() as source:
    for frame in source:
        if frame.seq == 20:
            picamera2.Picamera2.pace.frozen = True
            break
    start = time.monotonic()
source = CameraSource()
try:
    for frame in source:
        if frame.seq == 20:
            picamera2.Picamera2.pace.frozen = True
            start = time.monotonic()
except CaptureError as error:
    kind, took = type(error).__name__, time.monotonic() - start
start = time.monotonic()
source.close()
"""
        + say("[kind, took, time.monotonic() - start]")
    )
    assert said[0] == "DeviceLostError" and 1.9 < said[1] < 2 + SOON_S and said[2] < SOON_S and end_s < SOON_S


def test_a_camera_held_by_another_is_busy() -> None:
    said, end_s = run(
        """
with CameraSource():
    try:
        CameraSource()
    except CaptureError as error:
        kind, text = type(error).__name__, str(error)
with CameraSource() as source:
    after = next(iter(source)).seq
"""
        + say("[kind, text, after]")
    )
    assert said[0] == "DeviceBusyError" and "libcamera:Clip" in said[1] and said[2] == 0 and end_s < SOON_S


def test_a_camera_that_is_not_there_is_missing() -> None:
    said, _ = run(
        """
try:
    open_camera(CameraSettings(device="libcamera:imx219"))
except CaptureError as error:
    said = [type(error).__name__, str(error)]
"""
        + say("said")
    )
    assert said[0] == "DeviceMissingError" and "libcamera:Clip" in said[1]


def test_opening_again_and_again_leaves_nothing_behind() -> None:
    said, end_s = run(
        """
from pathlib import Path
def held():
    return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()
counts = []
for _ in range(8):
    with CameraSource() as source:
        next(iter(source))
    counts.append(held())
"""
        + say("counts")
    )
    assert said[2] == said[-1], said
    assert end_s < SOON_S


def test_closing_from_another_thread_ends_the_reader() -> None:
    said, _ = run(
        """
source = CameraSource()
threading.Timer(1.0, source.close).start()
start = time.monotonic()
count = sum(1 for frame in source)
"""
        + say("[count, time.monotonic() - start]")
    )
    assert said[0] > 0 and 0.9 < said[1] < 1 + SOON_S


@pytest.mark.parametrize("hang", ["camera.stop", "the event loop"])
def test_a_driver_that_hangs_does_not_hold_up_the_process(hang: str) -> None:
    stuck = {
        "camera.stop": "picamera2.Picamera2.stop_ = lambda self, request=None: time.sleep(1000)",
        "the event loop": "picamera2.Picamera2.process_requests = lambda self, display: time.sleep(1000)",
    }[hang]
    said, end_s = run(
        f"source = CameraSource()\nnext(iter(source))\n{stuck}\n"
        "time.sleep(.1)\nstart = time.monotonic()\nsource.close()\n" + say("time.monotonic() - start")
    )
    assert said < 1.5 + SOON_S and end_s < SOON_S
