"""One source in its thread: every failure has a name and is retried after a pause, and none ends the daemon."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest

from device.errors import (
    CaptureError,
    DeviceBusyError,
    DeviceHungError,
    DeviceLostError,
    DeviceMissingError,
    DevicePermissionError,
    InputFormatError,
    UsageError,
)
from device.records import NS_PER_MS, NS_PER_S, Chunk, Fault, Frame
from device.runtime.inputs import source_thread
from device.runtime.inputs.input_queue import InputQueue
from device.runtime.inputs.source_thread import (
    ABANDONED_AFTER_S,
    MAX_ORPHANS,
    ORPHAN_TIMEOUT_S,
    Feed,
    Reader,
    RecordingFeed,
)
from tests.device.runtime.live import PICTURE, Item, Opener, Tape, chunk, frames
from tests.scripted.simclock import SimClock


def error(kind: type[CaptureError]) -> CaptureError:
    return kind("scripted", where="camera", remedy="Wait")


@dataclass
class Bench:
    """A reader of a camera, looked after as the daemon does it."""

    clock: SimClock
    queue: InputQueue
    reader: Reader

    def pass_s(self, duration_s: float, *, look: Callable[[], None] = lambda: None) -> None:
        for _ in range(round(duration_s * 10)):
            self.clock.sleep(0.1)
            self.reader.supervise()
            look()

    def until_fault(self, wanted: str | None, within_s: float = 30.0) -> float:
        """Seconds until it has this fault."""
        begun_ns = self.clock.now_ns()
        while self.reader.fault != wanted:
            assert self.clock.now_ns() - begun_ns < within_s * NS_PER_S, self.reader.fault
            self.pass_s(0.1)
        return (self.clock.now_ns() - begun_ns) / NS_PER_S

    def taken(self) -> list[tuple[int, int]]:
        """Times and sessions of what has come."""
        found: list[tuple[int, int]] = []
        while True:
            try:
                given = self.queue.get(0)
            except TimeoutError:
                return found
            if given is None:
                return found
            found.append((given.item.t_ns, given.session))


@contextmanager
def bench(make: Callable[[SimClock], Callable[[], Tape]], *, drop_oldest: bool = True) -> Iterator[Bench]:
    with SimClock() as clock, clock.taking_part():
        queue = InputQueue(clock, drop_oldest=drop_oldest, max_frames=10_000)
        reader = Reader(Feed("camera", make(clock)), queue, clock)
        reader.start()
        try:
            yield Bench(clock, queue, reader)
        finally:
            reader.stop()
            clock.sleep(1)


def test_a_fault_that_came_and_went_between_two_looks_is_told_once() -> None:
    """A stream that jumps is measured again within a second, and the measuring thread may be busy for longer."""
    with bench(
        lambda clock: Opener(clock, [error(DeviceBusyError), lambda: Tape(clock, frames(clock.now_ns(), 200))])
    ) as made:
        made.clock.sleep(2)
        assert made.reader.fault is None
        assert [made.reader.take_fault() for _ in range(2)] == ["camera_busy", None]


def tape(clock: SimClock, seconds: float, then: Exception | None = None, *, silent: bool = False) -> Callable[[], Tape]:
    """Opened now, it gives pictures from now on."""
    return lambda: Tape(clock, frames(clock.now_ns(), round(seconds * 25)), then=then, silent=silent)


# Failures and their names


@pytest.mark.parametrize(
    ("raised", "word"),
    [
        (error(DeviceMissingError), "camera_missing"),
        (error(DeviceBusyError), "camera_busy"),
        (error(DevicePermissionError), "camera_permission"),
        (error(DeviceLostError), "camera_lost"),
        (error(CaptureError), "camera_lost"),
        (error(InputFormatError), "camera_lost"),
        (RuntimeError("Failed to start camera"), "camera_lost"),
        (OSError(19, "No such device"), "camera_lost"),
        (KeyError("Model"), "camera_lost"),
        (MemoryError(), "camera_lost"),
    ],
)
@pytest.mark.parametrize("opening", [True, False])
def test_a_failure_is_named_and_over_when_something_comes_again(raised: Exception, word: str, opening: bool) -> None:
    def script(clock: SimClock) -> Opener:
        return Opener(clock, [raised if opening else tape(clock, 1, raised), raised, tape(clock, 60)])

    with bench(script) as on:
        assert on.until_fault(word, within_s=1.5) < 1.2
        assert on.until_fault(None, within_s=1.5) < 1.0
        assert on.reader.failure is None and not on.reader.ended


def test_a_live_source_that_ends_without_a_word_is_lost() -> None:
    with bench(lambda clock: Opener(clock, [tape(clock, 1)])) as on:
        assert on.until_fault("camera_lost") < 1.2


@pytest.mark.parametrize(("longest_s", "pauses_s"), [(2, [0.25, 0.5, 1, 2, 2, 2, 2]), (1, [0.25, 0.5, *[1] * 9])])
def test_pauses_double_up_to_the_longest(longest_s: float, pauses_s: list[float]) -> None:
    with SimClock() as clock, clock.taking_part():
        opener = Opener(clock, [error(DeviceMissingError)])
        reader = Reader(Feed("camera", opener, longest_s), InputQueue(clock, drop_oldest=True), clock)
        reader.start()
        clock.sleep(10)
        reader.stop()
        clock.sleep(1)
        assert np.diff(opener.times_ns) / NS_PER_S == pytest.approx(pauses_s)
        assert reader.reopened == len(pauses_s) and reader.ended


def test_after_a_while_of_health_the_pauses_are_short_again() -> None:
    missing = error(DeviceMissingError)

    def script(clock: SimClock) -> Opener:
        return Opener(clock, [missing] * 6 + [tape(clock, 20, error(DeviceLostError)), missing, tape(clock, 60)])

    with bench(script) as on:
        on.until_fault("camera_missing")
        on.until_fault(None)
        on.until_fault("camera_lost")
        assert on.until_fault(None) <= 0.25 + 0.5 + 0.2


def test_one_that_fails_at_once_again_and_again_is_not_opened_without_a_pause() -> None:
    with SimClock() as clock, clock.taking_part():
        opener = Opener(clock, [tape(clock, 0.1, error(DeviceLostError))])
        reader = Reader(Feed("camera", opener), InputQueue(clock, drop_oldest=True), clock)
        reader.start()
        clock.sleep(60)
        reader.stop()
        clock.sleep(1)
        assert 25 < len(opener.times_ns) < 35
        assert all(tape.left for tape in opener.opened), "each of them was closed"


def test_what_another_try_cannot_mend_ends_the_run() -> None:
    wrong = UsageError("no such camera", where="avdrift.toml", remedy="Correct it")
    with bench(lambda clock: Opener(clock, [wrong])) as on:
        on.clock.sleep(1)
        assert on.reader.failure is wrong and on.reader.ended
        assert on.queue.get(0) is None, "whoever waits for more is told"


def test_the_log_has_each_trouble_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), bench(lambda clock: Opener(clock, [RuntimeError("ioctl")])) as on:
        on.clock.sleep(600)
    assert [record.getMessage() for record in caplog.records] == ["camera: RuntimeError: ioctl"]


# Sessions: what may be measured together


def test_each_life_of_a_source_is_a_session_of_its_own() -> None:
    def script(clock: SimClock) -> Opener:
        return Opener(clock, [tape(clock, 1, error(DeviceLostError)), tape(clock, 1, RuntimeError()), tape(clock, 60)])

    with bench(script) as on:
        on.clock.sleep(5)
        sessions = [session for _, session in on.taken()]
    assert sorted(set(sessions)) == [0, 1, 2] and sessions == sorted(sessions)
    assert sessions.count(0) == sessions.count(1) == 25


def stamped(clock: SimClock, change: Callable[[int], int]) -> Callable[[], Tape]:
    """A camera whose times, counted from when it is opened, are changed; its pictures come when they are due."""

    class Stamped(Tape):
        def __iter__(self) -> Iterator[Item]:
            begun_ns = clock.now_ns()
            for given in super().__iter__():
                yield Frame(given.seq, begun_ns + change(given.t_ns - begun_ns), PICTURE)

    return lambda: Stamped(clock, frames(clock.now_ns(), 1000))


def leap(size_ms: int) -> Callable[[int], int]:
    return lambda t_ns: t_ns + (size_ms * NS_PER_MS if t_ns >= 3 * NS_PER_S else 0)


@pytest.mark.parametrize("size_ms", [-1500, -200, 200])
def test_a_leap_of_the_times_begins_a_session(size_ms: int) -> None:
    with bench(lambda clock: Opener(clock, [stamped(clock, leap(size_ms))])) as on:
        on.pass_s(6)
        assert (on.reader.session, on.reader.jumps, on.reader.fault) == (1, 1, None)
        assert {session for _, session in on.taken()} == {0, 1}
        assert on.queue.video_dropped == 1


@pytest.mark.parametrize("tells", [True, False])
def test_a_source_that_was_behind_and_catches_up_has_not_leapt_if_it_tells(tells: bool) -> None:
    """As where a processor was busy and frames are dropped up to a key frame: the times are right, only late."""

    class Behind(Tape):
        def __iter__(self) -> Iterator[Item]:
            begun_ns = self._clock.now_ns()
            for number, given in enumerate(frames(begun_ns, 1000)):
                if 10 <= number < 30:
                    continue
                late_ns = 900 * NS_PER_MS if number < 10 else 0
                self._wait((given.t_ns + late_ns - self._clock.now_ns()) / NS_PER_S)
                self.behind_ns = late_ns if tells else 0
                yield given

    with bench(lambda clock: Opener(clock, [lambda: Behind(clock, ())])) as on:
        on.pass_s(4)
        assert (on.reader.jumps == 0) is tells


@pytest.mark.parametrize("size_ms", [-3_600_000, 3_600_000])
def test_times_of_another_age_are_a_fault_and_the_source_is_opened_again(size_ms: int) -> None:
    def script(clock: SimClock) -> Opener:
        return Opener(clock, [stamped(clock, leap(size_ms)), tape(clock, 60)])

    with bench(script) as on:
        on.clock.sleep(3)
        assert on.until_fault("clock_jumped") < 2.5
        assert on.until_fault(None) < 1
        assert on.reader.jumps == 0, "it was opened again, which is another reason for a session"


@pytest.mark.parametrize("change", [lambda t_ns: 0, lambda t_ns: -t_ns, lambda t_ns: min(t_ns, NS_PER_S)])
def test_times_that_stand_or_fall_are_never_handed_over_for_long(change: Callable[[int], int]) -> None:
    with bench(lambda clock: Opener(clock, [stamped(clock, change)])) as on:
        seen: set[str | None] = set()
        on.pass_s(5, look=lambda: seen.add(on.reader.fault))
        assert "clock_jumped" in seen or on.reader.jumps > 10
        per_session = [session for _, session in on.taken()]
    assert max(per_session.count(session) for session in set(per_session)) <= 26


def test_garbage_is_counted_and_named_after_a_while() -> None:
    class Garbage(Tape):
        def __iter__(self) -> Iterator[Item]:
            for given in super().__iter__():
                yield Frame(given.seq, given.t_ns, np.zeros((0, 0, 3), np.uint8))

    def script(clock: SimClock) -> Opener:
        return Opener(clock, [lambda: Garbage(clock, frames(clock.now_ns(), 1000)), tape(clock, 60)])

    with bench(script) as on:
        assert 1.9 < on.until_fault("camera_lost") < 2.5
        assert on.queue.video_dropped >= 50 and on.taken() == []
        on.until_fault(None)


def test_what_the_source_itself_has_lost_is_counted() -> None:
    class Losing(Tape):
        def __iter__(self) -> Iterator[Item]:
            for given in super().__iter__():
                self.dropped += 2
                yield given

    with bench(lambda clock: Opener(clock, [lambda: Losing(clock, frames(clock.now_ns(), 25))])) as on:
        on.clock.sleep(1)
        assert on.queue.video_dropped == 50
        on.clock.sleep(1.24)
        assert on.queue.video_dropped == 100, "the next one counts from 0 again"


# Sources that hang


class Hanging(Tape):
    """Gives some pictures, then hangs in its driver; and perhaps when it is closed."""

    def __init__(self, clock: SimClock, released: threading.Event, *, closing: bool = False, deaf: bool = True) -> None:
        super().__init__(clock, frames(clock.now_ns(), 25))
        self._sim, self._released, self._closing, self._deaf = clock, released, closing, deaf

    def close(self) -> None:
        super().close()
        if self._closing:
            self._sim.hang(self._released)
        elif not self._deaf:
            self._sim.release(self._released)

    def __iter__(self) -> Iterator[Item]:
        yield from super().__iter__()
        self._sim.hang(self._released)


def test_a_source_that_hangs_is_named_and_woken_by_closing_it() -> None:
    def script(clock: SimClock) -> Opener:
        return Opener(clock, [lambda: Hanging(clock, threading.Event(), deaf=False), tape(clock, 60)])

    with bench(script) as on:
        on.clock.sleep(1)
        on.reader.supervise()
        assert 3 < on.until_fault("camera_stalled") < 4.5
        assert on.until_fault(None) < 1
        assert on.reader.orphans() == [] and not on.reader.unrecoverable


@pytest.mark.parametrize("closing", [True, False])
def test_one_that_cannot_be_woken_is_left_and_another_thread_takes_over(closing: bool) -> None:
    released = threading.Event()

    def script(clock: SimClock) -> Opener:
        return Opener(clock, [lambda: Hanging(clock, released, closing=closing), tape(clock, 600)])

    with bench(script) as on:
        on.until_fault("camera_stalled")
        assert on.until_fault(None) < ABANDONED_AFTER_S
        assert len(on.reader.orphans()) == (2 if closing else 1), "it, and who tried to close it"
        session = on.reader.session
        on.pass_s(60)
        assert not on.reader.unrecoverable, "it works again"
        on.taken()
        on.clock.release(released)
        on.clock.sleep(1)
        assert on.reader.orphans() == []
        on.pass_s(1)
        assert (on.reader.session, on.reader.fault) == (session, None), "who comes back late changes nothing"
        assert {found for _, found in on.taken()} == {session}


def test_hanging_while_it_is_opened_is_named_too() -> None:
    released = threading.Event()

    def script(clock: SimClock) -> Callable[[], Tape]:
        def hang() -> Tape:
            clock.hang(released)
            return tape(clock, 60)()

        return hang

    with bench(script) as on:
        assert 3 < on.until_fault("camera_stalled") < 4.5
        on.clock.release(released)
        assert on.until_fault(None) < 0.5, "it was only slow, and is not opened a second time"
        assert on.reader.reopened == 0


def test_what_only_a_new_process_can_fix_is_unrecoverable() -> None:
    """The hanging thread keeps the device, so nobody else can open it."""
    released = threading.Event()

    def script(clock: SimClock) -> Opener:
        return Opener(clock, [lambda: Hanging(clock, released), error(DeviceBusyError)])

    with bench(script) as on:
        on.until_fault("camera_busy")
        assert not on.reader.unrecoverable
        on.pass_s(ORPHAN_TIMEOUT_S + 1)
        assert on.reader.unrecoverable
        on.clock.release(released)
        on.clock.sleep(1)
        on.reader.supervise()
        assert not on.reader.unrecoverable


def test_a_device_held_by_our_own_driver_is_unrecoverable_only_if_not_released() -> None:
    def script(clock: SimClock) -> Opener:
        held = [error(DeviceHungError)] * 30
        return Opener(clock, [error(DeviceHungError), tape(clock, 10), *held])

    with bench(script) as on:
        assert on.until_fault("camera_stalled") < 1
        on.until_fault(None)
        assert not on.reader.unrecoverable
        on.until_fault("camera_stalled", within_s=200)
        on.pass_s(ORPHAN_TIMEOUT_S + 3)
        assert on.reader.unrecoverable


def test_threads_that_hang_are_bounded() -> None:
    released, before = threading.Event(), threading.active_count()
    with bench(lambda clock: Opener(clock, [lambda: Hanging(clock, released)])) as on:
        on.pass_s(300)
        assert len(on.reader.orphans()) <= MAX_ORPHANS and on.reader.unrecoverable
        assert threading.active_count() < before + 12
        on.clock.release(released)


def test_a_process_that_was_stopped_does_not_blame_its_sources() -> None:
    with bench(lambda clock: Opener(clock, [tape(clock, 600)])) as on:
        on.pass_s(2)
        on.clock.jump(60)
        on.reader.supervise()
        assert on.reader.fault is None
        on.pass_s(1)
        assert on.reader.reopened == 0


# Stopping and restarting


def test_stopping_ends_it_wherever_it_is() -> None:
    for act in (error(DeviceMissingError), 600.0, 1.0):

        def script(clock: SimClock, act: float | CaptureError = act) -> Opener:
            return Opener(clock, [act if isinstance(act, CaptureError) else tape(clock, act, silent=True)])

        with bench(script) as on:
            on.clock.sleep(10)
            on.reader.stop()
            on.clock.sleep(0.1)
            assert on.reader.ended


def test_restarting_opens_it_again_at_once() -> None:
    with SimClock() as clock, clock.taking_part():
        opener = Opener(clock, [tape(clock, 600)])
        reader = Reader(Feed("camera", opener), InputQueue(clock, drop_oldest=True), clock)
        reader.start()
        clock.sleep(10)
        reader.restart()
        clock.sleep(1)
        assert len(opener.times_ns) == 2 and opener.times_ns[1] - opener.times_ns[0] < 10.1 * NS_PER_S
        assert (reader.fault, reader.session, reader.reopened) == (None, 1, 1)
        reader.stop()
        clock.sleep(1)


def test_restarting_does_not_wait_for_the_pause_and_keeps_the_fault() -> None:
    with SimClock() as clock, clock.taking_part():
        opener = Opener(clock, [error(DeviceMissingError)])
        reader = Reader(Feed("camera", opener), InputQueue(clock, drop_oldest=True), clock)
        reader.start()
        clock.sleep(8)
        count = len(opener.times_ns)
        reader.restart()
        clock.sleep(0.01)
        assert len(opener.times_ns) == count + 1 and reader.fault == "camera_missing"
        reader.stop()
        clock.sleep(1)


# Recordings


class Recording:
    """Read once; whatever it raises is the end."""

    def __init__(self, items: Iterable[Frame | Chunk], then: BaseException | None = None) -> None:
        self._items, self._then = items, then

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None: ...

    def __iter__(self) -> Iterator[Frame | Chunk]:
        yield from self._items
        if self._then:
            raise self._then


@pytest.mark.parametrize("then", [None, error(InputFormatError), RuntimeError("what is this")])
def test_a_recording_is_read_once_to_its_end(then: Exception | None) -> None:
    with SimClock() as clock, clock.taking_part():
        queue = InputQueue(clock, drop_oldest=False)
        reader = Reader(RecordingFeed("recording", lambda: Recording([chunk(0), chunk(1)], then)), queue, clock)
        reader.start()
        assert [found.item.t_ns for found in (queue.get(1), queue.get(1)) if found] == [0, 1]
        assert queue.get(1) is None
        assert reader.failure is then and reader.ended and reader.fault is None


def test_a_paced_recording_comes_when_its_time_has_come_whatever_its_clock() -> None:
    with SimClock() as clock, clock.taking_part():
        items = [Chunk(k, 10**15 + k * 50 * NS_PER_MS, 16_000, np.zeros(1, np.float32)) for k in range(5)]
        queue = InputQueue(clock, drop_oldest=True)
        reader = Reader(RecordingFeed("recording", lambda: Recording(items)), queue, clock, paced=True)
        begun_ns = clock.now_ns()
        reader.start()
        came_ms = []
        while (found := queue.get(10)) is not None:
            came_ms.append((found.queued_ns - begun_ns) / NS_PER_MS)
        assert came_ms == pytest.approx([0, 50, 100, 150, 200])


def test_a_paced_recording_can_be_stopped_in_a_long_pause() -> None:
    with SimClock() as clock, clock.taking_part():
        queue = InputQueue(clock, drop_oldest=True)
        items = [chunk(0), chunk(3600 * NS_PER_S)]
        reader = Reader(RecordingFeed("recording", lambda: Recording(items)), queue, clock, paced=True)
        reader.start()
        clock.sleep(1)
        reader.restart()
        clock.sleep(1)
        assert not reader.ended, "a recording is not opened again"
        reader.stop()
        clock.sleep(0.1)
        assert reader.ended


@pytest.mark.parametrize("part", ["camera", "microphone"])
def test_every_fault_of_a_source_is_one_of_the_known_ones(part: str) -> None:
    for word in ("stalled", "lost", *source_thread._WORDS.values()):
        assert Fault(f"{part}_{word}")
