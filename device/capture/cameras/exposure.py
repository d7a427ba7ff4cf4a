"""When a camera's picture was taken, from what the camera says about it; and how many pictures are missing.

Conventions
    A picture's time is the middle of the exposure of its middle row, in ns on CLOCK_MONOTONIC, the microphone's clock.
    With a rolling shutter the rows are exposed one after the other. `SensorTimestamp` is when the read-out of the first
    row begins, which is when its exposure ends; so the middle of the middle row's exposure lies half a read-out later
    and half an exposure earlier:  t = SensorTimestamp + read-out / 2 - ExposureTime / 2.

Which clock
    libcamera's manual puts SensorTimestamp on CLOCK_BOOTTIME, but its drivers pass on the kernel's video time stamps,
    which are CLOCK_MONOTONIC. The two differ by the time that the computer was suspended. A picture cannot come from
    the future: a stamp that lies ahead of CLOCK_MONOTONIC is on the boot clock, and the difference of this moment is
    taken off (not that of the start: each suspend adds to it). Where there was no suspend the two clocks are the same.

Known residuals
    A sensor does not say how long its read-out takes: the shortest frame duration of its mode is taken for it, which
    also holds the vertical blanking, some 2 to 8 % (half of that is 0.2 to 1 ms). A mouth that is not on the middle row
    is seen earlier or later, by a quarter of a read-out (3 to 6 ms) at most if it is in the middle half of the picture.
    A suspend shorter than a picture's way to us (50 ms) stays unnoticed. USB cameras say neither exposure nor delay:
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
_EARLIEST_NS = NS_PER_S // 10  # a stamp may be guessed by a driver, and a little ahead


def boot_minus_monotonic_ns() -> int:
    """How much the boot clock is ahead: the time that this computer has been suspended."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()


class SensorClock:
    """Puts a camera's stamps on CLOCK_MONOTONIC, whichever of the two clocks they are on."""

    def __init__(self) -> None:
        self._is_boot_clock = False

    def monotonic_ns(self, stamp_ns: int, now_ns: int, boot_ahead_ns: int) -> int | None:
        """The stamp on CLOCK_MONOTONIC, on which it is `now_ns`; the boot clock is `boot_ahead_ns` ahead of it.

        None for a stamp that cannot be a picture's of the last seconds: none at all, or one of yet another clock.
        """
        self._is_boot_clock |= now_ns < stamp_ns <= now_ns + boot_ahead_ns
        t_ns = stamp_ns - boot_ahead_ns if self._is_boot_clock else stamp_ns
        return t_ns if t_ns > 0 and -_EARLIEST_NS < now_ns - t_ns < _OLDEST_NS else None


def readout_ns(model: str, shortest_frame_us: float | None) -> int:
    """How long the sensor takes from the first row to the last; 0 for a global shutter, or where nothing is known."""
    if shortest_frame_us is None or model.lower().startswith(GLOBAL_SHUTTER_SENSORS):
        return 0
    return round(shortest_frame_us * 1000)


def middle_of_exposure_ns(stamp_ns: int, exposure_us: float, readout_ns: int) -> int:
    """Time of the middle row's middle, from the time at which the first row's read-out begins."""
    return stamp_ns + (readout_ns - round(exposure_us * 1000)) // 2


class GapCounter:
    """Counts the pictures that are missing between those that came, by their times.

    By time and not by the driver's sequence numbers: on a Raspberry Pi those number the image processor's jobs, and
    know nothing of a picture that never got there. A camera may have another rate than the one asked for, or change it
    (USB cameras do in the dark), so the usual interval is that of the last few pictures; the first few tell nothing.
    """

    def __init__(self) -> None:
        self._intervals_ns: deque[int] = deque(maxlen=_INTERVALS)
        self._last_ns: int | None = None
        self.missing = 0

    def see(self, t_ns: int) -> None:
        """Take the time of the next picture; times rise."""
        if self._last_ns is not None:
            interval_ns = t_ns - self._last_ns
            if len(self._intervals_ns) > _INTERVALS // 2:
                usual_ns = statistics.median_low(self._intervals_ns)
                self.missing += max(0, round(interval_ns / usual_ns) - 1)
            self._intervals_ns.append(min(interval_ns, _LONGEST_INTERVAL_NS))
        self._last_ns = t_ns
