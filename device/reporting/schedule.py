"""When reports fall due. Pure.

Evidence comes in batches, about a second's at once, and a report is best right after one: later it says the same of an
older time. So a recording is reported on by its own time, but what falls due within a batch is said at its end. Live,
reports fall in step with the batches, and come by the clock while there are none.
"""

from __future__ import annotations

from device.records import NS_PER_S

_EARLY_NS = NS_PER_S // 4  # evidence does not come at even intervals
_WAIT_NS = 5 * NS_PER_S // 4  # for the next batch, if that is not longer than half an interval


class Schedule:
    """One report each `every_ns`, or nearly: live it becomes a whole number of batches, where it is longer than one."""

    def __init__(self, every_ns: int) -> None:
        self._every_ns = every_ns
        self._early_ns, self._wait_ns = min(_EARLY_NS, every_ns // 2), min(_WAIT_NS, every_ns // 2)
        self._next_ns: int | None = None
        self._next_fresh_ns = 0  # live, where there is new evidence

    def begin(self, now_ns: int) -> None:
        """Live: without evidence, the first one comes `every_ns` from now."""
        self._next_ns = now_ns + self._every_ns

    def due_within(self, t_ns: int, batch_end_ns: int) -> bool:
        """Of a recording: whether to report at this evidence, the last of whose batch is at `batch_end_ns`."""
        if self._next_ns is None:
            self._next_ns = t_ns + self._every_ns
        another = batch_end_ns >= self._next_ns + self._every_ns
        if t_ns < (self._next_ns if another else max(self._next_ns, batch_end_ns)):
            return False
        self._next_ns += self._every_ns
        if self._next_ns <= t_ns:  # after a jump in time the missed reports are not made up for
            self._next_ns = t_ns + self._every_ns
        return True

    def due_live(self, now_ns: int, *, evidence: bool) -> bool:
        """Live: whether to report now. Without new evidence a report comes late, as some may be on its way."""
        assert self._next_ns is not None
        if evidence and now_ns >= self._next_fresh_ns:
            self._next_fresh_ns = now_ns + self._every_ns - self._early_ns
            self._next_ns = now_ns + self._every_ns + self._wait_ns
            return True
        if not evidence and now_ns >= self._next_ns:
            self._next_ns = max(self._next_ns + self._every_ns, now_ns + self._every_ns // 2)
            return True
        return False
