"""Checks power supply, throttling and temperature, which make a Raspberry Pi slow or restart."""

from __future__ import annotations

import re

from device.doctor.finding import CheckResult, ok, warning
from device.doctor.host import Host

WARM_C, HOT_C = 70.0, 80.0  # from 80 °C on a Raspberry Pi slows down

_SUPPLY = "Use the supply made for this model (5.1 V, 3 A; Pi 5: 5 A) with a short cable, or less on its USB ports"
_COOL = "Improve its cooling, for example with a fan"
# Bits of the firmware's get_throttled: now, and 16 higher: since boot.
_BITS = {0: "under-voltage", 1: "clock limited", 2: "throttled", 3: "temperature limit"}
_THROTTLED_FILES = ("sys/devices/platform/soc/soc:firmware/get_throttled", "sys/devices/platform/soc*/*/get_throttled")


def power_supply(host: Host) -> CheckResult:
    """Check for undervoltage, by the Raspberry Pi's own alarm and the firmware's record of it."""
    alarm = next(
        (
            host.number(f"{chip}/in0_lcrit_alarm")
            for chip in host.paths("sys/class/hwmon/hwmon*")
            if host.text(f"{chip}/name") == "rpi_volt"
        ),
        None,
    )
    bits = _throttled(host)
    if alarm or (bits is not None and bits & 1):
        return warning("under-voltage now: the computer slows down, and may lose devices or stop", _SUPPLY)
    if bits is not None and bits >> 16 & 1:
        return warning("there was under-voltage since the start", _SUPPLY)
    if alarm is None and bits is None:
        return ok("this computer does not report it")
    return ok("no under-voltage")


def throttling(host: Host) -> CheckResult:
    """Check whether the firmware throttles the processor."""
    bits = _throttled(host)
    if bits is None:
        return ok("this computer does not report it")
    now = [word for bit, word in _BITS.items() if bit and bits >> bit & 1]
    before = [word for bit, word in _BITS.items() if bit and bits >> (bit + 16) & 1]
    if now:
        return warning(f"throttled now: {', '.join(now)}", f"{_COOL}; see also power")
    if before:
        return warning(f"was throttled since the start: {', '.join(before)}", f"{_COOL}; see also power")
    return ok("not throttled")


def temperature(host: Host) -> CheckResult:
    """Check the hottest processor sensor, or the hottest of all if none is named so."""
    zones = host.paths("sys/class/thermal/thermal_zone*")
    cpu = [zone for zone in zones if re.search("cpu|x86_pkg|soc", host.text(f"{zone}/type") or "")]
    readings = [value for zone in cpu or zones if (value := host.number(f"{zone}/temp")) is not None]
    if not readings:
        return ok("this computer does not report it")
    hottest_c = max(readings) / 1000
    if hottest_c >= HOT_C:
        return warning(f"{hottest_c:.0f} °C: the processor is slowed down", _COOL)
    if hottest_c >= WARM_C:
        return warning(f"{hottest_c:.0f} °C; from {HOT_C:g} °C on it slows down", _COOL)
    return ok(f"{hottest_c:.0f} °C")


def _throttled(host: Host) -> int | None:
    """The firmware's bits; None if it cannot be queried."""
    paths = [path for pattern in _THROTTLED_FILES for path in host.paths(pattern)]
    texts = [host.text(path) for path in paths] or [host.run(("vcgencmd", "get_throttled"))]
    for text in texts:
        if match := re.fullmatch(r"(?:throttled=)?(?:0x)?([0-9a-fA-F]{1,8})", text or ""):
            return int(match[1], 16)
    return None
