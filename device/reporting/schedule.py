"""When reports are due. Pure.

Evidence comes in batches of about a second, and a report is best made right after one; later it would describe an older
time. For a recording, reports follow its own time, and those that fall within a batch are made at its end. Live,
reports keep step with the batches, and follow the clock while there are none.
"""

from __future__ import annotations

from device.records import NS_PER_S

_EARLY_NS = NS_PER_S // 4  # evidence does not come at even intervals
_WAIT_NS = 5 * NS_PER_S // 4  # how long to wait for the next batch, at most half an interval


class Schedule:
    """One report per `every_ns`, approximately: live, longer intervals become a whole number of batches."""

    def __init__(self, every_ns: int) -> None:
        self._every_ns = every_ns
        self._early_ns, self._wait_ns = min(_EARLY_NS, every_ns // 2), min(_WAIT_NS, every_ns // 2)
        self._next_ns: int | None = None
        self._next_fresh_ns = 0  # live, with new evidence

    def begin(self, now_ns: int) -> None:
        """Live: without evidence, the first report is due `every_ns` from now."""
        self._next_ns = now_ns + self._every_ns

    def due_within(self, t_ns: int, batch_end_ns: int) -> bool:
        """For a recording: whether to report at this evidence, in a batch that ends at `batch_end_ns`."""
        if self._next_ns is None:
            self._next_ns = t_ns + self._every_ns
        another = batch_end_ns >= self._next_ns + self._every_ns
        if t_ns < (self._next_ns if another else max(self._next_ns, batch_end_ns)):
            return False
        self._next_ns += self._every_ns
        if self._next_ns <= t_ns:  # missed reports are not made up for after a jump in time
            self._next_ns = t_ns + self._every_ns
        return True

    def due_live(self, now_ns: int, *, evidence: bool) -> bool:
        """Live: whether to report now. Without new evidence a report is due later, because some may be on its way."""
        assert self._next_ns is not None
        if evidence and now_ns >= self._next_fresh_ns:
            self._next_fresh_ns = now_ns + self._every_ns - self._early_ns
            self._next_ns = now_ns + self._every_ns + self._wait_ns
            return True
        if not evidence and now_ns >= self._next_ns:
            self._next_ns = max(self._next_ns + self._every_ns, now_ns + self._every_ns // 2)
            return True
        return False
