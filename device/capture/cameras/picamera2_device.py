"""Handling picamera2: finding, opening, configuring and closing a camera, with errors that name the cause."""

from __future__ import annotations

import atexit
import logging
import os
import threading
from typing import Any

from device.capture.cameras.device_access import access_error, closed_nodes, nodes, permission_error
from device.config.settings import CameraSettings
from device.errors import CaptureError, DeviceMissingError

CLOSE_WITHIN_S = 1.5
PREFIX = "libcamera:"  # of the names of such cameras in the configuration
INSTALL = "sudo apt install python3-picamera2, and a virtual environment made with --system-site-packages"
_BUFFERS = 6
_log = logging.getLogger(__name__)


def load_library() -> Any:
    """Import picamera2. Raises DeviceMissingError if it, or something it needs, is not installed."""
    os.environ.setdefault("LIBCAMERA_LOG_LEVELS", "*:WARN")  # it would report every opening on stderr
    try:
        import picamera2
    # A numpy newer than the system's packages makes them fail with a ValueError or an AttributeError.
    except (ImportError, ValueError, AttributeError) as error:
        what = f"picamera2 cannot be imported ({error})"
        raise DeviceMissingError(what, where="camera", remedy=f"Install it: {INSTALL}.") from None
    return picamera2


def choose(library: Any, device: str) -> tuple[int, dict[str, Any]]:
    """Return number and description of the wanted camera."""
    found, wanted = _list_cameras(library, device)
    if not wanted:  # libcamera may not notice cameras that are connected after its first look
        library.Picamera2._cm.reset()
        found, wanted = _list_cameras(library, device)
    if len(wanted) == 1:
        return wanted[0]
    if closed := closed_nodes(nodes()):
        raise permission_error(device, closed)
    names = ", ".join(PREFIX + info["Id"] for info in found)
    if wanted:
        what, remedy = f"there are {len(wanted)} cameras", f"Choose one as [camera] device: {names}."
    elif found:
        what, remedy = "no such camera", f"Available: {names}."
    else:
        what, remedy = "no camera is connected", "Check its cable; rpicam-hello --list-cameras must show it."
    raise DeviceMissingError(what, where=f"camera {device}", remedy=remedy)


def _list_cameras(library: Any, device: str) -> tuple[list[dict[str, Any]], list[tuple[int, dict[str, Any]]]]:
    found = library.Picamera2.global_camera_info()
    return found, [(n, info) for n, info in enumerate(found) if device in ("auto", PREFIX + info["Id"], info["Id"])]


def open_camera(library: Any, number: int, where: str) -> Any:
    """Acquire the camera of that number; nothing stays open if that fails."""
    camera = library.Picamera2.__new__(library.Picamera2)  # in two steps: a failure must leave something to release
    try:
        camera.__init__(number)
    except Exception as error:
        release(camera)
        if not camera.notifymeread.closed:  # picamera2 never closes this pipe; in weeks of retries that adds up
            camera.notifymeread.close()
            os.close(camera.notifyme_w)
        raise error_of(error, where) from error
    return camera


def error_of(error: Exception, where: str) -> CaptureError:
    """Translate an error of picamera2 while opening."""
    # picamera2 and libcamera raise bare RuntimeErrors for nearly everything.
    known = access_error(error, where, nodes())
    what, remedy = f"cannot be started ({error})", "Check its cable and try rpicam-hello; `dmesg` may say more."
    return known or DeviceMissingError(what, where=where, remedy=remedy)


def configure(library: Any, camera: Any, settings: CameraSettings) -> bool:
    """Request small YUV frames of the sensor's whole view, at the wanted rate as far as the camera supports it.

    Returns whether frames must still be rotated by 180 degrees: USB cameras cannot do it.
    """
    upside_down = int(settings.rotation_deg == 180)
    size = (round(settings.width_px) // 2 * 2, round(settings.height_px) // 2 * 2)
    # Half the sensor's rows and columns: its whole view, read fast. Otherwise small frames would be cropped.
    array = camera.camera_properties.get("PixelArraySize", size)
    limits = camera.camera_controls
    controls = {}
    if "FrameDurationLimits" in limits:
        lowest_us, highest_us = limits["FrameDurationLimits"][:2]
        period_us = round(min(max(1e6 / settings.rate_hz, lowest_us), highest_us))
        controls["FrameDurationLimits"] = (period_us, period_us)
    configuration = camera.create_video_configuration(
        main={"size": size, "format": "YUV420"},
        raw=None,
        sensor={"output_size": (array[0] // 2, array[1] // 2)},
        transform=library.libcamera.Transform(hflip=upside_down, vflip=upside_down),
        buffer_count=_BUFFERS,
        queue=False,  # picamera2 would keep one buffer more
        display=None,
        encode=None,
        controls=controls,
    )
    camera.configure(configuration)
    return bool(upside_down and not camera.camera_configuration()["transform"].vflip)


def release(camera: Any) -> None:
    """Close within CLOSE_WITHIN_S, or abandon it: a hanging driver must not block us, now or at exit."""

    def work() -> None:
        try:
            camera.close()
        except Exception as error:  # whatever it is, the camera is unusable
            _log.warning("closing the camera: %s", error)

    thread = threading.Thread(target=work, name="close camera", daemon=True)
    thread.start()
    thread.join(CLOSE_WITHIN_S)
    if thread.is_alive():
        atexit.unregister(camera.close)
        _log.error("the camera's driver does not stop; the camera stays unusable until this process ends")
