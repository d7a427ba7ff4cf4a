"""The daemon against scripted sources: reports on time, losses counted, stops, stalls and failures told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.config import MeasureSettings
from device.errors import CaptureError, UsageError
from device.features.fetch import require_face_model
from device.records import NS_PER_MS, NS_PER_S, Chunk, Frame, Report, State
from device.runtime.daemon import Daemon, Handover, paced
from device.towers.bundle import load_bundle
from tests.scenes import REPORT_KEYS, rash_bundle, talking_items, tiny_bundle

FRAME = Frame(0, 0, np.zeros((2, 2, 3), np.uint8))
SLACK_S = 2.0  # for a machine that is busy with something else
BROKEN = CaptureError("it fell off", where="camera", remedy="Put it back")


def chunk(seq: int) -> Chunk:
    return Chunk(seq, seq * 20 * NS_PER_MS, 16_000, np.zeros(320, np.float32))


class Collector:
    """Where reports go; may be slow."""

    def __init__(self, slow_s: float = 0.0) -> None:
        self.reports: list[Report] = []
        self.times_s: list[float | None] = []
        self._slow_s = slow_s

    def __call__(self, report: Report, t_s: float | None) -> None:
        self.reports.append(report)
        self.times_s.append(t_s)
        time.sleep(self._slow_s)

    @property
    def states(self) -> set[State]:
        return {report.state for report in self.reports}


class Hanging:
    """A live source that gives some items and then nothing, until it is released."""

    def __init__(self, items: Iterable[Frame | Chunk] = ()) -> None:
        self._items = items
        self.released = threading.Event()

    def __iter__(self) -> Iterator[Frame | Chunk]:
        yield from self._items
        self.released.wait(30)


def failing(items: Iterable[Frame | Chunk]) -> Iterator[Frame | Chunk]:
    yield from items
    raise BROKEN


def daemon(collector: Callable[[Report, float | None], None], **settings: float) -> Daemon:
    return Daemon(load_bundle(tiny_bundle()), require_face_model(), MeasureSettings(**settings), collector)  # type: ignore[arg-type]


def replayed(items: Iterable[Frame | Chunk], **settings: float) -> Collector:
    collector = Collector()
    daemon(collector, **settings).run(items, realtime=False)
    return collector


def running(target: Daemon, items: Iterable[Frame | Chunk], *, realtime: bool) -> threading.Thread:
    thread = threading.Thread(target=target.run, args=(items,), kwargs={"realtime": realtime}, daemon=True)
    thread.start()
    return thread


# Settings


def test_all_wrong_settings_are_named_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        MeasureSettings(window_s=0, report_every_s=float("nan"), search_ms=99, profile="loud")
    for name in ("window_s", "report_every_s", "search_ms", "profile", "itu-r-bt1359"):
        assert name in str(caught.value)


def test_the_defaults_and_the_limits_are_allowed() -> None:
    MeasureSettings()
    MeasureSettings(window_s=60, report_every_s=0.2, search_ms=5000, profile="ebu-r37")


# Handover


@given(st.integers(1, 5), st.lists(st.sampled_from("fcg"), max_size=60))
def test_handover_drops_the_oldest_and_counts_by_kind(size: int, actions: list[str]) -> None:
    queue = Handover(size, drop_oldest=True)
    model: list[Frame | Chunk] = []
    lost: list[Frame | Chunk] = []
    for number, action in enumerate(actions):
        if action == "g":
            if model:
                assert queue.get(1) is model.pop(0)
            continue
        item = FRAME if action == "f" else chunk(number)
        assert queue.put(item)
        model.append(item)
        if len(model) > size:
            lost.append(model.pop(0))
    queue.close()
    rest = []
    while (item_or_end := queue.get(1)) is not None:
        rest.append(item_or_end)
    assert len(rest) <= size
    assert all(a is b for a, b in zip(rest, model, strict=True))
    assert queue.video_dropped == sum(isinstance(item, Frame) for item in lost)
    assert queue.audio_dropped == sum(isinstance(item, Chunk) for item in lost)


@pytest.mark.parametrize("drop_oldest", [True, False])
def test_handover_between_threads_loses_only_what_it_counts(drop_oldest: bool) -> None:
    queue = Handover(3, drop_oldest=drop_oldest)

    def give() -> None:
        for number in range(2000):
            queue.put(chunk(number))
        queue.close()

    giver = threading.Thread(target=give)
    giver.start()
    taken: list[int] = []
    while (item := queue.get(10)) is not None:
        taken.append(item.seq)
        if len(taken) % 100 == 0:
            time.sleep(0.001)
    giver.join(10)
    assert all(a < b for a, b in pairwise(taken)), "in order, none twice"
    assert len(taken) + queue.audio_dropped == 2000
    assert drop_oldest or queue.audio_dropped == 0


def test_waiting_handover_lets_the_giver_wait() -> None:
    queue = Handover(1, drop_oldest=False)
    queue.put(chunk(0))
    done = threading.Event()

    def give() -> None:
        queue.put(chunk(1))
        done.set()

    threading.Thread(target=give, daemon=True).start()
    assert not done.wait(0.1)
    assert queue.get(1) is not None
    assert done.wait(5)


def test_empty_handover_times_out() -> None:
    with pytest.raises(TimeoutError):
        Handover(1, drop_oldest=True).get(0.01)


def test_closing_wakes_the_giver() -> None:
    queue = Handover(1, drop_oldest=False)
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
    queue = Handover(1, drop_oldest=False)
    answers: list[Frame | Chunk | None] = []
    taker = threading.Thread(target=lambda: answers.append(queue.get(30)), daemon=True)
    taker.start()
    time.sleep(0.05)
    queue.close()
    taker.join(5)
    assert answers == [None]


def test_what_was_given_before_closing_can_still_be_taken() -> None:
    queue = Handover(4, drop_oldest=True)
    queue.put(chunk(0))
    queue.close()
    assert not queue.put(chunk(1))
    taken = queue.get(1)
    assert taken is not None and taken.seq == 0
    assert queue.get(1) is None


# Pace


def test_items_come_when_their_time_has_come_whatever_their_clock() -> None:
    later = [Chunk(k, 10**15 + k * 50 * NS_PER_MS, 16_000, np.zeros(1, np.float32)) for k in range(5)]
    start_s = time.monotonic()
    came_s = [time.monotonic() - start_s for _ in paced(later, threading.Event())]
    assert all(came >= 0.05 * k - 0.002 for k, came in enumerate(came_s))
    assert came_s[-1] < 1


def test_pacing_ends_when_stopped() -> None:
    stopped = threading.Event()
    items = paced([chunk(0), Chunk(1, 60 * NS_PER_S, 16_000, np.zeros(1, np.float32))], stopped)
    assert next(items).seq == 0
    threading.Timer(0.05, stopped.set).start()
    start_s = time.monotonic()
    assert list(items) == []
    assert time.monotonic() - start_s < 5


# Reports


def test_a_report_each_second_of_the_recording() -> None:
    found = replayed(talking_items())
    times_s = [t_s for t_s in found.times_s if t_s is not None]
    assert len(times_s) == len(found.reports) == 6 + 1
    assert all(b - a == pytest.approx(1.0, abs=0.05) for a, b in pairwise(times_s))
    assert [report.seq for report in found.reports] == list(range(1, 8))


def test_a_chosen_interval_is_kept() -> None:
    times_s = [t_s for t_s in replayed(talking_items(), report_every_s=2.0).times_s if t_s is not None]
    assert [b - a for a, b in pairwise(times_s)] == pytest.approx([2.0] * (len(times_s) - 1), abs=0.05)


def test_reports_begin_with_starting_and_count_one_face() -> None:
    found = replayed(talking_items())
    assert found.reports[0].state is State.STARTING
    assert found.states <= {State.STARTING, State.UNCERTAIN}
    assert {report.faces for report in found.reports} == {1}
    assert {report.latency_ms for report in found.reports} == {None}, "a recording at full speed has no latency"


def test_an_offset_is_a_number_in_measuring_only() -> None:
    collector = Collector()
    settings = MeasureSettings(window_s=2.0, report_every_s=0.2)
    Daemon(load_bundle(rash_bundle()), require_face_model(), settings, collector).run(talking_items(), realtime=False)
    assert State.MEASURING in collector.states
    for report in collector.reports:
        assert (report.offset_ms is not None) == (report.state is State.MEASURING)


def test_after_a_jump_in_time_missed_reports_are_not_made_up_for() -> None:
    jump_ns = 1000 * NS_PER_S
    later = [
        Frame(item.seq, item.t_ns + jump_ns, item.rgb)
        if isinstance(item, Frame)
        else Chunk(item.seq, item.t_ns + jump_ns, item.rate_hz, item.samples)
        for item in talking_items()
    ]
    times_s = [t_s for t_s in replayed([*talking_items(), *later]).times_s if t_s is not None]
    assert 12 <= len(times_s) <= 18
    assert all(b - a > 0.9 for a, b in pairwise(times_s))


def test_when_one_track_goes_on_alone_that_is_reported() -> None:
    sound = [chunk(number) for number in range(50 * 30)]
    found = replayed(sound)
    assert found.states == {State.STALLED}
    assert 4 <= len(found.reports) <= 10
    assert {report.faces for report in found.reports} == {None}


def test_what_a_source_raises_comes_after_the_reports_of_what_it_gave() -> None:
    for realtime in (False, True):
        collector = Collector()
        half = [item for item in talking_items() if item.t_ns < 2.5 * NS_PER_S]
        with pytest.raises(CaptureError, match="fell off"):
            daemon(collector, report_every_s=0.5).run(failing(half), realtime=realtime)
        assert len(collector.reports) >= 3


def test_a_source_that_raises_at_once_gives_no_report() -> None:
    collector = Collector()
    with pytest.raises(CaptureError, match="fell off"):
        daemon(collector).run(failing(()), realtime=False)
    assert collector.reports == []


@pytest.mark.parametrize("realtime", [True, False])
@pytest.mark.parametrize("given_s", [0.0, 1.0])
def test_stop_ends_soon_even_when_the_source_hangs(realtime: bool, given_s: float) -> None:
    source = Hanging([item for item in talking_items() if item.t_ns < given_s * NS_PER_S])
    target = daemon(Collector(), stalled_after_s=60)
    thread = running(target, source, realtime=realtime)
    time.sleep(0.3)
    assert thread.is_alive()
    start_s = time.monotonic()
    target.stop()
    # The source hangs in a call of its own, which nobody can end: the daemon waits for it for 1.5 s, then leaves it.
    thread.join(10)
    assert not thread.is_alive()
    assert time.monotonic() - start_s < 2 + SLACK_S
    source.released.set()


def test_stop_in_the_middle_of_a_recording_ends_soon() -> None:
    target = daemon(Collector())
    thread = running(target, talking_items(), realtime=True)
    time.sleep(0.5)
    start_s = time.monotonic()
    target.stop()
    thread.join(10)
    assert not thread.is_alive() and time.monotonic() - start_s < 1 + SLACK_S


def test_a_live_source_that_falls_silent_is_stalled() -> None:
    collector, source = Collector(), Hanging()
    target = daemon(collector, stalled_after_s=1)
    thread = running(target, source, realtime=True)
    time.sleep(2.7)
    target.stop()
    source.released.set()
    thread.join(5)
    assert len(collector.reports) == 2
    assert collector.states == {State.STALLED}
    first = collector.reports[0].to_dict()
    assert list(first) == REPORT_KEYS.split()
    assert first["offset_ms"] is first["faces"] is first["speech_ratio"] is first["latency_ms"] is None


def test_a_slow_consumer_drops_and_counts_and_does_not_fall_behind() -> None:
    collector = Collector(slow_s=1.5)
    daemon(collector, report_every_s=0.5, window_s=1.0, search_ms=100, stalled_after_s=1).run(
        talking_items(), realtime=True
    )
    last = collector.reports[-1]
    assert last.video_dropped > 10 and last.audio_dropped > 20
    # Three times too slow: 16 reports would be 16 s late. The queue holds 2 s, and what is 4 s old is not said.
    assert len(collector.reports) < 10
    latest_ms = 4000 + 1000 * SLACK_S
    assert all(report.latency_ms is not None and report.latency_ms < latest_ms for report in collector.reports)


def test_at_real_time_pace_nothing_is_dropped_and_latency_is_told() -> None:
    collector = Collector()
    items = [item for item in talking_items() if item.t_ns < 4.5 * NS_PER_S]
    start_s = time.monotonic()
    daemon(collector, report_every_s=0.5, window_s=1.0, search_ms=100).run(items, realtime=True)
    assert 4.3 < time.monotonic() - start_s < 9 + SLACK_S
    # A busy machine may well sleep through more than the queue holds, but not through much of it.
    assert collector.reports[-1].video_dropped + collector.reports[-1].audio_dropped < len(items) / 4
    assert all(report.latency_ms is not None and report.latency_ms > 0 for report in collector.reports)
