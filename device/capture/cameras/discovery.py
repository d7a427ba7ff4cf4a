"""Lists the connected cameras and opens the one that the configuration names.

list_cameras() -> list[FoundCamera]                  never raises; empty where there is none
open_camera(settings) -> CameraSource | V4l2Source   a Source[Frame] with `device`, `name`, `dropped` and `close()`
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from device.capture.cameras.picamera2_device import PREFIX as LIBCAMERA
from device.capture.cameras.picamera2_device import load_library
from device.capture.cameras.picamera2_source import CameraSource
from device.capture.cameras.v4l2_source import PREFIX as V4L2
from device.capture.cameras.v4l2_source import V4l2Source
from device.config.settings import CameraSettings
from device.errors import CaptureError, DeviceMissingError

Connection: TypeAlias = Literal["csi", "usb", "virtual"]
_SYS, _DEV = Path("/sys/class/video4linux"), Path("/dev")


@dataclass(frozen=True, slots=True)
class FoundCamera:
    """A camera that is connected now."""

    device: str  # the value for [camera] device in the configuration
    name: str  # its model, for a person
    connection: Connection


def list_cameras(library: Any = None, *, sys: Path = _SYS, dev: Path = _DEV) -> list[FoundCamera]:
    """List every camera that avdrift can open, libcamera's first; a USB camera that both know is listed once.

    Never raises: without picamera2 only USB cameras are found, and `picamera2_device.load_library` says why.
    library: the picamera2 module; given by tests.
    """
    try:
        library = library or load_library()
        infos = library.Picamera2.global_camera_info()
    except (CaptureError, RuntimeError, IndexError):
        infos = []
    found = [FoundCamera(LIBCAMERA + info["Id"], str(info.get("Model", "camera")), _kind(info["Id"])) for info in infos]
    identities = [info["Id"] for info in infos]
    return found + [
        FoundCamera(V4L2 + str(node), name, "usb")
        for node, name, usb_place in _usb_cameras(sys, dev)
        if not any(usb_place in identity for identity in identities)
    ]


def open_camera(settings: CameraSettings, library: Any = None) -> CameraSource | V4l2Source:
    """Open and start the camera that the settings name.

    Raises DeviceMissingError, DeviceBusyError or DevicePermissionError; later, while reading, DeviceLostError.
    """
    if settings.device == "auto":
        found = list_cameras(library)
        if len(found) > 1:
            names = ", ".join(camera.device for camera in found)
            what = f"there are {len(found)} cameras"
            raise DeviceMissingError(what, where="camera auto", remedy=f"Choose one as [camera] device: {names}.")
        if found:
            settings = replace(settings, device=found[0].device)
    if settings.device.startswith(V4L2):
        return V4l2Source(settings)
    return CameraSource(settings, library=library)


def _kind(identity: str) -> Connection:
    # On a Raspberry Pi libcamera names a camera by its path in the device tree; USB ones end in -vendor:product.
    if re.search(r"usb|-[0-9a-f]{4}:[0-9a-f]{4}$", identity):
        return "usb"
    return "csi" if identity.startswith("/base/") else "virtual"


def _usb_cameras(sys: Path, dev: Path) -> list[tuple[Path, str, str]]:
    """Node, name and libcamera's bus location of each USB camera's first video stream."""
    found = []
    for folder in sorted(sys.glob("video*"), key=lambda folder: (len(folder.name), folder.name)):
        try:
            interface = (folder / "device").resolve()
            if "/usb" not in str(interface) or (folder / "index").read_text().strip() != "0":
                continue
            name = (folder / "name").read_text(errors="replace").strip()
            vendor, product = ((interface.parent / file).read_text().strip() for file in ("idVendor", "idProduct"))
        except OSError:  # unplugged at this moment
            continue
        place = f"-{interface.name.partition('-')[2]}-{vendor}:{product}"
        found.append((_lasting_name(dev / folder.name, dev), name, place))
    return found


def _lasting_name(node: Path, dev: Path) -> Path:
    """The link that still names this camera after a restart, when its number may be another's."""
    for folder in ("by-id", "by-path"):
        for link in sorted((dev / "v4l" / folder).glob("*")):
            if link.resolve() == node.resolve():
                return link
    return node
