"""Capture sticks: video and audio from the same USB device, which belong together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from device.capture.cameras.discovery import FoundCamera
from device.capture.cameras.modes import Mode, best_mode, modes
from device.capture.cameras.v4l2_source import PREFIX
from device.capture.microphones.sound_cards import Microphone


@dataclass(frozen=True, slots=True)
class Stick:
    """A USB device with both. mode: the one to use; None if none has a sufficient frame rate."""

    name: str
    camera: str
    microphone: str
    mode: Mode | None


def find_sticks(
    cameras: Sequence[FoundCamera], microphones: Sequence[Microphone], root: Path = Path("/"),
    offered: Callable[[Path], list[Mode]] = modes,
) -> list[Stick]:  # fmt: skip
    """Pair the found devices that share a USB device. A webcam with its own microphone is a pair, too."""
    sounds = {_usb_device(root / f"sys/class/sound/card{one.card}"): one for one in reversed(microphones)}
    sticks = []
    for camera in cameras:
        if not camera.device.startswith(PREFIX):
            continue
        node = (root / camera.device.removeprefix(PREFIX).lstrip("/")).resolve()
        place = _usb_device(root / "sys/class/video4linux" / node.name)
        if place is not None and place in sounds:
            sticks.append(Stick(camera.name, camera.device, sounds[place].device, best_mode(offered(node))))
    return sticks


def _usb_device(entry: Path) -> Path | None:
    """The folder of the USB device behind an entry of sysfs; None without one. Interfaces lie directly below it."""
    interface = (entry / "device").resolve()
    return interface.parent if (interface.parent / "idVendor").is_file() else None
