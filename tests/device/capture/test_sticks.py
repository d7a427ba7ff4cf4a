"""Capture sticks: the video and the audio of one USB device are paired, with a mode of sufficient frame rate."""

from __future__ import annotations

import argparse
import json
import struct
import tomllib
from pathlib import Path

import pytest

from device.capture.cameras.discovery import FoundCamera
from device.capture.cameras.modes import Mode, best_mode, modes
from device.capture.microphones.sound_cards import Microphone
from device.capture.sticks import Stick, find_sticks
from device.commands.devices import Devices, Found, as_toml, devices, devices_command
from device.config.settings import CameraSettings
from device.errors import CaptureError

JPEG_720 = Mode("mjpeg", 1280, 720, 30.0)


def usb(root: Path, place: str, *, video: int | None = None, card: int | None = None) -> None:
    """A USB device in sysfs, with an interface for each of the two."""
    device = root / "sys/devices/usb1" / place
    device.mkdir(parents=True, exist_ok=True)
    (device / "idVendor").write_text("534d")
    for number, entry in ((0, f"video4linux/video{video}"), (3, f"sound/card{card}")):
        if "None" not in entry:
            interface, link = device / f"{place}:1.{number}", root / "sys/class" / entry
            interface.mkdir()
            link.mkdir(parents=True)
            (link / "device").symlink_to(interface)


def camera(number: int) -> FoundCamera:
    return FoundCamera(f"v4l2:/dev/video{number}", f"camera {number}", "usb")


def microphone(card: int) -> Microphone:
    return Microphone(f"hw:CARD=Card{card},DEV=0", f"card {card}", card, 0, None, True)


def test_picture_and_sound_of_one_usb_device_are_one_stick(tmp_path: Path) -> None:
    usb(tmp_path, "1-1", video=0, card=2)
    usb(tmp_path, "1-2", video=4)
    usb(tmp_path, "1-3", card=1)
    cameras = [FoundCamera("libcamera:/base/cam", "imx708", "csi"), camera(4), camera(0)]
    found = find_sticks(cameras, [microphone(1), microphone(2)], tmp_path, lambda node: [JPEG_720])
    assert found == [Stick("camera 0", "v4l2:/dev/video0", "hw:CARD=Card2,DEV=0", JPEG_720)]


def test_the_mode_with_least_work_among_those_with_enough_pictures() -> None:
    offered = [Mode("raw", 1920, 1080, 5.0), Mode("mjpeg", 1920, 1080, 30.0), JPEG_720, Mode("raw", 320, 240, 30.0)]
    assert best_mode(offered) == JPEG_720
    assert best_mode([*offered, Mode("raw", 640, 480, 24.99)]) == JPEG_720
    assert best_mode([*offered, Mode("raw", 640, 480, 25.0)]) == Mode("raw", 640, 480, 25.0)
    assert best_mode(offered[:1]) is None


def test_the_kernel_s_lists_are_read(tmp_path: Path) -> None:
    """Laid out as videodev2.h has them: offsets 44, 12 and 20."""
    tree = {b"YUYV": [(1920, 1080, [(1, 5)])], b"MJPG": [(1280, 720, [(1, 30), (1, 60)]), (640, 480, [(1001, 30000)])]}

    def driver(_: int, request: int, block: bytearray) -> None:
        (index,), size = struct.unpack_from("=I", block), (request >> 16) & 0x3FFF
        assert len(block) == size
        try:
            if size == 64:
                block[44:48] = list(tree)[index]
            elif size == 44:
                width, height, _ = tree[bytes(block[4:8])][index]
                struct.pack_into("=3I", block, 8, 1, width, height)
            else:
                wanted = struct.unpack_from("=2I", block, 8)
                rates = next(rates for *size, rates in tree[bytes(block[4:8])] if tuple(size) == wanted)
                struct.pack_into("=3I", block, 16, 1, *rates[index])
        except IndexError:
            raise OSError(22, "no more") from None

    node = tmp_path / "video0"
    node.touch()
    assert modes(node, driver) == [
        Mode("raw", 1920, 1080, 5.0), Mode("mjpeg", 1280, 720, 60.0), Mode("mjpeg", 640, 480, 29.97),
    ]  # fmt: skip
    assert modes(tmp_path / "gone", driver) == []


def test_an_endless_list_ends(tmp_path: Path) -> None:
    (tmp_path / "video0").touch()
    assert modes(tmp_path / "video0", lambda *_: None) == []


def stick_devices(mode: Mode | None) -> Devices:
    return devices(
        lambda: [Found("libcamera:/base/cam", "imx708"), Found("v4l2:/dev/video0", "USB Video")],
        lambda: [Found("hw:CARD=PCH,DEV=0", "Intel"), Found("hw:CARD=MS2109,DEV=0", "USB Video")],
        lambda _: True,
        lambda: [Stick("USB Video", "v4l2:/dev/video0", "hw:CARD=MS2109,DEV=0", mode)],
    )


def test_the_configuration_lines_of_a_stick() -> None:
    found = stick_devices(JPEG_720)
    read = tomllib.loads(as_toml(found))
    settings = CameraSettings(**read["camera"])
    assert (settings.device, settings.format, settings.width_px) == ("v4l2:/dev/video0", "mjpeg", 1280)
    assert read["microphone"]["device"] == "hw:CARD=MS2109,DEV=0"


def test_a_stick_that_is_too_slow_is_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    found = stick_devices(None)
    assert devices_command(argparse.Namespace(json=True), lambda: found) == 0
    told = json.loads(capsys.readouterr().out)
    assert "lists no mode with 25 frames" in told["notes"][0] and told["cameras"][0]["pair"] == "hw:CARD=MS2109,DEV=0"


def test_without_sysfs_the_devices_are_listed_all_the_same() -> None:
    def broken() -> list[Stick]:
        raise CaptureError("gone", where="sysfs", remedy="Wait")

    found = devices(lambda: [Found("v4l2:/dev/video0", "x")], list, lambda _: True, broken)
    assert found.cameras and "pairs cannot be found" in found.notes[0]
