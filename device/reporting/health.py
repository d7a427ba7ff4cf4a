"""The state of the computer and of this process, read from the kernel. Keeps only what rates need."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from device.clock import Clock
from device.records import NS_PER_S, Health

EVERY_S = 60.0

_MEGABYTE = 1e6


class HealthMonitor:
    """Makes Health records. `root` stands for `/`; `folder` is the state folder of avdrift."""

    def __init__(self, clock: Clock, folder: Path, root: Path = Path("/")) -> None:
        self._clock, self._folder, self._root = clock, folder, root
        self._looked_ns, self._cpu_s = clock.now_ns(), _cpu_s()

    def read(self, **known: Any) -> Health:
        """`known`: the fields of a Health record that only the daemon knows."""
        now_ns, cpu_s = self._clock.now_ns(), _cpu_s()
        passed_s, used_s = (now_ns - self._looked_ns) / NS_PER_S, cpu_s - self._cpu_s
        self._looked_ns, self._cpu_s = now_ns, cpu_s
        status = self._status()
        millidegrees = _number(self._root / "sys/class/thermal/thermal_zone0/temp")
        return Health(
            cpu_ratio=round(used_s / passed_s, 3) if passed_s > 0 else None,
            memory_mb=round(status["VmRSS"] * 1024 / _MEGABYTE, 1) if "VmRSS" in status else None,
            threads=status.get("Threads", 0),
            open_files=self._open_files(),
            temperature_c=round(millidegrees / 1000, 1) if millidegrees is not None else None,
            undervoltage=self._undervoltage(),
            disk_free_mb=self._disk_free_mb(),
            **known,
        )

    def _status(self) -> dict[str, int]:
        """The integers in /proc/self/status."""
        found = {}
        for line in _text(self._root / "proc/self/status").splitlines():
            name, _, value = line.partition(":")
            if (first := value.split()[:1]) and first[0].isdecimal():
                found[name] = int(first[0])
        return found

    def _open_files(self) -> int | None:
        try:
            return sum(1 for _ in (self._root / "proc/self/fd").iterdir()) - 1  # the listing itself opens one
        except OSError:
            return None

    def _undervoltage(self) -> bool | None:
        """The Raspberry Pi's undervoltage alarm; None on computers without one."""
        for chip in sorted(self._root.glob("sys/class/hwmon/hwmon*")):
            if _text(chip / "name").strip() == "rpi_volt":
                alarm = _number(chip / "in0_lcrit_alarm")
                return bool(alarm) if alarm is not None else None
        return None

    def _disk_free_mb(self) -> float | None:
        """Free space where the state folder is, or would be created."""
        folder = next((each for each in (self._folder, *self._folder.parents) if each.is_dir()), self._root)
        try:
            return round(shutil.disk_usage(folder).free / _MEGABYTE, 1)
        except OSError:
            return None


def _cpu_s() -> float:
    used = os.times()
    return used.user + used.system


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    try:
        return int(_text(path))
    except ValueError:
        return None
