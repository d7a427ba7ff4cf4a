"""Simulated time for real threads: it stands while any thread works, and leaps to the next deadline when all wait.

Conventions
    A thread takes part when `SimClock.start` started it, or while it is inside `taking_part()`. Time stands while one
    of these runs. Another thread may wait on the clock too, but time does not wait for it.
    Waiting ends in order of deadlines; of several at the same time, the one that began to wait first comes first, and
    the next one only when all wait again. So a run repeats itself as far as threads allow.

Method
    `wait_for` really waits on the caller's own condition, so whoever notifies it needs to know nothing of this clock. A
    thread of the clock's own, the conductor, acts when nobody runs: it wakes whoever has what it waits for, or else
    moves time to the earliest deadline and wakes its owner.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from device.records import NS_PER_S

START_NS = 5_000 * NS_PER_S  # not zero: a computer has been up for a while
PATIENCE_S = 120.0  # of real time; a model loads in some seconds even on a busy machine
_LOOK_EVERY_S = 1.0


class ClockEnded(BaseException):
    """Ends a thread that waits on a clock which is no more; not meant to be caught by whoever it ends."""


@dataclass(eq=False)
class _Waiter:
    changed: threading.Condition
    done: Callable[[], bool]
    deadline_ns: int | None
    counted: bool  # takes part, and so holds time up while it runs
    thread: threading.Thread
    woken: bool = False


class SimThread(threading.Thread):
    """A thread that takes part; whoever joins it lets time go on, and `timeout` is in simulated seconds."""

    def __init__(self, clock: SimClock, work: Callable[[], None], name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._clock, self._work = clock, work
        self._over = threading.Condition()
        self._is_over = False

    def run(self) -> None:
        self._clock.enter(counted=True)  # since `start`
        try:
            with suppress(ClockEnded):
                self._work()
        finally:
            with self._over:
                self._is_over = True
                self._over.notify_all()
            self._clock.leave()

    def join(self, timeout: float | None = None) -> None:
        with self._over:
            over = self._clock.wait_for(self._over, lambda: self._is_over, timeout)
        if over:
            super().join(PATIENCE_S)


class SimClock:
    """A Clock (see `device.clock`) whose time costs nothing. Used by `with`; leaving it ends all that wait.

    Raises RuntimeError in every waiting thread when nothing has happened for `patience_s` of real time: the message
    names who waits for what, and shows where the others are. Raises RuntimeError at the end for threads left waiting.
    """

    def __init__(self, *, start_ns: int = START_NS, patience_s: float = PATIENCE_S) -> None:
        self._now_ns, self._patience_s = start_ns, patience_s
        self._lock = threading.Condition()
        self._waiters: list[_Waiter] = []
        self._members: dict[int, threading.Thread] = {}  # those that take part
        self._hung: dict[int, threading.Event] = {}
        self._running = 0
        self._closed = False
        self._progress_s = time.monotonic()
        self._conductor = threading.Thread(target=self._conduct, name="conductor", daemon=True)

    def __enter__(self) -> Self:
        self._conductor.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._closed = True
            left = list(self._waiters)
            self._lock.notify_all()
        self._conductor.join()
        for waiter in left:
            with waiter.changed:
                waiter.changed.notify_all()
        if left and error is None:
            names = ", ".join(sorted(waiter.thread.name for waiter in left))
            raise RuntimeError(f"still waiting when the clock ended: {names}")

    # What the runtime knows of it

    def now_ns(self) -> int:
        return self._now_ns

    def wait_for(self, changed: threading.Condition, done: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """As Condition.wait_for, in simulated time."""
        if done():
            return True
        deadline_ns = None if timeout_s is None else self._now_ns + max(round(timeout_s * NS_PER_S), 0)
        thread = threading.current_thread()
        waiter = _Waiter(changed, done, deadline_ns, thread.ident in self._members, thread)
        while True:
            self._begin(waiter)
            while not waiter.woken and changed.wait(_LOOK_EVERY_S) is False:
                self._check(waiter)
            self._end(waiter)
            if done():
                return True
            if deadline_ns is not None and self._now_ns >= deadline_ns:
                return False

    def start(self, work: Callable[[], None], name: str) -> threading.Thread:
        """A started thread that takes part until `work` ends."""
        thread = SimThread(self, work, name)
        with self._lock:
            self._running += 1  # from now on, so that time does not leap before it has begun
        thread.start()
        return thread

    # What tests need beside that

    @contextmanager
    def taking_part(self) -> Iterator[None]:
        """Time stands while the calling thread works in here."""
        self.enter()
        try:
            yield
        finally:
            self.leave()

    def enter(self, *, counted: bool = False) -> None:
        """The calling thread takes part from now on."""
        with self._lock:
            self._running += not counted
            self._members[threading.get_ident()] = threading.current_thread()

    def leave(self) -> None:
        """The calling thread does not take part any longer."""
        with self._lock:
            del self._members[threading.get_ident()]
            self._stops_running()

    def sleep(self, duration_s: float) -> None:
        """Let simulated time go by; also how a test says that a calculation takes long."""
        never = threading.Condition()
        with never:
            self.wait_for(never, lambda: False, duration_s)

    def jump(self, duration_s: float) -> None:
        """Move time forward with nobody waking on the way, as after a stopped process; deadlines are overdue then."""
        with self._lock:
            self._now_ns += round(duration_s * NS_PER_S)

    def hang(self, released: threading.Event) -> None:
        """Block as a hung driver does, outside of the clock: time goes on without this thread until `release`."""
        ident = threading.get_ident()
        with self._lock:
            if released.is_set():
                return
            counted = ident in self._members
            if counted:
                self._hung[ident] = released
                self._stops_running()
        released.wait()
        with self._lock:
            if counted and self._hung.pop(ident, None) is not None:  # set by somebody who did not use `release`
                self._running += 1

    def release(self, released: threading.Event) -> None:
        """End such a hang; time stands at once until the released threads wait again."""
        with self._lock:
            idents = [ident for ident, event in self._hung.items() if event is released]
            for ident in idents:
                del self._hung[ident]
            self._running += len(idents)
            released.set()

    # The conductor

    def _begin(self, waiter: _Waiter) -> None:
        with self._lock:
            if self._closed:
                raise ClockEnded
            waiter.woken = False
            self._waiters.append(waiter)
            if waiter.counted:
                self._stops_running()
            else:
                self._lock.notify_all()

    def _end(self, waiter: _Waiter) -> None:
        with self._lock:
            self._waiters.remove(waiter)
            self._wake(waiter)
            if self._closed:
                raise ClockEnded

    def _stops_running(self) -> None:
        self._running -= 1
        self._progress_s = time.monotonic()
        if self._running == 0:
            self._lock.notify_all()

    def _wake(self, waiter: _Waiter) -> None:
        if not waiter.woken:
            waiter.woken = True
            self._running += waiter.counted
            self._progress_s = time.monotonic()

    def _conduct(self) -> None:
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._closed or (self._running == 0 and self._waiters))
                if self._closed:
                    return
                waiters = [waiter for waiter in self._waiters if not waiter.woken]
            if not self._wake_those_who_are_done(waiters) and not self._leap():
                with self._lock:  # nobody has a deadline: something outside must happen
                    self._lock.wait(_LOOK_EVERY_S)

    def _wake_those_who_are_done(self, waiters: list[_Waiter]) -> bool:
        """Somebody may have been notified, or should have been, and not have come to run yet."""
        any_done = False
        for waiter in waiters:
            with waiter.changed:
                if waiter.woken:
                    any_done = True
                elif _is_done(waiter):
                    any_done = True
                    with self._lock:
                        self._wake(waiter)
                    waiter.changed.notify_all()
        return any_done

    def _leap(self) -> bool:
        with self._lock:
            timed = [waiter for waiter in self._waiters if waiter.deadline_ns is not None and not waiter.woken]
            if self._running or not timed:
                return bool(self._running)
            first = min(timed, key=lambda waiter: waiter.deadline_ns or 0)  # the first of equals
            self._now_ns = max(self._now_ns, first.deadline_ns or 0)
            self._wake(first)
        with first.changed:
            first.changed.notify_all()
        return True

    def _check(self, waiter: _Waiter) -> None:
        """End a thread of a clock that is over; say so when nothing happens any more."""
        with self._lock:
            stuck = not self._closed and time.monotonic() - self._progress_s > self._patience_s
            if not stuck and not self._closed:
                return
            self._waiters.remove(waiter)
            self._wake(waiter)
            if self._closed:
                raise ClockEnded
            raise RuntimeError(self._stuck_words([waiter, *self._waiters]))

    def _stuck_words(self, waiters: list[_Waiter]) -> str:
        waiting = {waiter.thread.ident for waiter in waiters}
        lines = [f"nothing has happened on the simulated clock for {self._patience_s:g} s of real time"]
        for waiter in waiters:
            until_ns = waiter.deadline_ns
            until = "without a deadline" if until_ns is None else f"until {(until_ns - self._now_ns) / NS_PER_S:+.3f} s"
            lines.append(f"{waiter.thread.name} waits {until} at\n{_place(waiter.thread)}")
        for ident, thread in self._members.items():
            if ident not in waiting:
                how = "hangs" if ident in self._hung else "runs or blocks outside of the clock"
                lines.append(f"{thread.name} {how} at\n{_place(thread)}")
        return "\n".join(lines)


def _is_done(waiter: _Waiter) -> bool:
    try:
        return waiter.done()
    except Exception:
        return True  # let its own thread meet the error


def _place(thread: threading.Thread) -> str:
    """Where a thread is now: its last calls, those of waiting itself left out."""
    frame = sys._current_frames().get(thread.ident or 0)
    if frame is None:
        return "  (it has ended)\n"
    calls = [call for call in traceback.extract_stack(frame) if call.filename not in (__file__, threading.__file__)]
    return "".join(traceback.format_list(calls[-4:]))
