"""Simulated computers: a Raspberry Pi 4, a Raspberry Pi 5 with a weak supply, a PC; and programs that answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from device.doctor.host import Host

GROUPS = "root:x:0:\naudio:x:29:pi,pulse\nvideo:x:44:pi\nusers:x:100:\n"
MEMINFO = "MemTotal:        3884364 kB\nMemFree:          210000 kB\nMemAvailable:    3100000 kB\n"
CARDS = " 2 [Device         ]: USB-Audio - USB PnP Sound Device\n                      C-Media at usb-1.2\n"

COMMON = {
    "etc/group": GROUPS,
    "proc/meminfo": MEMINFO,
    "sys/devices/system/clocksource/clocksource0/current_clocksource": "arch_sys_counter\n",
    "run/systemd/timesync/synchronized": "",
    "run/systemd/system/.keep": "",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "48312\n",
    "dev/video0": "",
    "dev/media0": "",
    "dev/snd/pcmC2D0c": "",
    "proc/asound/cards": CARDS,
    "proc/asound/card2/id": "Device\n",
    "proc/asound/card2/pcm0c/info": "card: 2\ndevice: 0\nname: USB Audio\n",
    "proc/asound/card2/pcm0c/sub0/status": "closed\n",
}
PI_4 = COMMON | {
    "sys/class/hwmon/hwmon0/name": "cpu_thermal\n",
    "sys/class/hwmon/hwmon1/name": "rpi_volt\n",
    "sys/class/hwmon/hwmon1/in0_lcrit_alarm": "0\n",
    "sys/devices/platform/soc/soc:firmware/get_throttled": "0\n",
}
PI_5_WEAK = COMMON | {
    "sys/class/hwmon/hwmon2/name": "rpi_volt\n",
    "sys/class/hwmon/hwmon2/in0_lcrit_alarm": "1\n",
    "sys/class/thermal/thermal_zone0/temp": "83100\n",
}
PC = {
    name: content for name, content in COMMON.items() if not name.startswith(("sys/class/thermal", "dev/", "run/"))
} | {
    "sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc\n",
    "sys/class/thermal/thermal_zone0/type": "acpitz\n",
    "sys/class/thermal/thermal_zone0/temp": "99000\n",
    "sys/class/thermal/thermal_zone1/type": "x86_pkg_temp\n",
    "sys/class/thermal/thermal_zone1/temp": "41000\n",
}


class Programs:
    """Answers by the program's name, and remembers what was asked."""

    def __init__(self, answers: Mapping[str, str] = {}) -> None:
        self._answers, self.asked = answers, list[Sequence[str]]()

    def __call__(self, command: Sequence[str]) -> str | None:
        self.asked.append(command)
        return self._answers.get(command[0])


def host(
    root: Path, files: Mapping[str, str], answers: Mapping[str, str] = {}, *, user: str = "pi",
    own_groups: frozenset[int] | None = None,
) -> Host:  # fmt: skip
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return Host(root, Programs(answers), user, own_groups)
