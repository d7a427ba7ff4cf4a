"""Checks the clocks: the kernel's clock source, and whether the wall clock is synchronized."""

from __future__ import annotations

from device.doctor.finding import CheckResult, ok, warning
from device.doctor.host import Host

_SLOW = ("jiffies", "refined-jiffies", "acpi_pm", "hpet", "unstable")
_SYNCED_FILE = "run/systemd/timesync/synchronized"


def clock_source(host: Host) -> CheckResult:
    """Check the counter behind CLOCK_MONOTONIC, on which all capture times lie."""
    source = host.text("sys/devices/system/clocksource/clocksource0/current_clocksource")
    if source is None:
        return ok("the kernel does not say")
    if source in _SLOW:
        remedy = "Look into `dmesg | grep -i clocksource` for the reason why the processor's own counter is not used"
        return warning(f"{source}, which is coarse or slow to read", remedy)
    return ok(source)


def wall_clock(host: Host) -> CheckResult:
    """Check whether reports can be compared in time with other computers'. Measuring does not need it."""
    if (host.root / _SYNCED_FILE).exists():
        return ok("set by systemd-timesyncd")
    answer = host.run(("timedatectl", "show", "--property=NTPSynchronized", "--value"))
    if answer == "yes":
        return ok("set from the network")
    remedy = "Let it reach a time server: sudo timedatectl set-ntp true; offsets are correct anyway"
    what = "not set from the network" if answer == "no" else "unknown whether it is set from the network"
    return warning(f"{what}: reports carry clock_synced false or null", remedy)
