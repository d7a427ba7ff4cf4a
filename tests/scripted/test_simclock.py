"""The simulated clock: order of waking, notified waiters first, hung drivers, jumps, dead-locks told, none left."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device.clock import Clock, SystemClock
from device.records import NS_PER_S
from tests.scripted.simclock import START_NS, SimClock


@pytest.fixture
def clock() -> Iterator[SimClock]:
    with SimClock(patience_s=30) as clock, clock.taking_part():
        yield clock


def now_s(clock: SimClock) -> float:
    return (clock.now_ns() - START_NS) / NS_PER_S


class Box:
    """A value that threads hand over, as queues in the runtime do."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._values: list[int] = []

    def put(self, value: int) -> None:
        with self._changed:
            self._values.append(value)
            self._changed.notify_all()

    def get(self, timeout_s: float | None = None) -> int | None:
        with self._changed:
            came = self._clock.wait_for(self._changed, lambda: bool(self._values), timeout_s)
            return self._values.pop(0) if came else None


def test_an_hour_of_waiting_takes_no_time(clock: SimClock) -> None:
    began_s = time.monotonic()
    clock.sleep(3600)
    assert now_s(clock) == 3600
    assert time.monotonic() - began_s < 20


def test_what_is_done_already_is_not_waited_for(clock: SimClock) -> None:
    changed = threading.Condition()
    with changed:
        assert clock.wait_for(changed, lambda: True, 5)
    assert now_s(clock) == 0


@pytest.mark.parametrize("timeout_s", [0, -1])
def test_no_time_to_wait_is_answered_at_once(clock: SimClock, timeout_s: float) -> None:
    assert Box(clock).get(timeout_s) is None
    assert now_s(clock) == 0


@settings(max_examples=20)
@given(st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=6), min_size=1, max_size=5))
def test_threads_wake_in_order_of_time_whatever_they_wait(naps: list[list[int]]) -> None:
    woken: list[tuple[float, int]] = []
    with SimClock(patience_s=30) as clock, clock.taking_part():

        def work(number: int) -> None:
            for nap_s in naps[number]:
                clock.sleep(nap_s)
                woken.append((now_s(clock), number))

        threads = [clock.start(lambda n=number: work(n), f"thread {number}") for number in range(len(naps))]  # type: ignore[misc]
        for thread in threads:
            thread.join()
    assert [t_s for t_s, _ in woken] == sorted(t_s for t_s, _ in woken)
    for number, row in enumerate(naps):
        assert [t_s for t_s, who in woken if who == number] == [sum(row[: k + 1]) for k in range(len(row))]


def test_time_stands_still_while_a_thread_works(clock: SimClock) -> None:
    box = Box(clock)

    def work() -> None:
        time.sleep(0.05)
        box.put(round(now_s(clock)))

    clock.start(work, "slow")
    assert box.get(100) == 0
    assert now_s(clock) == 0


def test_time_stands_while_the_test_works(clock: SimClock) -> None:
    thread = clock.start(lambda: clock.sleep(1), "sleeper")
    time.sleep(0.05)
    assert now_s(clock) == 0
    thread.join()


def test_who_was_notified_runs_before_time_goes_on(clock: SimClock) -> None:
    questions, answers = Box(clock), Box(clock)

    def answer() -> None:
        while (question := questions.get()) != -1:
            answers.put(question or 0)

    thread = clock.start(answer, "answerer")
    for number in range(300):
        questions.put(number)
        assert answers.get(timeout_s=0.001) == number
    assert now_s(clock) == 0, "no answer took any time"
    questions.put(-1)
    thread.join()


def test_a_change_without_a_notification_is_noticed_too(clock: SimClock) -> None:
    changed, flags = threading.Condition(), [False]

    def set_it() -> None:
        clock.sleep(2)
        flags[0] = True  # as a signal handler does, which must not take a lock
        clock.sleep(10)

    thread = clock.start(set_it, "setter")
    with changed:
        assert clock.wait_for(changed, lambda: flags[0], 5)
    assert now_s(clock) == 2
    thread.join()


def test_a_question_that_raises_does_so_in_the_thread_that_asked(clock: SimClock) -> None:
    changed, answers = threading.Condition(), iter([False])

    def ask() -> None:
        with changed, pytest.raises(StopIteration):
            clock.wait_for(changed, lambda: next(answers))

    thread = clock.start(ask, "asker")
    clock.sleep(1)
    thread.join(1)
    assert not thread.is_alive()


def test_joining_lets_time_go_on_and_may_time_out(clock: SimClock) -> None:
    thread = clock.start(lambda: clock.sleep(3), "sleeper")
    thread.join(1)
    assert thread.is_alive() and now_s(clock) == 1
    thread.join(10)
    assert not thread.is_alive() and now_s(clock) == 3
    thread.join()


def test_a_thread_that_fails_does_not_hold_time_up(clock: SimClock) -> None:
    seen: list[str] = []
    before, threading.excepthook = threading.excepthook, lambda failure: seen.append(str(failure.exc_value))

    def fail() -> None:
        raise RuntimeError("it broke")

    try:
        clock.start(fail, "failing").join()
        clock.sleep(1)
    finally:
        threading.excepthook = before
    assert seen == ["it broke"] and now_s(clock) == 1


def test_time_goes_on_without_a_hung_driver_and_stands_again_after_it(clock: SimClock) -> None:
    released, box = threading.Event(), Box(clock)

    def hang() -> None:
        clock.hang(released)
        time.sleep(0.05)
        box.put(round(now_s(clock)))

    thread = clock.start(hang, "driver")
    clock.sleep(60)
    assert thread.is_alive()
    clock.release(released)
    assert box.get(100) == 60
    clock.hang(released)
    assert now_s(clock) == 60, "what was released does not hang any more"
    thread.join()


def test_after_a_jump_all_deadlines_are_overdue(clock: SimClock) -> None:
    times_s: list[float] = []

    def work() -> None:
        for _ in range(3):
            clock.sleep(1)
            times_s.append(now_s(clock))

    thread = clock.start(work, "worker")
    clock.sleep(1.5)
    clock.jump(3600)
    thread.join()
    assert times_s == [1, 3601.5, 3602.5]


def test_a_dead_lock_is_reported_with_names_and_places() -> None:
    with SimClock(patience_s=1) as clock, clock.taking_part(), pytest.raises(RuntimeError) as caught:
        released = threading.Event()
        hung = clock.start(lambda: clock.hang(released), "driver")
        try:
            Box(clock).get()
        finally:
            clock.release(released)
            hung.join()
    message = str(caught.value)
    for part in ("nothing has happened", "for 1 s of real time", "without a deadline", "driver hangs", "in get"):
        assert part in message


def test_a_thread_that_blocks_outside_of_the_clock_is_reported() -> None:
    blocked = threading.Event()
    with SimClock(patience_s=1) as clock, clock.taking_part():

        def block() -> None:
            blocked.wait(30)

        thread = clock.start(block, "careless")
        with pytest.raises(RuntimeError, match=r"waits until \+5\.000 s(.|\n)*careless runs or blocks outside"):
            clock.sleep(5)
        blocked.set()
        thread.join()


def test_threads_left_waiting_are_named_and_ended() -> None:
    with pytest.raises(RuntimeError, match="still waiting when the clock ended: forgotten"):  # noqa: SIM117
        with SimClock() as clock, clock.taking_part():
            thread = clock.start(lambda: clock.sleep(1000), "forgotten")
            clock.sleep(1)
    threading.Thread.join(thread, 20)
    assert not thread.is_alive()


def test_a_strange_thread_may_wait_but_time_does_not_wait_for_it() -> None:
    with SimClock() as clock:
        thread = clock.start(lambda: clock.sleep(100), "member")
        clock.sleep(10)
        assert now_s(clock) >= 10
        thread.join()
        assert 100 <= now_s(clock) <= 110


def test_it_keeps_the_same_contract_as_the_computers_clock() -> None:
    with SimClock() as simulated:
        for clock in (simulated, SystemClock()):
            box = Box(clock)
            assert box.get(0.01) is None
            thread = clock.start(lambda box=box: box.put(7), "giver")  # type: ignore[misc]
            assert box.get(10) == 7
            thread.join(10)
            assert not thread.is_alive()


def test_ten_thousand_steps_of_three_threads_end_soon() -> None:
    began_s = time.monotonic()
    with SimClock() as clock, clock.taking_part():

        def work(period_s: float) -> None:
            while now_s(clock) < 100:
                clock.sleep(period_s)

        threads = [clock.start(lambda p=period_s: work(p), "worker") for period_s in (0.04, 0.02, 0.05)]  # type: ignore[misc]
        for thread in threads:
            thread.join()
    assert time.monotonic() - began_s < 60
