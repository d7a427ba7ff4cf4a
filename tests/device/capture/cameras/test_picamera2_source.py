"""CameraSource delivers, times and counts frames, returns their buffers, and names each failure."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from device.capture.cameras import picamera2_device
from device.capture.cameras.picamera2_device import INSTALL, load_library
from device.capture.cameras.picamera2_source import CameraSource
from device.config.settings import CameraSettings
from device.errors import CaptureError, DeviceBusyError, DeviceLostError, DeviceMissingError, DevicePermissionError
from device.records import NS_PER_MS, NS_PER_S, Frame
from tests.device.capture.cameras.fake_picamera2 import IMX219, PI_LIMITS, USB, FakeLibrary

ROOT = Path(__file__).resolve().parents[4]
LONG_S = 60.0


def opened(library: FakeLibrary, **settings: float | str) -> CameraSource:
    return CameraSource(CameraSettings(**settings), library=library, lost_after_s=LONG_S)  # type: ignore[arg-type]


def read(source: CameraSource, library: FakeLibrary, stamps_ns: list[int], **metadata: object) -> list[Frame]:
    """The frames of pictures with these stamps, each given when the one before was read."""
    frames: Iterator[Frame] = iter(source)
    found = []
    for stamp_ns in stamps_ns:
        library.camera.give(stamp_ns, **metadata)
        found.append(next(frames))
    return found


def stamps(count: int, period_ms: float = 40.0) -> list[int]:
    start_ns = time.monotonic_ns() - round(count * period_ms * NS_PER_MS)
    return [start_ns + round(number * period_ms * NS_PER_MS) for number in range(count)]


# Times


def test_a_frame_lies_in_the_middle_of_its_exposure() -> None:
    library = FakeLibrary(IMX219)
    given = stamps(3)
    with opened(library) as source:
        frames = read(source, library, given, ExposureTime=10_000)
    shortest_us = PI_LIMITS["FrameDurationLimits"][0]
    assert [frame.t_ns for frame in frames] == [t + shortest_us * 500 - 5_000_000 for t in given]
    assert [frame.seq for frame in frames] == [0, 1, 2]


def test_a_usb_camera_has_no_sensor_metadata() -> None:
    library = FakeLibrary(USB, limits={})
    library.properties = {"Model": "C270"}
    given = stamps(2)
    with opened(library) as source:
        assert [frame.t_ns for frame in read(source, library, given)] == given


def test_stamps_on_the_boot_clock_become_monotonic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("device.capture.cameras.picamera2_source.boot_minus_monotonic_ns", lambda: 3600 * NS_PER_S)
    library = FakeLibrary(IMX219, limits={})
    given = stamps(2)
    with opened(library) as source:
        frames = read(source, library, [t + 3600 * NS_PER_S for t in given])
    assert [frame.t_ns for frame in frames] == given


def test_pictures_without_a_stamp_or_out_of_order_are_left_out() -> None:
    library = FakeLibrary(IMX219, limits={})
    first, second, third = stamps(3)
    with opened(library) as source:
        frames = iter(source)
        found: list[Frame] = []
        for stamp_ns in (0, second, first, -5, second):
            library.camera.give(stamp_ns)
            if stamp_ns == second and not found:
                found.append(next(frames))
        library.camera.give(third)
        found.append(next(frames))
    assert [(frame.seq, frame.t_ns) for frame in found] == [(0, second), (1, third)]


def test_missing_pictures_are_counted() -> None:
    library = FakeLibrary(IMX219)
    given = stamps(50)
    with opened(library) as source:
        assert source.dropped == 0
        read(source, library, [t for number, t in enumerate(given) if number not in (20, 30, 31)])
        assert source.dropped == 3


# Pictures


def test_the_picture_is_the_one_that_was_given() -> None:
    library = FakeLibrary(IMX219)
    with opened(library, width_px=320, height_px=240) as source:
        frames = iter(source)
        for level in (40, 200):
            library.camera.give(level=level)
            rgb = next(frames).rgb
            assert rgb.shape == (240, 320, 3) and rgb.dtype == np.uint8
            assert np.ptp(rgb[1:]) == 0 and abs(int(rgb[1, 0, 0]) - (level - 16) * 255 / 219) < 2


@pytest.mark.parametrize("padding", [0, 64])
def test_a_picture_stays_after_its_buffer_went_back(padding: int) -> None:
    library = FakeLibrary(IMX219)
    library.padding = padding
    with opened(library) as source:
        (frame,) = read(source, library, [time.monotonic_ns()])
        assert library.camera.requests[0].uses == 0 and not library.camera.requests[0].buffer.any()
    assert frame.rgb.min() > 100 and frame.rgb.shape == (480, 640, 3)


def test_every_buffer_goes_back_and_few_are_held() -> None:
    library = FakeLibrary(IMX219)
    source = opened(library)
    for stamp_ns in stamps(10):
        library.camera.give(stamp_ns)
        assert sum(request.uses for request in library.camera.requests) <= 2
    frames = iter(source)
    kept = [next(frames).t_ns, next(frames).t_ns]
    assert kept == sorted(kept)
    library.camera.give()
    source.close()
    assert [request.uses for request in library.camera.requests] == [0] * 11


def test_a_late_reader_gets_the_newest_pictures_and_the_count_of_the_others() -> None:
    library = FakeLibrary(IMX219, limits={})
    given = stamps(40)
    with opened(library) as source:
        frames = iter(source)
        found = []
        for t in given[:20]:
            library.camera.give(t)
            found.append(next(frames).t_ns)
        for t in given[20:]:
            library.camera.give(t)
        found += [next(frames).t_ns, next(frames).t_ns]
        assert found == given[:20] + given[-2:]
        assert source.dropped == 18


def test_damaged_jpegs_of_a_usb_camera_are_left_out() -> None:
    library = FakeLibrary(USB, limits={})
    library.form = "MJPEG"
    source = CameraSource(library=library, lost_after_s=0.2)
    library.camera.give()  # grey bytes are no JPEG
    with source, pytest.raises(DeviceLostError):
        next(iter(source))


# What the camera is asked for


def test_a_small_picture_of_the_whole_view_at_the_rate_wanted() -> None:
    library = FakeLibrary(IMX219)
    with opened(library, width_px=641, height_px=481, rate_hz=30.0, rotation_deg=180):
        asked = library.camera.asked
    assert asked["main"] == {"size": (640, 480), "format": "YUV420"}
    assert asked["sensor"] == {"output_size": (1640, 1232)} and asked["raw"] is None
    assert asked["controls"]["FrameDurationLimits"] == (33_333, 33_333)
    assert asked["transform"] == SimpleNamespace(hflip=1, vflip=1) and asked["queue"] is False


@pytest.mark.parametrize("can_turn", [True, False])
@pytest.mark.parametrize("rotation_deg", [0, 180])
def test_a_camera_that_cannot_turn_its_pictures_has_them_turned(can_turn: bool, rotation_deg: float) -> None:
    library = FakeLibrary(USB)
    library.can_turn = can_turn
    with opened(library, rotation_deg=rotation_deg) as source:
        (frame,) = read(source, library, [time.monotonic_ns()])
    here = -1 if rotation_deg and not can_turn else 0  # the fake camera's white line comes as it was made
    assert frame.rgb[here].min() == 255 > frame.rgb[-1 - here].max() and frame.rgb.flags.c_contiguous


def test_a_rate_that_the_camera_cannot_give_becomes_the_nearest() -> None:
    library = FakeLibrary(IMX219)
    with opened(library, rate_hz=60.0):
        assert library.camera.asked["controls"]["FrameDurationLimits"] == (24_000, 24_000)


def test_nothing_is_asked_of_a_camera_that_has_no_controls() -> None:
    library = FakeLibrary(USB, limits={})
    library.properties = {}
    with opened(library):
        assert library.camera.asked["controls"] == {} and library.camera.controls == [{}]
        assert library.camera.asked["transform"] == SimpleNamespace(hflip=0, vflip=0)


def test_exposure_is_held_after_it_settled() -> None:
    library = FakeLibrary(IMX219)
    with opened(library) as source:
        read(source, library, stamps(40), ExposureTime=9_000, AnalogueGain=1.5)
        automatic, held = library.camera.controls
    assert automatic["AeEnable"] is True
    assert held["AeEnable"] is False and held["ExposureTime"] == 9_000


# Which camera


def test_auto_is_the_only_one_and_each_can_be_named() -> None:
    for device in ("auto", "libcamera:" + IMX219["Id"], IMX219["Id"]):
        with opened(FakeLibrary(IMX219), device=device) as source:
            assert source.device == "libcamera:" + IMX219["Id"] and source.name == "imx219"
    library = FakeLibrary(IMX219, USB)
    with opened(library, device="libcamera:" + USB["Id"]):
        assert library.camera.info == USB


def test_a_camera_that_was_connected_after_libcameras_first_search() -> None:
    library = FakeLibrary()
    library.comes_late = [IMX219]
    with opened(library) as source:
        assert source.name == "imx219"


@pytest.mark.parametrize(
    ("infos", "device", "words"),
    [
        ([], "auto", ["no camera is connected", "cable"]),
        ([IMX219, USB], "auto", ["2 cameras", "libcamera:" + IMX219["Id"], "libcamera:" + USB["Id"]]),
        ([USB], "libcamera:" + IMX219["Id"], ["no such camera", IMX219["Id"], USB["Id"]]),
        ([], "libcamera:\x1b[31m", ["no camera is connected"]),
    ],
)
def test_a_camera_that_is_not_there(infos: list[dict[str, Any]], device: str, words: list[str]) -> None:
    with pytest.raises(DeviceMissingError) as caught:
        CameraSource(_settings(device), library=FakeLibrary(*infos))
    assert all(word in str(caught.value) for word in words), caught.value


def _settings(device: str) -> CameraSettings:
    settings = CameraSettings()
    object.__setattr__(settings, "device", device)  # past the check of the configuration
    return settings


def test_a_node_that_may_not_be_opened_is_said_instead_of_no_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picamera2_device, "closed_nodes", lambda among: [Path("/dev/media0")])
    with pytest.raises(DevicePermissionError, match=r"/dev/media0.*video"):
        CameraSource(library=FakeLibrary())


# Opening that fails

BUSY = RuntimeError("Failed to acquire camera: Device or resource busy")


@pytest.mark.parametrize(
    ("where", "error", "kind"),
    [
        ("acquire", BUSY, DeviceBusyError),
        ("start", RuntimeError("Failed to start camera: Device or resource busy"), DeviceBusyError),
        ("__init__", PermissionError(13, "Permission denied", "/dev/dma_heap/linux,cma"), DevicePermissionError),
        ("__init__", IndexError("list index out of range"), DeviceMissingError),
        ("configure", RuntimeError("Configuration failed: {}"), DeviceMissingError),
        ("start", RuntimeError("Failed to start camera: Broken pipe"), DeviceMissingError),
        ("configure", KeyError("main"), DeviceMissingError),
    ],
)
def test_each_failure_is_its_own_error(where: str, error: Exception, kind: type[CaptureError]) -> None:
    library = FakeLibrary(IMX219)
    library.fails[where] = error
    with pytest.raises(kind) as caught:
        CameraSource(library=library)
    assert IMX219["Id"] in str(caught.value)
    assert not library.camera.is_open


def held_now() -> tuple[int, int]:
    """Open files and threads of this process."""
    return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()


@pytest.mark.parametrize("where", ["__init__", "acquire", "configure", "start"])
def test_weeks_of_trying_leave_nothing_behind(where: str) -> None:
    library = FakeLibrary(IMX219)
    library.fails[where] = RuntimeError("not today")
    before = held_now()
    for _ in range(50):
        with pytest.raises(CaptureError):
            CameraSource(library=library)
    assert all(now <= then for now, then in zip(held_now(), before, strict=True))  # an earlier test's may end meanwhile
    library.fails.clear()
    with opened(library) as source:
        assert read(source, library, [time.monotonic_ns()])


def test_a_form_that_nobody_knows() -> None:
    library = FakeLibrary(USB)
    library.form = "H264"
    with pytest.raises(DeviceMissingError, match="H264"):
        CameraSource(library=library)
    assert not library.camera.is_open


def test_without_picamera2_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(DeviceMissingError) as caught:
        load_library()
    assert INSTALL in str(caught.value) and "apt install python3-picamera2" in INSTALL


def test_packages_of_the_system_that_do_not_fit_numpy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "picamera2.py").write_text("raise ValueError('numpy.dtype size changed')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "picamera2", raising=False)
    with pytest.raises(DeviceMissingError, match=r"numpy\.dtype size changed"):
        load_library()


# The end


def test_nothing_for_a_while_is_lost_and_says_whether_the_camera_is_still_there() -> None:
    for stays, words in ((True, "no usable frame"), (False, "was disconnected")):
        library = FakeLibrary(IMX219)
        with CameraSource(library=library, lost_after_s=0.3) as source:
            frames = iter(source)
            library.camera.give()
            next(frames)
            if not stays:
                library.infos.clear()
            with pytest.raises(DeviceLostError, match=words):
                next(frames)
        assert not library.camera.is_open


def test_pictures_that_cannot_be_placed_in_time_do_not_keep_it_alive() -> None:
    library = FakeLibrary(IMX219)
    stop = threading.Event()

    def feed() -> None:
        while not stop.wait(0.01):
            library.camera.give(0)

    with CameraSource(library=library, lost_after_s=0.3) as source:
        feeder = threading.Thread(target=feed)
        feeder.start()
        with pytest.raises(DeviceLostError):
            next(iter(source))
        stop.set()
        feeder.join()


def test_closing_from_another_thread_ends_a_waiting_reader() -> None:
    library = FakeLibrary(IMX219)
    source = opened(library)
    closer = threading.Timer(0.1, source.close)
    closer.start()
    assert list(source) == []
    closer.join()
    assert not library.camera.is_open
    source.close()


def test_a_picture_that_comes_while_closing_is_not_held() -> None:
    library = FakeLibrary(IMX219)
    source = opened(library)
    callback = library.camera.post_callback
    source.close()
    library.camera.started, library.camera.post_callback = True, callback
    assert library.camera.give().uses == 0


def test_a_close_that_fails_is_no_error() -> None:
    library = FakeLibrary(IMX219)
    library.fails["close"] = RuntimeError("Unable to stop preview.")
    opened(library).close()


def test_it_is_read_once() -> None:
    with opened(FakeLibrary(IMX219)) as source:
        source._closed = True
        assert list(source) == []
        with pytest.raises(RuntimeError, match="read once"):
            next(iter(source))
        source._closed = False


def test_a_driver_that_hangs_while_closing_does_not_hold_up_the_process() -> None:
    code = """
import atexit, threading, time
from device.capture.cameras.picamera2_source import CameraSource
from tests.device.capture.cameras.fake_picamera2 import IMX219, FakeLibrary
library = FakeLibrary(IMX219)
library.close_waits = threading.Event()
source = CameraSource(library=library)
atexit.register(library.camera.close)  # as picamera2 does
start = time.monotonic()
source.close()
print("closed", flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "closed\n" and "does not stop" in done.stderr
