"""Sound cards as the kernel lists them: stable names, the process that uses one, and each reason for a failure."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from device.capture.microphones.sound_cards import Microphone, canonical, find_microphone, list_microphones
from device.errors import DeviceBusyError, DeviceMissingError, DevicePermissionError, UsageError
from tests.device.capture.microphones.fake_pyaudio import add_card


def test_cards_that_record_are_listed_by_names_that_last(tmp_path: Path) -> None:
    add_card(tmp_path, 10, "MicArray", "ReSpeaker 4 Mic Array", dev=1)
    add_card(tmp_path, 2, "Device", "USB PnP Sound Device")
    (tmp_path / "proc/asound/card0/pcm0p").mkdir(parents=True)  # HDMI only plays
    (tmp_path / "proc/asound/card0/id").write_text("vc4hdmi\n")
    assert list_microphones(tmp_path) == [
        Microphone("hw:CARD=Device,DEV=0", "USB PnP Sound Device: USB Audio", 2, 0, None, True),
        Microphone("hw:CARD=MicArray,DEV=1", "ReSpeaker 4 Mic Array: USB Audio", 10, 1, None, True),
    ]


def test_a_card_that_does_not_say_what_it_is_has_a_name_all_the_same(tmp_path: Path) -> None:
    add_card(tmp_path, 1, "Device", "USB")
    for about, name in (("id: Mic In\n", "USB: Mic In"), ("", "USB: capture")):
        (tmp_path / "proc/asound/card1/pcm0c/info").write_text(about)
        assert [one.name for one in list_microphones(tmp_path)] == [name]


def test_without_sound_there_is_nothing(tmp_path: Path) -> None:
    assert list_microphones(tmp_path) == []
    assert isinstance(list_microphones(), list)  # on this very machine


@pytest.mark.parametrize("gone", ["id", "pcm0c/info", "pcm0c/sub0"])
def test_a_card_that_is_unplugged_while_it_is_listed_is_left_out_or_free(tmp_path: Path, gone: str) -> None:
    add_card(tmp_path, 1, "Device", "USB")
    path = tmp_path / "proc/asound/card1" / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert [one.held_by for one in list_microphones(tmp_path)] in ([], [None])


def test_hostile_text_is_only_text(tmp_path: Path) -> None:
    add_card(tmp_path, 1, "De\u202evice", "x] : y - z [")
    (tmp_path / "proc/asound/card1/pcm0c/info").write_bytes(b"\xff\xfe name name:::\n")
    assert len(list_microphones(tmp_path)) == 1


@pytest.mark.parametrize(
    "name", ["hw:Device", "hw:CARD=Device", "hw:Device,0", "hw:CARD=Device,DEV=0", "hw:CARD=Device,0"]
)
def test_a_name_may_be_written_in_all_the_ways_that_alsa_has(name: str) -> None:
    assert canonical(name) == "hw:CARD=Device,DEV=0"


@pytest.mark.parametrize(
    "name", ["hw:1", "hw:1,0", "hw:CARD=1,DEV=0", "hw:", "plughw:CARD=Device", "pulse", "hw:a,b", "hw:a,0,0"]
)
def test_numbers_and_anything_else_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="avdrift devices"):
        canonical(name)


def test_auto_takes_the_only_one_and_lists_several(tmp_path: Path) -> None:
    with pytest.raises(DeviceMissingError, match="there is no other"):
        find_microphone("auto", tmp_path)
    add_card(tmp_path, 1, "Device", "USB PnP Sound Device")
    assert find_microphone("auto", tmp_path).device == "hw:CARD=Device,DEV=0"
    add_card(tmp_path, 2, "Webcam", "C920")
    with pytest.raises(DeviceMissingError, match=r"hw:CARD=Device,DEV=0 \(USB PnP.*hw:CARD=Webcam,DEV=0 \(C920"):
        find_microphone("auto", tmp_path)


def test_a_card_that_is_not_there_yet_is_missing_whatever_else_is(tmp_path: Path) -> None:
    add_card(tmp_path, 1, "Webcam", "C920")
    with pytest.raises(DeviceMissingError, match=r"hw:CARD=Device,DEV=0: not connected; available: hw:CARD=Webcam"):
        find_microphone("hw:Device", tmp_path)
    with pytest.raises(DeviceMissingError):
        find_microphone("hw:CARD=Webcam,DEV=1", tmp_path)


def test_the_process_that_holds_it_is_named_by_one_of_its_threads(tmp_path: Path) -> None:
    add_card(tmp_path, 1, "Device", "USB", owner=815)
    with pytest.raises(DeviceBusyError, match=r"process 815 holds it"):
        find_microphone("auto", tmp_path)
    for number in (812, 815):
        (tmp_path / f"proc/{number}").mkdir()
        (tmp_path / f"proc/{number}/status").write_text(f"Name:\tdata-loop.0\nTgid:\t812\nPid:\t{number}\n")
    (tmp_path / "proc/812/comm").write_text("pipewire\n")
    with pytest.raises(DeviceBusyError, match=r"hw:CARD=Device,DEV=0: pipewire \(812\) holds it"):
        find_microphone("auto", tmp_path)


def test_a_second_substream_that_is_free_makes_it_free(tmp_path: Path) -> None:
    add_card(tmp_path, 1, "Device", "USB", owner=815)
    (tmp_path / "proc/asound/card1/pcm0c/sub1").mkdir()
    (tmp_path / "proc/asound/card1/pcm0c/sub1/status").write_text("closed\n")
    assert find_microphone("auto", tmp_path).held_by is None


def test_permission_is_reported_before_anything_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_card(tmp_path, 1, "Device", "USB", owner=815)
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.R_OK | os.W_OK)
    with pytest.raises(DevicePermissionError, match="group audio"):
        find_microphone("hw:Device", tmp_path)
