"""A fake picamera2 without a camera: the parts of the module that CameraSource uses."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

IMX219: dict[str, Any] = {"Id": "/base/soc/i2c0mux/i2c@1/imx219@10", "Model": "imx219", "Num": 0}
USB: dict[str, Any] = {"Id": "/base/scb/pcie@7d500000/usb@0,0-1:1.0-046d:0825", "Model": "C270 HD WEBCAM", "Num": 0}
PI_LIMITS: dict[str, tuple[Any, Any, Any]] = {
    "AeEnable": (False, True, True),
    "AeExposureMode": (0, 3, 0),
    "AnalogueGain": (1.0, 8.0, 1.0),
    "AwbEnable": (False, True, True),
    "ColourGains": (0.0, 32.0, None),
    "ExposureTime": (75, 11_766_829, 20_000),
    "FrameDurationLimits": (24_000, 11_767_556, 33_333),
}


class FakeRequest:
    """A finished picture, counting who holds it as picamera2 does."""

    def __init__(self, metadata: dict[str, Any], buffer: npt.NDArray[np.uint8]) -> None:
        self.metadata, self.buffer, self.uses = metadata, buffer, 1

    def acquire(self) -> None:
        assert self.uses > 0, "a picture that was given back is used again"
        self.uses += 1

    def release(self) -> None:
        self.uses -= 1
        assert self.uses >= 0, "a picture was given back twice"
        if self.uses == 0:
            self.buffer.fill(0)  # the camera writes the next picture into it

    def get_metadata(self) -> dict[str, Any]:
        return dict(self.metadata)


class FakeMappedArray:
    def __init__(self, request: FakeRequest, stream: str, reshape: bool = True, write: bool = True) -> None:
        assert stream == "main" and not reshape and not write
        self._request = request

    def __enter__(self) -> Self:
        assert self._request.uses > 0
        self.array = self._request.buffer.view()
        return self

    def __exit__(self, *about: object) -> None:
        del self.array


class FakeLibrary:
    """The module. What the cameras are and what they refuse is set on it before, and what was done is read after.

    fails: by the name of a method of Picamera2 (`__init__`, `acquire`, `configure`, `start`, `close`), what it raises.
    """

    def __init__(self, *infos: dict[str, Any], limits: dict[str, tuple[Any, Any, Any]] | None = None) -> None:
        self.infos = list(infos)
        self.limits = dict(PI_LIMITS if limits is None else limits)
        self.properties: dict[str, Any] = {"ColorFilterArrangement": 0, "PixelArraySize": (3280, 2464)}
        self.form = "YUV420"
        self.padding = 0
        self.fails: dict[str, Exception] = {}
        self.close_waits: threading.Event | None = None
        self.opened: list[Any] = []
        library = self

        class Picamera2(FakePicamera2):
            _cm = SimpleNamespace(reset=lambda: library.infos.extend(library.comes_late))

            @staticmethod
            def global_camera_info() -> list[dict[str, Any]]:
                return list(library.infos)

            def __init__(self, camera_num: int = 0) -> None:
                super().__init__(library, camera_num)

        self.Picamera2 = Picamera2
        self.MappedArray = FakeMappedArray
        self.libcamera = SimpleNamespace(Transform=lambda **flips: SimpleNamespace(**flips))
        self.can_turn = True
        self.comes_late: list[dict[str, Any]] = []  # seen only after libcamera looked anew

    @property
    def camera(self) -> Any:
        return self.opened[-1]


class FakePicamera2:
    def __init__(self, library: FakeLibrary, number: int) -> None:
        self._library = library
        reader, self.notifyme_w = os.pipe2(os.O_NONBLOCK)
        self.notifymeread: io.BufferedReader = os.fdopen(reader, "rb")
        self.is_open = self.started = False
        library.opened.append(self)
        self._may_fail("__init__")
        self.info = library.infos[number]
        try:
            self._may_fail("acquire")
        except RuntimeError as error:
            raise RuntimeError("Camera __init__ sequence did not complete.") from error
        self.is_open = True
        self.camera_properties, self.camera_controls = library.properties, library.limits
        self.request_lock = threading.Lock()
        self.controls: list[dict[str, Any]] = []
        self.requests: list[FakeRequest] = []
        self.post_callback: Callable[[FakeRequest], None] | None = None

    def _may_fail(self, where: str) -> None:
        if error := self._library.fails.get(where):
            raise error

    def create_video_configuration(self, **asked: Any) -> dict[str, Any]:
        self.asked = asked
        return asked

    def configure(self, configuration: dict[str, Any]) -> None:
        self._may_fail("configure")
        width, height = configuration["main"]["size"]
        self._main = {
            "format": self._library.form,
            "size": (width, height),
            "stride": width * (2 if self._library.form == "YUYV" else 1) + self._library.padding,
        }

    def camera_configuration(self) -> dict[str, Any]:
        turned = self.asked["transform"] if self._library.can_turn else SimpleNamespace(hflip=0, vflip=0)
        return {"main": self._main, "transform": turned}

    def set_controls(self, controls: dict[str, Any]) -> None:
        assert not self.started or self.request_lock.locked(), "picamera2 would lose these controls"
        self.controls.append(controls)

    def start(self) -> None:
        self._may_fail("start")
        self.started = True

    def close(self) -> None:
        if self._library.close_waits:
            self._library.close_waits.wait()
        self._may_fail("close")
        if self.is_open:
            self.is_open = self.started = False
            self.notifymeread.close()
            os.close(self.notifyme_w)

    def give(self, stamp_ns: int | None = None, level: int = 128, **metadata: Any) -> FakeRequest:
        """What picamera2's thread does with a finished picture: a grey one, or bytes that a test sets."""
        rows = self._main["size"][1] * 3 // 2
        buffer = np.full(rows * self._main["stride"], 128, np.uint8)
        buffer[: self._main["size"][1] * self._main["stride"]] = level
        buffer[: self._main["stride"]] = 235  # a white line at the top
        stamp_ns = time.monotonic_ns() if stamp_ns is None else stamp_ns
        request = FakeRequest({"SensorTimestamp": stamp_ns, **metadata}, buffer)
        self.requests.append(request)
        assert self.post_callback is not None and self.started
        self.post_callback(request)
        request.release()
        return request
