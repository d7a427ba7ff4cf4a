"""Every camera is listed once, under the name that opens it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from device.capture.cameras.discovery import FoundCamera, list_cameras, open_camera
from device.capture.cameras.picamera2_source import CameraSource
from device.config.settings import CameraSettings
from device.errors import DeviceMissingError
from tests.device.capture.cameras.fake_picamera2 import IMX219, USB, FakeLibrary

PLACE = "1-1.4:1.0"  # on the USB bus: device 1.4, interface 1.0


class Machine:
    """A /sys and a /dev with video nodes as Linux shows them."""

    def __init__(self, folder: Path) -> None:
        self.sys, self.dev, self._devices = folder / "class", folder / "dev", folder / "devices"
        for path in (self.sys, self.dev):
            path.mkdir(parents=True)

    def add_usb(self, number: int, *, name: str = "UVC Camera", place: str = PLACE, index: int = 0) -> None:
        interface = self._devices / "usb1" / place.partition(":")[0] / place
        interface.mkdir(parents=True, exist_ok=True)
        (interface.parent / "idVendor").write_text("046d\n")
        (interface.parent / "idProduct").write_text("0825\n")
        self._add(number, interface, name, index)

    def add_platform(self, number: int, name: str) -> None:
        device = self._devices / "platform" / name
        device.mkdir(parents=True)
        self._add(number, device, name, 0)

    def _add(self, number: int, device: Path, name: str, index: int) -> None:
        folder = self.sys / f"video{number}"
        folder.mkdir()
        (folder / "device").symlink_to(device)
        (folder / "index").write_text(f"{index}\n")
        (folder / "name").write_text(name + "\n")
        (self.dev / f"video{number}").touch()

    def link(self, folder: str, name: str, number: int) -> None:
        (self.dev / "v4l" / folder).mkdir(parents=True, exist_ok=True)
        (self.dev / "v4l" / folder / name).symlink_to(self.dev / f"video{number}")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def found(machine: Machine, *infos: dict[str, Any]) -> list[FoundCamera]:
    return list_cameras(FakeLibrary(*infos), sys=machine.sys, dev=machine.dev)


def test_nothing_connected(machine: Machine) -> None:
    assert found(machine) == []


def test_cameras_of_libcamera_with_how_they_connect(machine: Machine) -> None:
    other: dict[str, Any] = {"Id": "Virtual0", "Model": "bars"}
    assert found(machine, IMX219, USB, other) == [
        FoundCamera("libcamera:" + IMX219["Id"], "imx219", "csi"),
        FoundCamera("libcamera:" + USB["Id"], "C270 HD WEBCAM", "usb"),
        FoundCamera("libcamera:Virtual0", "bars", "virtual"),
    ]


def test_a_usb_camera_under_the_name_that_lasts(machine: Machine) -> None:
    machine.add_usb(0)
    assert found(machine) == [FoundCamera(f"v4l2:{machine.dev}/video0", "UVC Camera", "usb")]
    machine.link("by-path", "pci-usb-0:1.4:1.0-video-index0", 0)
    assert found(machine)[0].device.endswith("/by-path/pci-usb-0:1.4:1.0-video-index0")
    machine.link("by-id", "usb-046d_C270_A1B2-video-index0", 0)
    assert found(machine)[0].device == f"v4l2:{machine.dev}/v4l/by-id/usb-046d_C270_A1B2-video-index0"


def test_only_the_picture_streams_of_cameras(machine: Machine) -> None:
    machine.add_platform(10, "bcm2835-codec-decode")
    machine.add_platform(0, "unicam")
    machine.add_usb(2)
    machine.add_usb(3, index=1)  # the same camera's metadata
    assert [camera.device for camera in found(machine)] == [f"v4l2:{machine.dev}/video2"]


def test_a_camera_that_both_know_is_listed_once(machine: Machine) -> None:
    machine.add_usb(0)
    machine.add_usb(1, place="1-1.3:1.0")
    known: dict[str, Any] = {"Id": "/base/scb/pcie@7d500000,0/usb@0,0-1.4:1.0-046d:0825", "Model": "C270"}
    assert [camera.device for camera in found(machine, known)] == [
        "libcamera:" + known["Id"],
        f"v4l2:{machine.dev}/video1",
    ]


def test_a_camera_that_is_unplugged_while_it_is_listed(machine: Machine) -> None:
    machine.add_usb(0)
    (machine.sys / "video0" / "name").unlink()
    assert found(machine) == []


def test_without_picamera2_usb_cameras_are_still_found(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", None)
    machine.add_usb(0)
    assert len(list_cameras(sys=machine.sys, dev=machine.dev)) == 1


def test_a_library_that_fails_is_a_library_that_finds_none(machine: Machine) -> None:
    library = FakeLibrary(IMX219)
    library.Picamera2.global_camera_info = staticmethod(lambda: [][0])  # type: ignore[method-assign]
    assert list_cameras(library, sys=machine.sys, dev=machine.dev) == []


def test_what_is_listed_can_be_opened() -> None:
    library = FakeLibrary(IMX219, USB)
    for camera in list_cameras(library):
        with open_camera(replace(CameraSettings(), device=camera.device), library) as source:
            assert isinstance(source, CameraSource)
            assert (source.device, source.name) == (camera.device, camera.name)


def test_auto_takes_the_only_one_and_asks_where_there_are_two() -> None:
    with open_camera(CameraSettings(), FakeLibrary(USB)) as source:
        assert source.device == "libcamera:" + USB["Id"]
    with pytest.raises(DeviceMissingError, match="there are 2 cameras") as caught:
        open_camera(CameraSettings(), FakeLibrary(IMX219, USB))
    assert f"libcamera:{IMX219['Id']}, libcamera:{USB['Id']}" in str(caught.value)


def test_no_camera_at_all_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceMissingError, match="no camera is connected"):
        open_camera(CameraSettings(), FakeLibrary())
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(DeviceMissingError, match="apt install"):
        open_camera(CameraSettings())


def test_a_video4linux_string_goes_there() -> None:
    with pytest.raises(DeviceMissingError, match="no such camera"):
        open_camera(CameraSettings(device="v4l2:/dev/v4l/by-id/none"))
