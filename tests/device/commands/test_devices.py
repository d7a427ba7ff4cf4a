"""`avdrift devices` prints TOML that the configuration accepts, with any device names."""

from __future__ import annotations

import argparse
import json
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.commands.devices import Devices, Found, as_toml, devices, devices_command, is_installed
from device.config.settings import CameraSettings, MicrophoneSettings
from device.errors import DeviceMissingError

CAMERAS = [Found("libcamera:/base/soc/i2c0mux/i2c@1/imx708@1a", "imx708, csi"), Found("v4l2:/dev/video4", "C920, usb")]
MICROPHONES = [Found("hw:CARD=Device,DEV=0", "USB PnP Sound Device")]


def options(*, as_json: bool = False) -> argparse.Namespace:
    return argparse.Namespace(json=as_json)


def there(_: str) -> bool:
    return True


def test_the_text_is_a_configuration() -> None:
    read = tomllib.loads(as_toml(Devices(CAMERAS, MICROPHONES, [])))
    assert CameraSettings(**read["camera"]).device == CAMERAS[0].device
    assert MicrophoneSettings(**read["microphone"]).device == MICROPHONES[0].device


def test_all_of_them_are_shown() -> None:
    text = as_toml(Devices(CAMERAS, MICROPHONES, []))
    assert '# or: device = "v4l2:/dev/video4"' in text and "# C920, usb" in text


def test_none_at_all() -> None:
    text = as_toml(Devices([], [], []))
    assert tomllib.loads(text) == {"camera": {}, "microphone": {}}
    assert "no camera was found" in text and "no microphone was found" in text


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60), st.text(max_size=60))
def test_whatever_a_device_is_called_it_is_toml(device: str, about: str) -> None:
    read = tomllib.loads(as_toml(Devices([Found(device, about)], [Found("x", about)], [])))
    assert read["camera"]["device"] == device and read["microphone"]["device"] == "x"


def test_each_half_works_without_the_other() -> None:
    def no_camera() -> list[Found]:
        raise DeviceMissingError("picamera2 cannot be imported", where="camera", remedy="Install it")

    def broken() -> list[Found]:
        raise RuntimeError("driver")

    found = devices(no_camera, lambda: MICROPHONES, there)
    assert found.microphones == MICROPHONES and found.cameras == [] and "Install it" in found.notes[0]
    found = devices(lambda: CAMERAS, broken, there)
    assert found.cameras == CAMERAS and "microphones cannot be listed (RuntimeError: driver)" in found.notes[0]


def test_what_to_install() -> None:
    notes = devices(lambda: CAMERAS, lambda: MICROPHONES, lambda _: False).notes
    assert "python3-picamera2" in notes[0] and "python3-pyaudio" in notes[1]
    assert devices(lambda: CAMERAS, lambda: MICROPHONES, there).notes == []
    assert is_installed("json") and not is_installed("no_such_module") and not is_installed("no_such.module")


@pytest.mark.parametrize(
    ("cameras", "microphones", "code"), [(CAMERAS, MICROPHONES, 0), (CAMERAS, [], 0), ([], MICROPHONES, 0), ([], [], 3)]
)
def test_exit_codes_and_json(
    cameras: list[Found], microphones: list[Found], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Devices(cameras, microphones, ["install \x1b this"])
    assert devices_command(options(as_json=True), lambda: found) == code
    result = json.loads(capsys.readouterr().out)
    assert [each["device"] for each in result["cameras"]] == [each.device for each in cameras]
    assert devices_command(options(), lambda: found) == code
    shown = capsys.readouterr()
    assert r"install \x1b this" in shown.err and "[camera]" in shown.out
