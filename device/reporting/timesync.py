"""Whether something keeps the wall clock right, asked of the kernel: the same for timesyncd, chrony, ntpd and PTP."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

# systemd-timesyncd makes it once the clock was set; the answer where a sandbox forbids the question to the kernel.
_TIMESYNC = Path("/run/systemd/timesync/synchronized")
_MAX_ERROR_US = 16_000_000  # where the kernel starts, and where it ends some nine hours after the last correction


class Timex(ctypes.Structure):
    """The kernel's `struct timex` as adjtimex(2) has it; only the fields up to `tolerance` are named."""

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
        ("rest", ctypes.c_byte * 256),  # more than the rest of it
    )


def read_timex() -> Timex | None:
    """What the kernel knows of its clock; None where it may not be asked."""
    timex = Timex()
    if ctypes.CDLL(None).adjtimex(ctypes.byref(timex)) < 0:
        return None
    return timex


def clock_synced() -> bool | None:
    """True while the wall clock is being corrected by some time source; None where that cannot be told.

    By the greatest possible error that the time service has told the kernel, and not by the flag STA_UNSYNC: services
    leave that flag set on purpose, to keep the kernel away from a hardware clock (chrony without `rtcsync`, timesyncd
    with a hardware clock in local time).
    """
    timex = read_timex()
    if timex is None:
        return True if os.path.exists(_TIMESYNC) else None  # noqa: PTH110 - runs with every report, and never raises
    return bool(timex.maxerror_us < _MAX_ERROR_US)
