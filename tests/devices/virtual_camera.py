"""libcamera's virtual camera, through the real picamera2, playing the pictures of a recording at their pace.

Four things differ from a camera on a Raspberry Pi, and are made up for here:
    - Debian has no `pykms`, which picamera2 imports for previews on a screen; an empty one stands in for it.
    - The virtual camera has no raw stream, which picamera2 looks at when it opens a camera.
    - Its buffers must come from libcamera, because each of its planes is a file of its own.
    - It does not pace: a request is finished as soon as it is queued. So requests are kept back until their picture is
      due. It also shows each picture REPEAT times, so requests go round until the picture is the one of that moment:
      whatever is missed, picture k is given at `start_ns + k * period`, or not at all.

Run inside tests/devices/tree.sh, with LD_PRELOAD=/opt/dma_shim.so, after `prepare` has written what is played.
    python -m tests.devices.virtual_camera CLIP ARGUMENTS...      avdrift with these arguments and CLIP as its camera
    python -m tests.devices.virtual_camera CLIP@16-31 ARGUMENTS...     the same with these seconds of it
Then STARTED holds when picture 0 was due, and nothing is given while there is a file FROZEN.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import types
from collections import deque
from pathlib import Path
from typing import Any, ClassVar

import cv2

from device.capture.file import FileSource
from device.records import NS_PER_S, Frame

CAMERA = "libcamera:Clip"
STARTED, FROZEN = Path("/run/avdrift/started"), Path("/run/avdrift/frozen")
REPEAT = 4  # ImageFrameGenerator::frameRepeat
CONFIGURATION = """%YAML 1.1
---
"Clip":
  supported_formats:
  - width: {width}
    height: {height}
    frame_rates: [{rate}, {rate}]
  frames:
    path: "{folder}/"
  location: "CameraLocationExternal"
  model: "Clip"
"""


def prepare(clip: Path, folder: Path, *, rate_hz: int = 25, from_s: float = 0, until_s: float = 1e9) -> int:
    """Lay out the clip's pictures for the virtual camera, and tell libcamera of it; how many there are.

    Must be called before libcamera is imported, and by a user who may write in libcamera's own folder (root).
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob("*.jpg"):  # of a longer clip: they would be played after this one
        left.unlink()
    count, size = 0, (0, 0)
    with FileSource(clip) as source:
        for item in source:
            if not isinstance(item, Frame) or not from_s * NS_PER_S <= item.t_ns <= until_s * NS_PER_S:
                continue
            size = item.rgb.shape[1], item.rgb.shape[0]
            bgr = cv2.cvtColor(item.rgb, cv2.COLOR_RGB2BGR)
            cv2.imwrite(str(folder / f"{count}.jpg"), bgr, [cv2.IMWRITE_JPEG_QUALITY, 95])
            count += 1
    text = CONFIGURATION.format(width=size[0], height=size[1], rate=rate_hz, folder=folder)
    Path("/usr/share/libcamera/pipeline/virtual/virtual.yaml").write_text(text)
    return count


def install() -> Any:
    """picamera2 with a Picamera2 that knows the virtual camera; from here on, whoever imports picamera2 gets it."""
    kms = types.ModuleType("pykms")
    formats = "RGB888 BGR888 XRGB8888 XBGR8888 YUV420 YVU420 NV12 NV21 YUYV YVYU UYVY VYUY ARGB8888 ABGR8888 MJPEG"
    kms.PixelFormat = types.SimpleNamespace(**{name: name for name in formats.split()})  # type: ignore[attr-defined]
    sys.modules.setdefault("pykms", kms)
    os.environ.setdefault("LIBCAMERA_LOG_LEVELS", "*:WARN")
    import libcamera
    import picamera2
    from picamera2.allocators import LibcameraAllocator

    class VirtualPicamera2(picamera2.Picamera2):
        """One at a time. `pace` is that of the last one that was started."""

        pace: ClassVar[Backoff | None] = None
        camera: Any

        def __init__(self, camera_num: int = 0) -> None:
            super().__init__(camera_num, allocator=object())
            self.allocator = LibcameraAllocator(self.camera)

        def _get_raw_modes(self) -> list[dict[str, object]]:
            config = self.camera.generate_configuration([libcamera.StreamRole.VideoRecording])
            size = config.at(0).size
            return [{"format": str(config.at(0).pixel_format), "size": (size.width, size.height)}]

        def start_(self) -> None:
            real = self.camera
            limits = self.controls.make_dict().get("FrameDurationLimits", (40_000, 40_000))
            VirtualPicamera2.pace = self._pace = Backoff(real.queue_request, limits[0] * 1000)
            self.camera = _Paced(real, self._pace)
            super().start_()

        def stop_(self, request: Any = None) -> Any:
            if isinstance(self.camera, _Paced):
                self._pace.stop()
                self.camera = self.camera.real
            return super().stop_(request)

    class Completed(picamera2.CompletedRequest):
        """Stamped with the moment at which its picture was due: a sensor is not late because the computer is busy."""

        def __init__(self, request: Any, camera: Any) -> None:
            super().__init__(request, camera)
            self.due_ns = camera._pace.due_ns

        def get_metadata(self) -> dict[str, Any]:
            metadata: dict[str, Any] = super().get_metadata()
            self.picam2.pace.late_ns = max(self.picam2.pace.late_ns, metadata["SensorTimestamp"] - self.due_ns)
            return metadata | {"SensorTimestamp": self.due_ns}

    def handle(manager: Any, flushid: Any = None) -> None:
        """As picamera2's, but a request whose picture is not the one that is due goes round once more."""
        with manager._lock:
            for request in manager.cms.get_ready_requests():
                if request.status != libcamera.Request.Status.Complete or request.cookie == flushid:
                    continue
                camera = manager.cameras[request.cookie]
                if camera._pace.is_due(request):
                    with camera._requestslock:
                        camera._requests.append(Completed(request, camera))
                    os.write(camera.notifyme_w, b"\0")

    type(picamera2.Picamera2._cm).handle_request = handle
    picamera2.Picamera2 = VirtualPicamera2
    return picamera2


class Backoff:
    """Lets one request through for each picture, when it is due.

    skip: numbers of pictures that are to be lost. `frozen`: gives nothing any more, as a camera that was unplugged.
    started, hold: files for other processes, see STARTED and FROZEN.
    """

    def __init__(self, queue: Any, period_ns: int, started: Path = STARTED, hold: Path = FROZEN) -> None:
        self._queue, self.period_ns, self._started, self._hold = queue, period_ns, started, hold
        self._free: deque[Any] = deque()
        self._changed = threading.Condition()
        self._stopped = False
        self._wanted = -1
        self.due_ns = 0  # of the picture that is on its way
        self.skip: set[int] = set()
        self.frozen = False
        self.start_ns = 0
        self.missed = 0  # pictures for which no buffer was free
        self.late_ns = 0  # the most by which a picture came later than it was due
        self._thread = threading.Thread(target=self._run, name="pace", daemon=True)

    def put(self, request: Any) -> None:
        with self._changed:
            self._free.append(request)
        if not self.start_ns:
            self.start_ns = time.monotonic_ns() + self.period_ns
            said = self._started.with_suffix(".new")
            said.write_text(str(self.start_ns))
            said.replace(self._started)
            self._thread.start()

    def _run(self) -> None:
        number = -1
        while True:
            number += 1
            due_ns = self.start_ns + number * self.period_ns
            with self._changed:
                self._changed.wait_for(lambda: self._stopped, max(0, due_ns - time.monotonic_ns()) / 1e9)
                if self._stopped:
                    return
                if number in self.skip or self.frozen or self._hold.exists():
                    continue
                if not self._free:
                    self.missed += 1
                    continue
                request = self._free.popleft()
                self._wanted, self.due_ns = number, due_ns
            self._queue(request)

    def is_due(self, request: Any) -> bool:
        sequence = next(iter(request.buffers.values())).metadata.sequence
        if sequence // REPEAT >= self._wanted:
            return True
        request.reuse()
        with self._changed:
            if not self._stopped:
                self._queue(request)
        return False

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join(2)


class _Paced:
    """A libcamera camera whose requests go through a Pace."""

    def __init__(self, real: Any, pace: Backoff) -> None:
        self.real, self._pace = real, pace

    def queue_request(self, request: Any) -> None:
        self._pace.put(request)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


if __name__ == "__main__":
    from device.cli import main

    clip, _, stretch = sys.argv[1].partition("@")
    begin, _, end = stretch.partition("-")
    prepare(Path(clip), Path("/run/avdrift/frames"), from_s=float(begin or 0), until_s=float(end or 1e9))
    install()
    sys.exit(main(sys.argv[2:]))
