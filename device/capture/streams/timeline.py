"""Places a stream's stamps on this computer's monotonic clock, and checks that they stay there. Pure.

Conventions
    A stamp is a presentation or decoding time stamp of the stream in integer ns, on the common clock of its video and
    audio. `base` is the difference from there to CLOCK_MONOTONIC, the same for both. It only determines when an item
    is due, and shifts nothing relative to anything else.

Method
    `base` is set so that the latest of the first packets would just have been in time. Later it follows the sender's
    clock, so slowly (at most MAX_SLEW) that video and audio of one moment, which may pass here half a second apart,
    keep their offset to 0.5 ms.
"""

from __future__ import annotations

from collections.abc import Iterable

from device.records import NS_PER_MS, NS_PER_S

MARGIN_NS = 150 * NS_PER_MS  # for packets that are later than the first ones were
MAX_SLEW = 0.001
LATE_NS = NS_PER_S
_BACK_NS = NS_PER_S // 2  # decoding stamps should not go back, but muxers may be careless
_AHEAD_NS = NS_PER_S  # more than the time that has passed
_WINDOW_NS = 5 * NS_PER_S
_SLOW_WINDOWS = 2  # a single one is a network that stalled for a moment and catches up
_SLOW_AFTER_NS = 3 * NS_PER_S // 2  # of nothing but late packets: it does not catch up


class Timeline:
    """Converts stamps to monotonic time.

    first: stamps with their arrival times, of both tracks. transit_ns: the delay to allow for a packet, if known from
    an earlier `needed_delay_ns`.
    """

    def __init__(self, first: Iterable[tuple[int, int]], transit_ns: int | None = None) -> None:
        transits_ns = [arrived_ns - stamp_ns for stamp_ns, arrived_ns in first]
        # The longest arrival minus stamp in a window.
        self.max_delay_ns = max(transits_ns if transit_ns is None else [*transits_ns, transit_ns])
        self.base_ns = self._goal_ns = self.max_delay_ns + MARGIN_NS
        self._quickest_ns = [min(transits_ns)] * 2  # the shortest delay in this window and in the previous one
        self._late_windows = 0
        self._late_from_ns: int | None = None  # since when all packets are late
        self._slow = False
        self._window_from_ns: int | None = None
        self._last_ns = 0

    @property
    def needed_delay_ns(self) -> int:
        """The delay to allow for a packet so that all of this window and of the previous one are in time."""
        return max(self._goal_ns - MARGIN_NS, self.max_delay_ns)

    def due_ns(self, stamp_ns: int) -> int:
        """When a stamp is due, on the monotonic clock."""
        return stamp_ns + self.base_ns

    @property
    def delay_ns(self) -> int:
        """The delay added to everything for segments or late packets."""
        return max(self.base_ns - min(self._quickest_ns), 0)

    @property
    def slow(self) -> bool:
        """Whether packets are late repeatedly or for good, so that a longer delay is needed."""
        return self._slow or self._late_windows >= _SLOW_WINDOWS

    def observe(self, stamp_ns: int, arrived_ns: int) -> None:
        """Take the times of a packet."""
        transit_ns = arrived_ns - stamp_ns
        if self._window_from_ns is None:
            self._window_from_ns = self._last_ns = arrived_ns
        step_ns = round(MAX_SLEW * max(arrived_ns - self._last_ns, 0))
        self.base_ns += max(-step_ns, min(step_ns, self._goal_ns - self.base_ns))
        self._last_ns = arrived_ns
        self._note_late(transit_ns, arrived_ns)
        if arrived_ns - self._window_from_ns >= _WINDOW_NS:
            self._late_windows = self._late_windows + 1 if self.max_delay_ns > self.base_ns + LATE_NS else 0
            self._goal_ns = self.max_delay_ns + MARGIN_NS
            self._window_from_ns, self.max_delay_ns = arrived_ns, transit_ns
            self._quickest_ns = [transit_ns, self._quickest_ns[0]]
        self.max_delay_ns = max(self.max_delay_ns, transit_ns)
        self._quickest_ns[0] = min(self._quickest_ns[0], transit_ns)

    def _note_late(self, transit_ns: int, arrived_ns: int) -> None:
        if transit_ns <= self.base_ns + LATE_NS:
            self._late_from_ns = None
        elif self._late_from_ns is None:
            self._late_from_ns = arrived_ns
        else:
            self._slow = self._slow or arrived_ns - self._late_from_ns > _SLOW_AFTER_NS


class StampWatch:
    """Detects jumps in the stamps of one track: by more than the time that has passed."""

    def __init__(self) -> None:
        self._stamp_ns: int | None = None
        self._arrived_ns = 0

    def jumped_ns(self, stamp_ns: int, arrived_ns: int) -> int | None:
        """The size of a jump; None without one."""
        before_ns, passed_ns = self._stamp_ns, arrived_ns - self._arrived_ns
        self._stamp_ns, self._arrived_ns = stamp_ns, arrived_ns
        if before_ns is None:
            return None
        step_ns = stamp_ns - before_ns
        jumped = step_ns < -_BACK_NS or step_ns > passed_ns + _AHEAD_NS
        return step_ns if jumped else None
