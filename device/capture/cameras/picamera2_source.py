"""A camera through libcamera and picamera2 as a source of frames: the Raspberry Pi's own, and most USB cameras.

Frames are small, come at the requested rate, and lie in a few buffers that belong to the camera. Each is copied, and
its buffer goes back to the camera. No frame is stored. For times see device.capture.cameras.exposure.

Method
    picamera2's thread puts each finished frame into a short queue, which drops the oldest when the reader is late. The
    reader copies, so that the camera's thread has almost nothing to do.
"""

from __future__ import annotations

import gc
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from device.capture.cameras.exposure import (
    GapCounter,
    SensorClock,
    boot_minus_monotonic_ns,
    middle_of_exposure_ns,
    readout_ns,
)
from device.capture.cameras.exposure_lock import ExposureLock
from device.capture.cameras.picamera2_device import (
    CLOSE_WITHIN_S,
    PREFIX,
    choose,
    configure,
    error_of,
    load_library,
    open_camera,
    release,
)
from device.capture.cameras.pixels import FORMATS, to_picture
from device.capture.source import Closing
from device.config.settings import CameraSettings
from device.errors import CaptureError, DeviceLostError, DeviceMissingError
from device.pictures import brightness, turned
from device.records import Frame

LOST_AFTER_S = 2.0
_MAX_WAITING = 2  # frames; the other buffers are for the camera to fill
_SAMPLE_EVERY_PX = 16


class CameraSource(Closing):
    """The frames of one camera, from when it is opened until `close`.

    settings.device: `libcamera:` and an identity from `list_cameras`, or `auto` for the only camera.
    library: the picamera2 module; given by tests.
    Attributes: `device` and `name`, for a person; `dropped`, the number of missing frames so far.
    Errors: DeviceMissingError, DeviceBusyError, DevicePermissionError on opening; DeviceLostError while reading.
    """

    def __init__(
        self, settings: CameraSettings | None = None, *, library: Any = None, lost_after_s: float = LOST_AFTER_S
    ) -> None:
        settings = settings or CameraSettings()
        library = library or load_library()
        number, info = choose(library, settings.device)
        self.device, self.name = PREFIX + str(info["Id"]), str(info.get("Model", "camera"))
        self.dropped = 0
        self.rate_ppm: float | None = None  # the computer's clock stamps its frames
        self._library, self._lost_after_s = library, lost_after_s
        self._arrived = threading.Condition()
        self._waiting: deque[Any] = deque()  # requests of picamera2, each with one reference held by us
        self._reading = threading.Lock()  # held while a frame's buffer is read
        self._closed = False
        self._read = False
        self._camera = open_camera(library, number, self.device)
        try:
            self._start(settings)
        except Exception as error:
            release(self._camera)
            if isinstance(error, CaptureError):
                raise
            raise error_of(error, self.device) from error

    def _start(self, settings: CameraSettings) -> None:
        camera = self._camera
        self._rotate = configure(self._library, camera, settings)
        given = camera.camera_configuration()["main"]
        self._format, self._size, self._stride = given["format"], given["size"], given["stride"]
        if self._format not in FORMATS:
            what = f"delivers its frames as {self._format}, which cannot be read here"
            raise DeviceMissingError(what, where=self.device, remedy="Use another camera.")
        limits = camera.camera_controls
        shortest_us = limits["FrameDurationLimits"][0] if "FrameDurationLimits" in limits else None
        # USB cameras report nothing about their sensor
        has_sensor = "ColorFilterArrangement" in camera.camera_properties
        self._readout_ns = readout_ns(self.name, shortest_us) if has_sensor else 0
        self._clock, self._gaps = SensorClock(), GapCounter()
        self._exposure_lock = ExposureLock(limits)
        camera.set_controls(self._exposure_lock.automatic())
        camera.post_callback = self._on_request
        camera.start()

    def __iter__(self) -> Iterator[Frame]:
        if self._read:
            raise RuntimeError("a CameraSource is read once: open the camera again")
        self._read = True
        seq, last_ns, alive_s = 0, 0, time.monotonic()
        while (request := self._next(alive_s + self._lost_after_s)) is not None:
            try:
                frame = self._frame(request, seq)
            finally:
                request.release()
                self._reading.release()
            if frame is None or frame.t_ns <= last_ns:
                continue
            seq, last_ns, alive_s = seq + 1, frame.t_ns, time.monotonic()
            self._gaps.observe(frame.t_ns)
            self.dropped = self._gaps.missing
            yield frame

    def close(self) -> None:
        """Stop and release the camera within CLOSE_WITHIN_S; safe from any thread. A waiting reader ends."""
        with self._arrived:
            if self._closed:
                return
            self._closed = True
            waiting, self._waiting = self._waiting, deque()
            self._arrived.notify_all()
        for request in waiting:
            request.release()
        held = self._reading.acquire(timeout=CLOSE_WITHIN_S / 3)
        release(self._camera)
        self._camera = None
        if held:
            self._reading.release()
        # picamera2's objects form reference cycles and keep their buffers, which the next opening needs, until
        # collected.
        gc.collect()

    def _on_request(self, request: Any) -> None:
        """Called in picamera2's thread, with its locks held: must be quick and must not raise."""
        oldest = None
        with self._arrived:
            if self._closed:
                return
            if len(self._waiting) == _MAX_WAITING:
                oldest = self._waiting.popleft()
            request.acquire()
            self._waiting.append(request)
            self._arrived.notify()
        if oldest is not None:
            oldest.release()

    def _next(self, until_s: float) -> Any:
        """The next request, with `_reading` held; None when this source was closed."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._waiting or self._closed, max(0.0, until_s - time.monotonic()))
            if self._closed:
                return None
            if self._waiting and time.monotonic() < until_s:
                self._reading.acquire()
                return self._waiting.popleft()
        raise self._lost()

    def _frame(self, request: Any, seq: int) -> Frame | None:
        metadata = request.get_metadata()
        stamp_ns = metadata.get("SensorTimestamp") or 0
        stamp_ns = self._clock.monotonic_ns(stamp_ns, time.monotonic_ns(), boot_minus_monotonic_ns())
        if stamp_ns is None:  # cannot be placed in time, so it counts as missing
            return None
        with self._library.MappedArray(request, "main", reshape=False, write=False) as mapped:
            picture = to_picture(mapped.array, self._format, self._size, self._stride)
        if picture is None:  # a damaged JPEG, as USB cameras occasionally send
            return None
        if self._rotate:
            picture = turned(picture)
        t_ns = middle_of_exposure_ns(stamp_ns, metadata.get("ExposureTime") or 0, self._readout_ns)
        bright = float(brightness(picture, _SAMPLE_EVERY_PX).mean())
        if controls := self._exposure_lock.observe(t_ns, metadata, bright):
            with self._camera.request_lock:  # picamera2 loses controls that are set while it sends the previous ones
                self._camera.set_controls(controls)
        return Frame(seq, t_ns, picture)

    def _lost(self) -> DeviceLostError:
        try:
            here = any(PREFIX + info["Id"] == self.device for info in self._library.Picamera2.global_camera_info())
        except (RuntimeError, IndexError):
            here = False
        what = f"no usable frame for {self._lost_after_s:g} s" if here else "the camera was disconnected"
        remedy = "Check its cable and its power; `dmesg` may say more."
        return DeviceLostError(what, where=self.device, remedy=remedy)
