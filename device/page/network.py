"""Opens the page to the network for a while: a file holds the end time, and the daemon polls it.

The time counts from the computer's boot, so that neither setting the wall clock nor a restart of the daemon changes it;
a reboot ends it.
"""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

from device.errors import ModelCorruptError, UsageError
from device.state.bounded_json import parse_json
from device.state.disk import Disk, read_plain

FILE = "page-network.json"
MAX_S = 86_400.0
ANYWHERE = "::"
_MAX_BYTES = 1000
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_NOWHERE = ("192.0.2.1", 9)  # reserved for documentation (RFC 5737): only the route is looked up, nothing is sent


def open_for(state_dir: Path, seconds: float, disk: Disk | None = None) -> None:
    """Open it from now on; 0 closes it. Raises UsageError if the state folder cannot be written."""
    disk, file = disk or Disk(), state_dir / FILE
    content = json.dumps({"boot_id": _boot_id(), "until_s": _uptime_s() + seconds})
    try:
        disk.make_folders(state_dir)
        disk.write_atomically(file, content.encode())
    except OSError as error:
        remedy = "Free some space, or run this as the user that owns the folder"
        raise UsageError(f"cannot be written ({error.strerror})", where=str(file), remedy=remedy) from error


def open_s(state_dir: Path) -> float:
    """For how many more seconds it is open; 0 if it is closed."""
    try:
        found: Any = parse_json(read_plain(state_dir / FILE, _MAX_BYTES))
        left_s = float(found["until_s"]) - _uptime_s() if found["boot_id"] == _boot_id() else 0.0
    except (OSError, ModelCorruptError, ValueError, TypeError, KeyError):
        return 0.0  # closed is the safe state
    return left_s if 0 < left_s <= MAX_S else 0.0


def own_address() -> str | None:
    """The address by which this computer reaches others; None without a network."""
    for family, nowhere in ((socket.AF_INET, _NOWHERE), (socket.AF_INET6, ("2001:db8::1", 9))):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect(nowhere)
                return str(probe.getsockname()[0])
        except OSError:
            continue
    return None


def url(host: str, port: int, token: str, *, tls: bool) -> str:
    """The address to type into a browser."""
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if tls else 'http'}://{shown}:{port}/#{token}"


def _uptime_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _boot_id() -> str:
    return _BOOT_ID.read_text(encoding="ascii").strip() if _BOOT_ID.is_file() else "unknown"
