"""Capture times of camera frames from the camera's metadata, and the number of missing frames.

Conventions
    A frame's time is the middle of the exposure of its middle row, in ns on CLOCK_MONOTONIC, the microphone's clock.
    With a rolling shutter the rows are exposed one after the other. `SensorTimestamp` is the start of the first row's
    read-out, which is the end of its exposure. So the middle of the middle row's exposure is half a read-out later and
    half an exposure earlier:  t = SensorTimestamp + read-out / 2 - ExposureTime / 2.

Which clock
    libcamera's manual puts SensorTimestamp on CLOCK_BOOTTIME, but its drivers pass on the kernel's video time stamps,
    which are CLOCK_MONOTONIC. The two differ by the time that the computer was suspended. A frame cannot come from
    the future: a stamp ahead of CLOCK_MONOTONIC is on the boot clock, and the current difference is subtracted (not
    that at the start: each suspend adds to it). Without a suspend the two clocks are the same.

Known residuals
    A sensor does not report its read-out time. The shortest frame duration of its mode is used, which includes the
    vertical blanking, some 2 to 8 % (half of that is 0.2 to 1 ms). A mouth that is not on the middle row is seen
    earlier or later, by at most a quarter of a read-out (3 to 6 ms) if it is in the middle half of the image.
    A suspend shorter than the delay of a frame (50 ms) goes unnoticed. USB cameras report neither exposure nor delay:
    the fixed part of both belongs to the rig's bias, which calibration measures.
"""

from __future__ import annotations

import statistics
import time
from collections import deque

from device.records import NS_PER_S

GLOBAL_SHUTTER_SENSORS = ("ar0144", "ar0234", "imx296", "ov2311", "ov7251", "ov9281", "ov9282", "ov9782")
_INTERVALS = 9
_LONGEST_INTERVAL_NS = NS_PER_S
_OLDEST_NS = 10 * NS_PER_S
_EARLIEST_NS = NS_PER_S // 10  # a stamp may be a driver's guess, and slightly early


def boot_minus_monotonic_ns() -> int:
    """How far the boot clock is ahead: the time that this computer has been suspended."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()


class SensorClock:
    """Puts a camera's stamps on CLOCK_MONOTONIC, whichever of the two clocks they are on."""

    def __init__(self) -> None:
        self._is_boot_clock = False

    def monotonic_ns(self, stamp_ns: int, now_ns: int, boot_ahead_ns: int) -> int | None:
        """The stamp on CLOCK_MONOTONIC, which now reads `now_ns`; the boot clock is `boot_ahead_ns` ahead of it.

        None if the stamp cannot belong to a frame of the last seconds: there is none, or it is on yet another clock.
        """
        self._is_boot_clock |= now_ns < stamp_ns <= now_ns + boot_ahead_ns
        t_ns = stamp_ns - boot_ahead_ns if self._is_boot_clock else stamp_ns
        return t_ns if t_ns > 0 and -_EARLIEST_NS < now_ns - t_ns < _OLDEST_NS else None


def readout_ns(model: str, shortest_frame_us: float | None) -> int:
    """Read-out time from the first row to the last; 0 for a global shutter, or where it is unknown."""
    if shortest_frame_us is None or model.lower().startswith(GLOBAL_SHUTTER_SENSORS):
        return 0
    return round(shortest_frame_us * 1000)


def middle_of_exposure_ns(stamp_ns: int, exposure_us: float, readout_ns: int) -> int:
    """Time of the middle row's exposure middle, from the start of the first row's read-out."""
    return stamp_ns + (readout_ns - round(exposure_us * 1000)) // 2


class GapCounter:
    """Counts missing frames by the times of those that came.

    Not by the driver's sequence numbers: on a Raspberry Pi those number the image processor's jobs and do not count
    frames that never got there. A camera may have another rate than requested, or change it (USB cameras do in the
    dark), so the usual interval is that of the last few frames; the first few are not counted.
    """

    def __init__(self) -> None:
        self._intervals_ns: deque[int] = deque(maxlen=_INTERVALS)
        self._last_ns: int | None = None
        self.missing = 0

    def observe(self, t_ns: int) -> None:
        """Take the time of the next frame; times rise."""
        if self._last_ns is not None:
            interval_ns = t_ns - self._last_ns
            if len(self._intervals_ns) > _INTERVALS // 2:
                usual_ns = statistics.median_low(self._intervals_ns)
                self.missing += max(0, round(interval_ns / usual_ns) - 1)
            self._intervals_ns.append(min(interval_ns, _LONGEST_INTERVAL_NS))
        self._last_ns = t_ns
