"""The queue between the threads: losses are counted, frames never displace audio, and nobody waits for ever."""

from __future__ import annotations

import threading
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.clock import SystemClock
from device.records import Chunk, Frame
from device.runtime.inputs.input_queue import InputQueue, QueuedItem
from tests.device.runtime.live import chunk, frame
from tests.scripted.simclock import SimClock


def inputs(size: int, *, drop_oldest: bool) -> InputQueue:
    return InputQueue(SystemClock(), drop_oldest=drop_oldest, max_frames=size, max_chunks=size)


def item_of(given: QueuedItem | None) -> Frame | Chunk:
    assert given is not None
    return given.item


@given(st.integers(1, 5), st.lists(st.sampled_from("fcg"), max_size=60))
def test_the_oldest_of_the_same_kind_is_dropped_and_counted(size: int, actions: list[str]) -> None:
    queue = inputs(size, drop_oldest=True)
    model: list[Frame | Chunk] = []
    lost: list[Frame | Chunk] = []
    for number, action in enumerate(actions):
        if action == "g":
            if model:
                assert item_of(queue.get(1)) is model.pop(0)
            continue
        item = frame(number) if action == "f" else chunk(number)
        assert queue.put(item)
        model.append(item)
        same = [other for other in model if type(other) is type(item)]
        if len(same) > size:
            lost.append(same[0])
            model = [other for other in model if other is not same[0]]
    queue.close()
    for expected in model:
        assert item_of(queue.get(1)) is expected
    assert queue.get(1) is None
    assert queue.video_dropped == sum(isinstance(item, Frame) for item in lost)
    assert queue.audio_dropped == sum(isinstance(item, Chunk) for item in lost)
    assert queue.overflowed == len(lost)


def test_many_pictures_cost_no_sound_and_the_other_way_round() -> None:
    queue = InputQueue(SystemClock(), drop_oldest=True)
    queue.put(chunk(0))
    for number in range(1000):
        queue.put(frame(number))
    assert isinstance(item_of(queue.get(1)), Chunk)
    for number in range(1000):
        queue.put(chunk(number))
    assert isinstance(item_of(queue.get(1)), Frame)
    assert queue.fill() == 1.0


@pytest.mark.parametrize("drop_oldest", [True, False])
def test_between_threads_only_what_is_counted_is_lost(drop_oldest: bool) -> None:
    queue = inputs(3, drop_oldest=drop_oldest)

    def give() -> None:
        for number in range(2000):
            queue.put(chunk(number, number))
        queue.close()

    giver = threading.Thread(target=give)
    giver.start()
    taken: list[int] = []
    while (found := queue.get(10)) is not None:
        taken.append(found.item.seq)
        if len(taken) % 100 == 0:
            time.sleep(0.001)
    giver.join(10)
    assert all(a < b for a, b in pairwise(taken)), "in order, none twice"
    assert len(taken) + queue.audio_dropped == 2000
    assert drop_oldest or queue.audio_dropped == 0


def test_an_item_has_its_source_and_its_time() -> None:
    with SimClock() as clock:
        queue = InputQueue(clock, drop_oldest=True)
        queue.put(frame(7), "camera", 3)
        queued_ns = clock.now_ns()
        clock.sleep(1)
        found = queue.get(1)
    assert found is not None and (found.part, found.session, found.queued_ns) == ("camera", 3, queued_ns)


def test_what_was_lost_before_it_came_here_is_counted_too() -> None:
    queue = inputs(3, drop_oldest=True)
    queue.count_dropped(frame(0), 5)
    queue.count_dropped(chunk(0))
    queue.count_dropped(chunk(0), 0)
    assert (queue.video_dropped, queue.audio_dropped, queue.overflowed) == (5, 1, 0)


def test_where_nothing_may_be_lost_the_giver_waits() -> None:
    queue = inputs(1, drop_oldest=False)
    queue.put(chunk(0))
    done = threading.Event()

    def give() -> None:
        queue.put(chunk(1))
        done.set()

    threading.Thread(target=give, daemon=True).start()
    assert not done.wait(0.1)
    assert queue.get(1) is not None
    assert done.wait(5)


def test_getting_from_nothing_times_out() -> None:
    with SimClock() as clock, clock.taking_part():
        begun_ns = clock.now_ns()
        with pytest.raises(TimeoutError):
            InputQueue(clock, drop_oldest=True).get(0.2)
        assert clock.now_ns() - begun_ns == 200_000_000


def test_closing_wakes_the_giver() -> None:
    queue = inputs(1, drop_oldest=False)
    queue.put(chunk(0))
    answers: list[bool] = []
    giver = threading.Thread(target=lambda: answers.append(queue.put(chunk(1))), daemon=True)
    giver.start()
    time.sleep(0.05)
    queue.close(discard=True)
    giver.join(5)
    assert answers == [False]
    assert queue.get(1) is None


def test_closing_wakes_the_taker() -> None:
    queue = inputs(1, drop_oldest=False)
    answers: list[QueuedItem | None] = []
    taker = threading.Thread(target=lambda: answers.append(queue.get(30)), daemon=True)
    taker.start()
    time.sleep(0.05)
    queue.close()
    taker.join(5)
    assert answers == [None]


def test_what_was_given_before_closing_can_still_be_taken() -> None:
    queue = inputs(4, drop_oldest=True)
    queue.put(chunk(0, 0))
    queue.close()
    assert not queue.put(chunk(1, 1))
    assert item_of(queue.get(1)).seq == 0
    assert queue.get(1) is None
