"""Camera, microphone and permissions: which one is configured, what is missing, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from device.commands.devices import Found
from device.doctor.capture import camera, microphone, permissions
from device.doctor.finding import Level
from tests.device.doctor.hosts import PC, PI_4, host

PI_CAMERA = Found("libcamera:/base/soc/i2c0mux/i2c@1/imx708@1a", "imx708, csi")
WEBCAM = Found("v4l2:/dev/v4l/by-id/usb-C920-video-index0", "C920, usb")
USB = Found("hw:CARD=Device,DEV=0", "USB PnP Sound Device")


def there(_: str) -> bool:
    return True


def not_there(_: str) -> bool:
    return False


@pytest.mark.parametrize("wanted", ["auto", PI_CAMERA.device, "/base/soc/i2c0mux/i2c@1/imx708@1a"])
def test_the_only_camera(wanted: str) -> None:
    level, found, _ = camera(wanted, lambda: [PI_CAMERA], there)
    assert level is Level.OK and "imx708" in found


def test_two_cameras_and_none_chosen() -> None:
    level, found, remedy = camera("auto", lambda: [PI_CAMERA, WEBCAM], there)
    assert level is Level.FAILED and "imx708" in found and "C920" in found and "avdrift devices" in remedy
    assert camera(WEBCAM.device, lambda: [PI_CAMERA, WEBCAM], there)[0] is Level.OK


def test_another_camera_than_the_configured() -> None:
    level, found, _ = camera("libcamera:/base/other", lambda: [WEBCAM], there)
    assert level is Level.FAILED and "not connected" in found and WEBCAM.device in found


def test_no_camera() -> None:
    level, found, remedy = camera("auto", list, there)
    assert level is Level.FAILED and "no camera is connected" in found and "cable" in remedy
    level, found, remedy = camera("auto", list, not_there)
    assert level is Level.FAILED and "picamera2" in found and "apt install python3-picamera2" in remedy


def test_a_usb_camera_needs_no_picamera2() -> None:
    assert camera("auto", lambda: [WEBCAM], not_there)[0] is Level.OK


def test_microphones() -> None:
    assert microphone("auto", lambda: [USB], there)[0] is Level.OK
    assert microphone("auto", list, there)[0] is Level.FAILED
    level, _, remedy = microphone("auto", lambda: [USB], not_there)
    assert level is Level.FAILED and "python3-pyaudio" in remedy


def test_a_microphone_in_use() -> None:
    held = Found(USB.device, "USB, held by pipewire (812)")
    assert microphone("auto", lambda: [held], there)[0] is Level.FAILED
    ours = Found(USB.device, "USB, held by avdrift (900)")
    assert microphone("auto", lambda: [ours], there)[0] is Level.OK


def test_a_microphone_that_this_user_may_not_open() -> None:
    closed = Found(USB.device, "USB, this user may not open it: sudo usermod -aG audio USER")
    assert microphone("auto", lambda: [closed], there)[0] is Level.FAILED


def test_permissions(tmp_path: Path) -> None:
    level, found, _ = permissions(host(tmp_path, PI_4))
    assert level is Level.OK and "2 video nodes, 1 audio nodes" in found


def test_a_user_outside_the_groups(tmp_path: Path) -> None:
    level, found, remedy = permissions(host(tmp_path, PI_4, user="avdrift"))
    assert level is Level.FAILED and "video and audio" in found and "usermod -aG video,audio avdrift" in remedy
    level, found, remedy = permissions(host(tmp_path, PI_4, user="pulse"))
    assert "not in video (" in found and "-aG video pulse" in remedy


def test_root_and_missing_nodes(tmp_path: Path) -> None:
    assert permissions(host(tmp_path / "pi", PI_4, user="root"))[0] is Level.OK
    level, found, _ = permissions(host(tmp_path / "pc", PC))
    assert level is Level.WARNING and "nothing for video and audio" in found
