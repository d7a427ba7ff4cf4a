"""Exposure, white balance and focus settle, are locked, and settle again when the light changes."""

from __future__ import annotations

from typing import Any

import pytest

from device.capture.cameras.exposure_lock import MAX_EXPOSURE_US, Controls, ExposureLock
from device.records import NS_PER_MS, NS_PER_S
from tests.device.capture.cameras.fake_picamera2 import PI_LIMITS

FOCUS = {"AfMode": (0, 2, 0), "LensPosition": (0.0, 15.0, 1.0)}
SEEN: dict[str, Any] = {"ExposureTime": 12_000, "AnalogueGain": 2.0, "ColourGains": (1.8, 1.4), "AeState": 2}


class Scene:
    """Pictures at 25 a second, and what was set after each."""

    def __init__(self, limits: dict[str, tuple[Any, Any, Any]]) -> None:
        self.exposure_lock = ExposureLock(limits)
        self.t_ns = 7 * NS_PER_S
        self.set: list[Controls] = []

    def run(self, seconds: float, brightness: float = 100.0, **metadata: Any) -> list[Controls]:
        """What is set during so many seconds of one brightness."""
        found = []
        for _ in range(round(seconds * 25)):
            found.append(self.exposure_lock.observe(self.t_ns, SEEN | metadata, brightness))
            self.t_ns += 40 * NS_PER_MS
        return [controls for controls in found if controls]


def test_the_automatics_run_first_then_their_values_are_held() -> None:
    scene = Scene(PI_LIMITS)
    assert scene.exposure_lock.automatic()["AeEnable"] is True
    assert scene.run(0.96) == []
    (held,) = scene.run(600)
    assert held["AeEnable"] is False and held["ExposureTime"] == 12_000 and held["AnalogueGain"] == 2.0
    assert held["AwbEnable"] is False and held["ColourGains"] == (1.8, 1.4)
    assert "AfMode" not in held


def test_a_long_exposure_is_cut_and_made_up_for_by_gain() -> None:
    (held,) = Scene(PI_LIMITS).run(5, ExposureTime=39_000, AnalogueGain=2.0)
    assert held["ExposureTime"] == MAX_EXPOSURE_US
    assert held["AnalogueGain"] == pytest.approx(2.0 * 39_000 / MAX_EXPOSURE_US)
    (held,) = Scene(PI_LIMITS).run(5, ExposureTime=39_000, AnalogueGain=7.0)
    assert held["AnalogueGain"] == PI_LIMITS["AnalogueGain"][1]


@pytest.mark.parametrize("searching", [{"AeState": 1}, {"AeLocked": False}, {"AfState": 1}])
def test_it_waits_for_automatics_that_still_search_but_not_for_ever(searching: dict[str, Any]) -> None:
    scene = Scene(PI_LIMITS | FOCUS)
    assert scene.run(4.9, **searching) == []
    assert len(scene.run(1, **searching)) == 1


def test_focus_is_held_where_there_is_a_lens_that_moves() -> None:
    scene = Scene(PI_LIMITS | FOCUS)
    assert scene.exposure_lock.automatic()["AfMode"] == 2
    (held,) = scene.run(5, LensPosition=1.7)
    assert held["AfMode"] == 0 and held["LensPosition"] == 1.7


@pytest.mark.parametrize("brightness", [160.0, 60.0, 255.0, 0.0])
def test_another_light_makes_it_settle_again(brightness: float) -> None:
    scene = Scene(PI_LIMITS)
    scene.run(5)
    automatic, held = scene.run(10, brightness, ExposureTime=5_000)
    assert automatic["AeEnable"] is True and automatic["ExposureTime"] == 0 and automatic["AwbEnable"] is True
    assert held["AeEnable"] is False and held["ExposureTime"] == 5_000
    assert scene.run(100, brightness) == []


def test_a_flash_or_somebody_walking_by_does_not() -> None:
    scene = Scene(PI_LIMITS)
    scene.run(5)
    for _ in range(20):
        assert scene.run(0.9, 200.0) == [] == scene.run(0.2)
    assert scene.run(60, 125.0) == [] == scene.run(60, 80.0)


def test_noise_in_the_dark_does_not() -> None:
    scene = Scene(PI_LIMITS)
    scene.run(5, 0.5)
    assert scene.run(60, 5.0) == []


def test_a_picture_out_of_focus_makes_it_settle_again() -> None:
    scene = Scene(PI_LIMITS | FOCUS)
    scene.run(5, FocusFoM=4000, LensPosition=1.0)
    assert scene.run(60, FocusFoM=2500, LensPosition=1.0) == []
    automatic, held = scene.run(5, FocusFoM=1000, LensPosition=3.0)
    assert automatic["AfMode"] == 2 and held["LensPosition"] == 3.0


def test_a_camera_without_metadata_and_controls_is_left_alone() -> None:
    scene = Scene({"Brightness": (0, 255, 128)})
    assert scene.exposure_lock.automatic() == {}
    assert scene.run(20) == [] == scene.run(20, 250.0)


def test_a_usb_camera_that_does_not_say_its_exposure_keeps_its_automatics() -> None:
    scene = Scene({"AeEnable": (False, True, True), "ExposureTime": (100, 330_000, 100), "AnalogueGain": (0, 255, 0)})
    assert scene.run(20, ExposureTime=None) == []
