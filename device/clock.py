"""Monotonic time and waiting: the runtime waits only through this, so that tests need not wait in real time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """A clock; the daemon passes one to everything that waits or asks for the time."""

    def now_ns(self) -> int:
        """CLOCK_MONOTONIC, or a substitute."""
        ...

    def wait_for(self, changed: threading.Condition, done: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """Wait, with `changed` held, until `done()` or the timeout; return the result of `done()`."""
        ...

    def start(self, work: Callable[[], None], name: str) -> threading.Thread:
        """Start a daemon thread that may wait on this clock."""
        ...


class SystemClock:
    """The computer's clock."""

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def wait_for(self, changed: threading.Condition, done: Callable[[], bool], timeout_s: float | None = None) -> bool:
        return changed.wait_for(done, timeout_s)

    def start(self, work: Callable[[], None], name: str) -> threading.Thread:
        thread = threading.Thread(target=work, name=name, daemon=True)
        thread.start()
        return thread


def asleep_ns() -> int:
    """How long the computer has been suspended since boot: CLOCK_MONOTONIC stands still meanwhile."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.clock_gettime_ns(time.CLOCK_MONOTONIC)
