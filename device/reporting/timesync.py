"""Whether a time source keeps the wall clock right, as the kernel knows it: timesyncd, chrony, ntpd or PTP."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

# systemd-timesyncd creates it once the clock was set; the fallback where a sandbox forbids asking the kernel.
_TIMESYNC = Path("/run/systemd/timesync/synchronized")
_MAX_ERROR_US = 16_000_000  # the kernel starts there, and returns there some nine hours after the last correction


class Timex(ctypes.Structure):
    """The kernel's `struct timex`, see adjtimex(2); only the fields up to `tolerance` are named."""

    _fields_ = (
        ("modes", ctypes.c_uint),  # 0: change nothing
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror_us", ctypes.c_long),
        ("esterror_us", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("rest", ctypes.c_byte * 256),  # longer than the rest of it
    )


def read_timex() -> Timex | None:
    """The kernel's view of its clock; None where asking is forbidden."""
    timex = Timex()
    if ctypes.CDLL(None).adjtimex(ctypes.byref(timex)) < 0:
        return None
    return timex


def clock_synced() -> bool | None:
    """True while a time source is correcting the wall clock; None where unknown.

    Uses the maximum error that the time service has told the kernel, not the flag STA_UNSYNC. Some services leave that
    flag set on purpose, to keep the kernel away from a hardware clock (chrony without `rtcsync`, timesyncd with a
    hardware clock in local time).
    """
    timex = read_timex()
    if timex is None:
        return True if os.path.exists(_TIMESYNC) else None  # noqa: PTH110 - runs with every report, and never raises
    return bool(timex.maxerror_us < _MAX_ERROR_US)
