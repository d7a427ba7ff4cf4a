"""Reading the computer: missing, invalid or too large values are None, and nothing raises."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from device.doctor.host import Host, own_name, run_program, this_host
from tests.device.doctor.hosts import PI_4, host


def test_text_and_numbers(tmp_path: Path) -> None:
    pi = host(tmp_path, PI_4)
    assert pi.text("sys/class/hwmon/hwmon1/name") == "rpi_volt"
    assert pi.number("sys/class/thermal/thermal_zone0/temp") == 48312
    assert pi.fields("proc/meminfo")["MemAvailable"] == 3_100_000
    assert pi.paths("sys/class/hwmon/hwmon*") == ["sys/class/hwmon/hwmon0", "sys/class/hwmon/hwmon1"]


@pytest.mark.parametrize("content", [b"", b"x", b"\xff\xfe", b"1" * 100_000, b"9" * 5000, b"1 2", b"\0"])
def test_numbers_that_are_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "value").write_bytes(content)
    assert Host(tmp_path).number("value") is None
    assert Host(tmp_path).number("nothing") is None and Host(tmp_path).text("nothing") is None
    (tmp_path / "folder").mkdir()
    assert Host(tmp_path).text("folder") is None


@pytest.mark.parametrize("content", ["", ":::", "audio", "audio:x:many:pi", "a:b:c:d:e", "\n\n", ":x:1:"])
def test_group_files_that_are_none_of_ours(tmp_path: Path, content: str) -> None:
    strange = host(tmp_path, {"etc/group": content})
    assert not strange.is_in("audio")
    assert strange.fields("etc/group") == {} or content == ":::"


def test_groups_of_another_user_come_from_the_file(tmp_path: Path) -> None:
    assert host(tmp_path, PI_4, user="pi").is_in("audio")
    assert not host(tmp_path, PI_4, user="pulse").is_in("video")


def test_groups_of_this_process_are_those_that_it_has_now(tmp_path: Path) -> None:
    joined_just_now = host(tmp_path, PI_4, user="pi", own_groups=frozenset({29}))
    assert joined_just_now.is_in("audio") and not joined_just_now.is_in("video")


def test_this_host() -> None:
    own = this_host()
    assert own.user == own_name() and own.own_groups is not None and os.getgid() in own.own_groups
    assert this_host(own.user) == own
    assert this_host("somebody-else").own_groups is None


def test_programs() -> None:
    assert run_program([sys.executable, "-c", "print('yes')"]) == "yes"
    assert run_program([sys.executable, "-c", "import sys; sys.exit(1)"]) is None
    assert run_program(["no-such-program-anywhere"]) is None
