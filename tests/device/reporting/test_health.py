"""Health: values of the kernel, and None for unknown ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import pytest

from device.clock import SystemClock
from device.reporting.health import HealthMonitor
from tests.scripted.simclock import SimClock

KNOWN: dict[str, Any] = {
    "schema": 1, "boot_id": "b", "uptime_s": 1.0, "t_unix_ms": 2, "clock_synced": None, "video_rate_hz": 25.0,
    "microphone_ppm": None, "video_dropped": 1, "audio_dropped": 2, "sources_reopened": 3, "events_lost": 4,
    "load_step": 1,
}  # fmt: skip


def write(root: Path, path: str, content: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(content)


def test_this_process_as_others_see_it(tmp_path: Path) -> None:
    found = HealthMonitor(SystemClock(), tmp_path).read(**KNOWN)
    process = psutil.Process()
    assert found.memory_mb == pytest.approx(process.memory_info().rss / 1e6, rel=0.1)
    assert found.threads == process.num_threads()
    assert found.open_files == process.num_fds() - 1, "which counts its own look at them"
    assert found.disk_free_mb == pytest.approx(psutil.disk_usage(str(tmp_path)).free / 1e6, rel=0.05)
    assert (found.video_dropped, found.audio_dropped, found.sources_reopened, found.events_lost) == (1, 2, 3, 4)


def test_the_share_of_a_core_is_of_the_time_since_the_last_look(tmp_path: Path) -> None:
    with SimClock() as clock, clock.taking_part():
        monitor = HealthMonitor(clock, tmp_path)
        assert monitor.read(**KNOWN).cpu_ratio is None, "no time has passed"
        sum(range(3_000_000))
        clock.sleep(1000)
        ratio = monitor.read(**KNOWN).cpu_ratio
    assert ratio is not None and 0 <= ratio < 0.01


def test_a_raspberry_pi_says_how_warm_it_is_and_whether_its_power_is_low(tmp_path: Path) -> None:
    write(tmp_path, "sys/class/thermal/thermal_zone0/temp", "61834\n")
    write(tmp_path, "sys/class/hwmon/hwmon0/name", "cpu_thermal\n")
    write(tmp_path, "sys/class/hwmon/hwmon1/name", "rpi_volt\n")
    write(tmp_path, "sys/class/hwmon/hwmon1/in0_lcrit_alarm", "0\n")
    monitor = HealthMonitor(SystemClock(), tmp_path, tmp_path)
    assert (monitor.read(**KNOWN).temperature_c, monitor.read(**KNOWN).undervoltage) == (61.8, False)
    write(tmp_path, "sys/class/hwmon/hwmon1/in0_lcrit_alarm", "1\n")
    assert monitor.read(**KNOWN).undervoltage is True


@pytest.mark.parametrize("content", ["", "warm\n", "\xff", "12 34"])
def test_what_cannot_be_read_is_unknown_and_never_0(tmp_path: Path, content: str) -> None:
    for path in ("sys/class/thermal/thermal_zone0/temp", "sys/class/hwmon/hwmon1/in0_lcrit_alarm"):
        write(tmp_path, path, content)
    write(tmp_path, "sys/class/hwmon/hwmon1/name", "rpi_volt\n")
    write(tmp_path, "proc/self/status", content)
    found = HealthMonitor(SystemClock(), tmp_path, tmp_path).read(**KNOWN)
    assert found.temperature_c is found.undervoltage is found.memory_mb is found.open_files is None
    assert found.threads >= 0


def test_a_folder_that_is_not_there_yet_lies_on_the_disk_of_its_parent(tmp_path: Path) -> None:
    assert HealthMonitor(SystemClock(), tmp_path / "a" / "b").read(**KNOWN).disk_free_mb
