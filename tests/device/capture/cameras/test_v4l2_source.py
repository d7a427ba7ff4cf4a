"""A USB camera through Video4Linux delivers frames with the kernel's times, and names each failure.

FFmpeg's own test pictures stand in for the camera, with time stamps as the kernel would give them.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from device.capture.cameras.v4l2_source import V4l2Source
from device.config.settings import CameraSettings
from device.errors import CaptureError, DeviceBusyError, DeviceLostError, DeviceMissingError, DevicePermissionError
from device.records import NS_PER_MS, Frame

SETTINGS = CameraSettings(device="v4l2:/dev/video7", width_px=320, height_px=240, rate_hz=25)


def ffmpegs_pictures(seconds: float = 2.0) -> tuple[Callable[..., Any], int]:
    """An opener of FFmpeg's test pictures, stamped as those of the last seconds; and the first stamp, in ns."""
    start_us = time.monotonic_ns() // 1000 - 3_000_000
    graph = f"testsrc=size=320x240:rate=25:duration={seconds},"
    graph += f"settb=1/1000000,setpts=PTS+{start_us},format=yuyv422"

    def opener(path: str, **asked: Any) -> Any:
        assert (path, asked["format"]) == ("/dev/video7", "v4l2")
        assert asked["options"] == {"timestamps": "default", "framerate": "25", "video_size": "320x240"}
        return av.open(graph, format="lavfi")

    return opener, start_us * 1000


class FakeContainer:
    """Gives what a test puts in; `error` ends it."""

    def __init__(self) -> None:
        self.streams = SimpleNamespace(
            video=[SimpleNamespace(time_base=SimpleNamespace(numerator=1, denominator=1_000_000))]
        )
        self.changed = threading.Condition()
        self.packets: list[Any] = []
        self.error: Exception | None = None
        self.closed = False

    def give(self, pts: int | None, level: int = 100) -> None:
        picture = av.VideoFrame.from_ndarray(np.full((240, 320, 3), level, np.uint8), "rgb24")
        stamped = SimpleNamespace(decode=lambda: [picture])
        picture.pts = pts
        self.put(stamped)

    def put(self, packet: Any) -> None:
        with self.changed:
            self.packets.append(packet)
            self.changed.notify_all()

    def end(self, error: Exception) -> None:
        with self.changed:
            self.error = error
            self.changed.notify_all()

    def demux(self, stream: Any) -> Any:
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.packets or self.error, 0.05)
                if self.error and not self.packets:
                    raise self.error
                packet = self.packets.pop(0) if self.packets else SimpleNamespace(decode=list)
            yield packet

    def close(self) -> None:
        self.closed = True


def opened(container: FakeContainer, lost_after_s: float = 60.0, *, first_us: int | None = None) -> V4l2Source:
    container.give(first_us or time.monotonic_ns() // 1000)
    return V4l2Source(SETTINGS, opener=lambda *path, **asked: container, lost_after_s=lost_after_s)


def read_all(source: V4l2Source) -> list[Frame]:
    frames = []
    with source, pytest.raises(DeviceLostError):
        for frame in source:
            frames.append(frame)
    return frames


# Times and pictures


@pytest.mark.parametrize("steps_ms", [[40] * 20, [33] * 15 + [67] * 15, [40, 48, 32, 40, 120, 40]])
def test_frames_carry_the_kernels_times_whatever_the_rate(steps_ms: list[int]) -> None:
    container = FakeContainer()
    first_us = time.monotonic_ns() // 1000 - 5_000_000
    times_us = [first_us + 1000 * sum(steps_ms[:n]) for n in range(len(steps_ms))]
    with opened(container, first_us=first_us) as source:
        frames = iter(source)
        found = [next(frames)]
        for at_us in times_us[1:]:
            container.give(at_us)
            found.append(next(frames))
    assert [(frame.seq, frame.t_ns) for frame in found] == [(n, at_us * 1000) for n, at_us in enumerate(times_us)]


def test_real_pictures_of_ffmpeg_come_out_right_side_up_and_at_their_times() -> None:
    for turned in (False, True):
        opener, start_ns = ffmpegs_pictures()
        settings = CameraSettings("v4l2:/dev/video7", 25, 320, 240, 180 if turned else 0)
        frames = read_all(V4l2Source(settings, opener=opener))
        assert frames and all((frame.t_ns - start_ns) % (40 * NS_PER_MS) == 0 for frame in frames)
        with av.open("testsrc=size=320x240:rate=25:duration=2", format="lavfi") as container:
            pictures = [picture.to_ndarray(format="rgb24") for picture in container.decode(video=0)]
        for frame in frames:
            wanted = pictures[(frame.t_ns - start_ns) // (40 * NS_PER_MS)]
            seen = frame.rgb[::-1, ::-1] if turned else frame.rgb
            assert np.abs(seen.astype(int) - wanted).mean() < 8 and seen.shape == (240, 320, 3)


def test_a_stamp_of_another_clock_is_no_usable_picture() -> None:
    container = FakeContainer()
    with opened(container, lost_after_s=0.3) as source:
        frames = iter(source)
        next(frames)
        container.give(time.time_ns() // 1000)
        container.give(None)
        with pytest.raises(DeviceLostError, match="no usable frame"):
            next(frames)


def test_a_damaged_packet_is_left_out() -> None:
    def fail() -> list[Any]:
        raise av.error.InvalidDataError(errno.EINVAL, "damaged")

    container = FakeContainer()
    with opened(container) as source:
        frames = iter(source)
        next(frames)
        container.put(SimpleNamespace(decode=fail))
        container.give(time.monotonic_ns() // 1000)
        assert next(frames).seq == 1


def test_a_late_reader_gets_the_newest() -> None:
    container = FakeContainer()
    with opened(container) as source:
        frames = iter(source)
        last_ns = next(frames).t_ns
        for number in range(1, 31):
            container.give((last_ns + number * NS_PER_MS) // 1000)
        while container.packets:
            time.sleep(0.01)
        container.give((last_ns + 31 * NS_PER_MS) // 1000)
        while container.packets:
            time.sleep(0.01)
        assert next(frames).t_ns >= last_ns + 29 * NS_PER_MS


# Errors


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file"), DeviceMissingError, "no such camera"),
        (PermissionError(errno.EACCES, "Permission denied"), DevicePermissionError, "usermod -aG video"),
        (OSError(errno.EBUSY, "Device or resource busy"), DeviceBusyError, "held by"),
        (OSError(errno.EIO, "Input/output error"), DeviceMissingError, "Input/output error"),
        (av.error.InvalidDataError(errno.EINVAL, "x"), DeviceMissingError, "cannot be started"),
        (ValueError("odd"), DeviceMissingError, "odd"),
    ],
)
def test_each_failure_to_open_is_its_own_error(error: Exception, kind: type[CaptureError], words: str) -> None:
    def opener(*path: Any, **asked: Any) -> Any:
        raise error

    with pytest.raises(kind, match=words) as caught:
        V4l2Source(SETTINGS, opener=opener)
    assert "/dev/video7" in str(caught.value)


@pytest.mark.parametrize(("form", "asked"), [("mjpeg", "mjpeg"), ("raw", "yuyv422"), ("auto", None)])
def test_the_camera_is_asked_for_the_format_of_the_settings(form: str, asked: str | None) -> None:
    options: dict[str, str] = {}

    def opener(*path: Any, **given: Any) -> Any:
        options.update(given["options"])
        raise FileNotFoundError

    with pytest.raises(DeviceMissingError):
        V4l2Source(replace(SETTINGS, format=form), opener=opener)
    assert options.get("input_format") == asked


@pytest.mark.parametrize(
    ("device", "words"), [("v4l2:/dev/none", "no such camera"), ("v4l2:/dev/null", "cannot be started")]
)
def test_the_real_ffmpeg_on_what_is_no_camera(device: str, words: str) -> None:
    with pytest.raises(DeviceMissingError, match=words):
        V4l2Source(CameraSettings(device=device))


def test_unplugged_in_the_middle() -> None:
    container = FakeContainer()
    with opened(container) as source:
        frames = iter(source)
        next(frames)
        container.end(OSError(errno.ENODEV, "No such device"))
        with pytest.raises(DeviceLostError, match=r"was disconnected.*No such device"):
            next(frames)
    assert container.closed


def test_a_camera_that_stops_giving_is_lost() -> None:
    container = FakeContainer()
    with opened(container, lost_after_s=0.3) as source:
        frames = iter(source)
        next(frames)
        with pytest.raises(DeviceLostError, match="no usable frame"):
            next(frames)
        container.end(OSError(errno.ENODEV, "No such device"))


def test_a_camera_that_never_answers(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("device.capture.cameras.v4l2_source.OPEN_WITHIN_S", 0.2)
    monkeypatch.setattr("device.capture.cameras.v4l2_source.CLOSE_WITHIN_S", 0.2)
    hanging = threading.Event()

    def opener(*path: Any, **asked: Any) -> Any:
        hanging.wait()
        raise OSError(errno.ENODEV, "gone")

    with pytest.raises(DeviceMissingError, match="no frame within"):
        V4l2Source(SETTINGS, opener=opener)
    assert "does not stop" in caplog.text
    hanging.set()


def test_closing_from_another_thread_ends_a_waiting_reader() -> None:
    container = FakeContainer()
    source = opened(container)
    closer = threading.Timer(0.1, source.close)
    closer.start()
    assert len(list(source)) <= 1
    container.end(OSError(errno.ENODEV, "gone"))
    closer.join()
    source.close()
    assert container.closed


def test_no_thread_and_no_file_is_left() -> None:
    before = len(list(Path("/proc/self/fd").iterdir())), threading.active_count()
    for _ in range(20):
        opener, _start = ffmpegs_pictures(0.2)
        with V4l2Source(SETTINGS, opener=opener) as source:
            next(iter(source))
    assert (len(list(Path("/proc/self/fd").iterdir())), threading.active_count()) == before
