"""A USB camera through Video4Linux and FFmpeg, for cameras (or systems) that libcamera does not support.

Times
    FFmpeg passes on the kernel's time stamps (option timestamps=default): µs on CLOCK_MONOTONIC, taken when the first
    data of a frame arrived. They include neither the exposure nor the camera's own delay. That part is fixed for a
    camera and a format, belongs to the rig's bias, and is measured by calibration.
    The stamps are not smoothed. They are late by 0 to 4 ms, depending on how the driver bundles USB packets. The
    constant part of that is bias too, and the rest is averaged over the hundred frames of a report. A smoother would
    have to follow the frame count, and would be wrong at each change of rate, which such cameras make in the dark.

A read cannot be interrupted while the driver has no frame. So a thread reads, and is abandoned if it never returns.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from device.capture.cameras.device_access import busy_error, permission_error
from device.capture.cameras.exposure import GapCounter, SensorClock, boot_minus_monotonic_ns
from device.capture.source import Closing
from device.config.settings import CameraSettings
from device.errors import CaptureError, DeviceLostError, DeviceMissingError
from device.records import NS_PER_S, Frame, RgbImage

LOST_AFTER_S = 2.0
CLOSE_WITHIN_S = 1.5
PREFIX = "v4l2:"  # of the names of such cameras in the configuration
OPEN_WITHIN_S = 5.0
_MAX_WAITING = 2
_FORMATS = {"mjpeg": "mjpeg", "raw": "yuyv422"}  # FFmpeg's names; the latter is the raw format that all cameras have
_log = logging.getLogger(__name__)


class V4l2Source(Closing):
    """The frames of one USB camera, from when it is opened until `close`.

    settings.device: `v4l2:` and the path of its node, preferably of a link to it under /dev/v4l/by-id.
    opener: opens a container; given by tests.
    Attributes and errors are those of CameraSource. Frames have the size and rate of the camera that are nearest to
    those requested; frames that must be rotated are rotated here.
    """

    def __init__(
        self, settings: CameraSettings, *, opener: Callable[..., Any] = av.open, lost_after_s: float = LOST_AFTER_S
    ) -> None:
        self.device = settings.device
        self.name = Path(settings.device.removeprefix(PREFIX)).name
        self.dropped = 0
        self.rate_ppm: float | None = None  # the computer's clock stamps its frames
        self._settings, self._opener, self._lost_after_s = settings, opener, lost_after_s
        self._rotate = settings.rotation_deg == 180
        self._changed = threading.Condition()
        self._waiting: deque[tuple[int, RgbImage]] = deque()  # with their times
        self._opened = False
        self._closed = False
        self._ended = False
        self._error: Exception | None = None
        self._read = False
        self._thread = threading.Thread(target=self._work, name="v4l2 camera", daemon=True)
        self._thread.start()
        self._wait_for_first()

    def _wait_for_first(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._opened or self._ended, OPEN_WITHIN_S)
            opened, error = self._opened, self._error
        if not opened:
            self.close()
            raise self._cannot_open(error or TimeoutError(f"no frame within {OPEN_WITHIN_S:g} s")) from error

    def __iter__(self) -> Iterator[Frame]:
        if self._read:
            raise RuntimeError("a V4l2Source is read once: open the camera again")
        self._read = True
        gaps = GapCounter()
        seq, last_ns, alive_s = 0, 0, time.monotonic()
        while (item := self._next(alive_s + self._lost_after_s)) is not None:
            t_ns, rgb = item
            if t_ns <= last_ns:
                continue
            gaps.observe(t_ns)
            self.dropped = gaps.missing
            yield Frame(seq, t_ns, rgb)
            seq, last_ns, alive_s = seq + 1, t_ns, time.monotonic()

    def close(self) -> None:
        """Release the camera within CLOSE_WITHIN_S; safe from any thread. A waiting reader ends."""
        with self._changed:
            first, self._closed = not self._closed, True
            self._waiting.clear()
            self._changed.notify_all()
        self._thread.join(CLOSE_WITHIN_S)
        if first and self._thread.is_alive():
            _log.error("the driver of %s does not stop; it stays unusable until this process ends", self.device)

    def _next(self, until_s: float) -> tuple[int, RgbImage] | None:
        with self._changed:
            enough = max(0.0, until_s - time.monotonic())
            self._changed.wait_for(lambda: self._waiting or self._closed or self._ended, enough)
            if self._closed:
                return None
            if self._waiting:
                return self._waiting.popleft()
        what = f"no usable frame for {self._lost_after_s:g} s"
        if self._ended:
            what = f"the camera was disconnected ({self._error or 'its stream ended'})"
        raise DeviceLostError(what, where=self.device, remedy="Check its cable and its power; `dmesg` may say more.")

    def _work(self) -> None:
        """The reading thread: opens, reads until closed, closes."""
        error: Exception | None
        try:
            container = self._open()
        except Exception as found:  # passed on to the opening thread
            error = found
        else:
            error = self._read_all(container)
            container.close()
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def _read_all(self, container: Any) -> Exception | None:
        """Read until closed; return the error that ended it.

        Undecoded frames lie in the driver's memory, and releasing them after the container was closed would crash. So
        none outlives this function, not even in the traceback of an error.
        """
        stream, clock, reformatter = container.streams.video[0], SensorClock(), VideoReformatter()
        try:
            for packet in container.demux(stream):
                for picture in _decode(packet):
                    stamp_ns = picture.pts * stream.time_base.numerator * NS_PER_S // stream.time_base.denominator
                    t_ns = clock.monotonic_ns(stamp_ns, time.monotonic_ns(), boot_minus_monotonic_ns())
                    if t_ns is not None:
                        self._deliver(t_ns, reformatter.reformat(picture, format="rgb24", threads=1))
                if self._closed:
                    return None
        except Exception as found:  # passed on to the reader
            return found.with_traceback(None)
        return None

    def _deliver(self, t_ns: int, picture: av.VideoFrame) -> None:
        rgb = np.asarray(picture.to_ndarray(), np.uint8)
        rgb = np.ascontiguousarray(rgb[::-1, ::-1]) if self._rotate else rgb
        with self._changed:
            self._opened = True
            if len(self._waiting) == _MAX_WAITING:
                self._waiting.popleft()
            self._waiting.append((t_ns, rgb))
            self._changed.notify_all()

    def _open(self) -> Any:
        path = self.device.removeprefix(PREFIX)
        wanted = self._settings
        options = {
            "timestamps": "default",
            "framerate": f"{wanted.rate_hz:g}",
            "video_size": f"{wanted.width_px:.0f}x{wanted.height_px:.0f}",
        }
        if wanted.format != "auto":
            options["input_format"] = _FORMATS[wanted.format]
        return self._opener(path, format="v4l2", options=options, container_options={"fflags": "nobuffer"})

    def _cannot_open(self, error: BaseException) -> CaptureError:
        node = Path(self.device.removeprefix(PREFIX))
        match error:
            case FileNotFoundError():
                what, remedy = "no such camera", "Check its cable; `avdrift devices` shows those that are here."
            case PermissionError():
                return permission_error(self.device, [node])
            case OSError(errno=16):
                return busy_error(self.device, [node])
            case _:
                what, remedy = f"cannot be started ({error})", "Unplug it and plug it in again; `dmesg` may say more."
        return DeviceMissingError(what, where=self.device, remedy=remedy)


def _decode(packet: Any) -> list[Any]:
    try:
        return [picture for picture in packet.decode() if picture.pts is not None]
    except (av.FFmpegError, ValueError):  # a damaged JPEG, as USB cameras occasionally send
        return []
