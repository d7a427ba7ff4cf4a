"""Monotonic time, and waiting in it: the only way in which the runtime waits, so that tests can outrun time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """One for the whole daemon, given to whoever waits or asks for the time."""

    def now_ns(self) -> int:
        """CLOCK_MONOTONIC, or what stands for it."""
        ...

    def wait_for(self, changed: threading.Condition, done: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """Wait, with `changed` held, until `done()` or the time is over; what `done()` says then."""
        ...

    def start(self, work: Callable[[], None], name: str) -> threading.Thread:
        """A started daemon thread, which may wait on this clock."""
        ...


class SystemClock:
    """The computer's own."""

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def wait_for(self, changed: threading.Condition, done: Callable[[], bool], timeout_s: float | None = None) -> bool:
        return changed.wait_for(done, timeout_s)

    def start(self, work: Callable[[], None], name: str) -> threading.Thread:
        thread = threading.Thread(target=work, name=name, daemon=True)
        thread.start()
        return thread


def asleep_ns() -> int:
    """How long the computer has been suspended since it was started: CLOCK_MONOTONIC stands still meanwhile."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.clock_gettime_ns(time.CLOCK_MONOTONIC)
