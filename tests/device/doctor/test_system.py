"""Clock, memory, disk, software and service of simulated computers."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from device.doctor import system
from device.doctor.clock import clock_source, wall_clock
from device.doctor.finding import CheckResult, Level
from tests.device.doctor.hosts import PC, PI_4, host

SOURCE = "sys/devices/system/clocksource/clocksource0/current_clocksource"


# Clocks


@pytest.mark.parametrize(
    ("source", "level"),
    [("arch_sys_counter", Level.OK), ("tsc", Level.OK), ("kvm-clock", Level.OK), ("hpet", Level.WARNING),
     ("jiffies", Level.WARNING)],
)  # fmt: skip
def test_clock_sources(tmp_path: Path, source: str, level: Level) -> None:
    assert clock_source(host(tmp_path, {SOURCE: f"{source}\n"}))[0] is level


def test_no_clock_source_known(tmp_path: Path) -> None:
    assert clock_source(host(tmp_path, {}))[0] is Level.OK


@pytest.mark.parametrize(
    ("files", "said", "level", "words"),
    [
        (PI_4, "", Level.OK, "timesyncd"),
        (PC, "yes", Level.OK, "from the network"),
        (PC, "no", Level.WARNING, "not set"),
        (PC, None, Level.WARNING, "unknown whether"),
        (PC, "maybe", Level.WARNING, "unknown whether"),
    ],
)
def test_the_wall_clock(tmp_path: Path, files: dict[str, str], said: str | None, level: Level, words: str) -> None:
    answers = {} if said is None else {"timedatectl": said}
    seen, found, _ = wall_clock(host(tmp_path, files, answers))
    assert seen is level and words in found


# Memory and disk


@pytest.mark.parametrize(
    ("content", "level"),
    [("MemAvailable: 3100000 kB\n", Level.OK), ("MemAvailable: 90000 kB\n", Level.WARNING),
     ("MemAvailable: lots\n", Level.WARNING), ("", Level.WARNING)],
)  # fmt: skip
def test_memory(tmp_path: Path, content: str, level: Level) -> None:
    assert system.memory(host(tmp_path, {"proc/meminfo": content}))[0] is level


def test_a_state_folder_that_can_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    assert system.state_folder(tmp_path)[0] is Level.OK
    assert list(tmp_path.iterdir()) == []


def test_a_state_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    level, found, _ = system.state_folder(tmp_path / "state" / "avdrift")
    assert level is Level.OK and "made when it is needed" in found
    assert not (tmp_path / "state").exists()


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_state_folder_of_somebody_else(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    level, found, remedy = system.state_folder(tmp_path)
    tmp_path.chmod(0o700)
    assert level is Level.FAILED and "cannot be written" in found and "chown" in remedy


def test_a_read_only_file_system() -> None:
    level, found, _ = system.state_folder(Path("/proc/1"))
    assert level is Level.FAILED and "cannot be written" in found


def test_little_room(tmp_path: Path) -> None:
    level, found, _ = system.state_folder(tmp_path, free_bytes=lambda _: 12_000_000)
    assert level is Level.WARNING and "12 MB" in found


# Software


def test_the_software_of_this_environment() -> None:
    level, found, _ = system.software()
    assert level is Level.OK and "numpy" in found and "Python 3." in found


def without(*names: str) -> CheckResult:
    def version(name: str) -> str:
        if name in names:
            raise PackageNotFoundError(name)
        return "1.0"

    return system.software(version)


def test_missing_libraries_are_all_named() -> None:
    level, found, remedy = without("av", "numpy")
    assert level is Level.FAILED and "numpy, av not installed" in found and "pip install numpy av" in remedy


def test_a_twin_of_a_library_will_do() -> None:
    assert without("ai-edge-litert")[0] is Level.OK
    assert "ai-edge-litert" in without("ai-edge-litert", "tflite-runtime")[1]


@pytest.mark.parametrize(
    ("python", "level"), [((3, 10, 2), Level.FAILED), ((3, 13, 0), Level.OK), ((3, 14, 0), Level.FAILED)]
)
def test_pythons(python: tuple[int, ...], level: Level) -> None:
    assert system.software(lambda _: "1.0", python)[0] is level


# Service


@pytest.mark.parametrize(
    ("said", "level", "words"),
    [
        ("LoadState=loaded\nActiveState=active\nExecMainStatus=0", Level.OK, "active"),
        ("LoadState=loaded\nActiveState=inactive\nExecMainStatus=0", Level.WARNING, "not running"),
        ("LoadState=loaded\nActiveState=failed\nExecMainStatus=4", Level.FAILED, "exit code was 4"),
        ("LoadState=loaded\nActiveState=activating\nExecMainStatus=3", Level.FAILED, "activating"),
        ("LoadState=not-found\nActiveState=inactive", Level.OK, "not installed"),
        ("rubbish", Level.OK, "not installed"),
        (None, Level.OK, "not installed"),
    ],
)
def test_the_service(tmp_path: Path, said: str | None, level: Level, words: str) -> None:
    answers = {} if said is None else {"systemctl": said}
    seen, found, _ = system.service(host(tmp_path, PI_4, answers))
    assert seen is level and words in found


def test_no_systemd(tmp_path: Path) -> None:
    assert "no systemd" in system.service(host(tmp_path, PC))[1]
