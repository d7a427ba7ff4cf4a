"""Power and temperature of a Pi 4, a Pi 5 with a weak supply, and a PC."""

from __future__ import annotations

from pathlib import Path

import pytest

from device.doctor.finding import Level
from device.doctor.power import power_supply, temperature, throttling
from tests.device.doctor.hosts import PC, PI_4, PI_5_WEAK, Programs, host

BITS = "sys/devices/platform/soc/soc:firmware/get_throttled"


def test_a_healthy_pi_4(tmp_path: Path) -> None:
    pi = host(tmp_path, PI_4)
    assert power_supply(pi)[:2] == (Level.OK, "no under-voltage")
    assert throttling(pi)[:2] == (Level.OK, "not throttled")
    assert temperature(pi)[:2] == (Level.OK, "48 °C")


def test_a_pi_5_with_a_weak_supply(tmp_path: Path) -> None:
    pi = host(tmp_path, PI_5_WEAK, {"vcgencmd": "throttled=0x50005"})
    level, found, remedy = power_supply(pi)
    assert level is Level.WARNING and "under-voltage now" in found and "supply" in remedy
    level, found, _ = throttling(pi)
    assert level is Level.WARNING and "throttled" in found and "now" in found
    level, found, remedy = temperature(pi)
    assert level is Level.WARNING and "83 °C" in found and "fan" in remedy


def test_the_alarm_alone_is_enough(tmp_path: Path) -> None:
    assert "under-voltage now" in power_supply(host(tmp_path, PI_5_WEAK))[1]


def test_a_pc_reports_nothing_and_nothing_is_wrong(tmp_path: Path) -> None:
    pc = host(tmp_path, PC)
    assert power_supply(pc)[0] is Level.OK and "does not report it" in power_supply(pc)[1]
    assert throttling(pc)[0] is Level.OK
    assert temperature(pc)[1] == "41 °C"  # the processor's, not the board's


def test_nothing_at_all(tmp_path: Path) -> None:
    bare = host(tmp_path, {})
    assert {run(bare)[0] for run in (power_supply, throttling, temperature)} == {Level.OK}


@pytest.mark.parametrize(
    ("bits", "power", "held"),
    [
        ("0", "no under-voltage", "not throttled"),
        ("1", "under-voltage now", "not throttled"),
        ("50000", "since the start", "was throttled since the start: throttled"),
        ("0x10000", "since the start", "not throttled"),
        ("20002", "no under-voltage", "throttled now: clock limited"),
        ("80008", "no under-voltage", "throttled now: temperature limit"),
        ("e0000", "no under-voltage", "clock limited, throttled, temperature limit"),
    ],
)
def test_the_firmwares_bits(tmp_path: Path, bits: str, power: str, held: str) -> None:
    pi = host(tmp_path, PI_4 | {BITS: f"{bits}\n"})
    assert power in power_supply(pi)[1] and held in throttling(pi)[1]


@pytest.mark.parametrize("bits", ["", "nonsense", "0x", "123456789", "-1", "throttled=", "0 0"])
def test_bits_that_cannot_be_read_are_not_known(tmp_path: Path, bits: str) -> None:
    assert "does not report it" in throttling(host(tmp_path, PI_4 | {BITS: bits}))[1]


def test_vcgencmd_is_asked_only_where_the_kernel_does_not_tell(tmp_path: Path) -> None:
    pi = host(tmp_path, PI_4, {"vcgencmd": "throttled=0x1"})
    assert power_supply(pi)[0] is Level.OK
    assert isinstance(pi.run, Programs) and not pi.run.asked


@pytest.mark.parametrize(
    ("millidegrees", "level"), [("-5000", Level.OK), ("69999", Level.OK), ("70000", Level.WARNING), ("x", Level.OK)]
)
def test_temperatures(tmp_path: Path, millidegrees: str, level: Level) -> None:
    assert temperature(host(tmp_path, PI_4 | {"sys/class/thermal/thermal_zone0/temp": millidegrees}))[0] is level
