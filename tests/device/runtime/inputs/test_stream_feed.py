"""A stream in the daemon: both tracks from one source, its faults, and reports while it cannot be measured."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from device.bundles.bundle import load_bundle
from device.errors import StreamError
from device.features.model_download import require_face_model
from device.records import NS_PER_MS, Chunk, Fault, Frame, Reason, Report, State
from device.runtime.daemon import Daemon
from device.runtime.inputs.source_thread import Feed
from tests.device.runtime.live import RASH, Collector, Item, Opener, Tape, talk
from tests.scenes import overconfident_bundle
from tests.scripted.simclock import SimClock


def error(word: str) -> StreamError:
    return StreamError("scripted", where="rtsp://host/…", remedy="Wait", word=word)


def both(clock: SimClock, *, sound_late_ms: int = 0, for_s: float = 1e6, then: Exception | None = None) -> Tape:
    """What one sender gives from now on. The sound of a moment may pass here later than its picture."""
    begun_ns = clock.now_ns()

    def items() -> Iterator[Item]:
        lag = sound_late_ms * NS_PER_MS
        merged = heapq.merge(
            ((item.t_ns, item) for item in talk(Frame, begun_ns)),
            ((item.t_ns + lag, item) for item in talk(Chunk, begun_ns)),
            key=lambda pair: pair[0],
        )
        for passed_ns, item in merged:
            if passed_ns > begun_ns + for_s * 1e9:
                return
            yield item

    return Tape(clock, items(), then=then, device="rtsp://host/…")


@contextmanager
def running(
    script: Callable[[SimClock], Sequence[Callable[[], Tape] | Exception]],
) -> Iterator[tuple[SimClock, Collector]]:
    with SimClock() as clock, clock.taking_part():
        collector = Collector()
        daemon = Daemon(
            load_bundle(overconfident_bundle()), require_face_model(), RASH, collector, clock=clock, asleep_ns=lambda: 0
        )
        thread = clock.start(lambda: daemon.run([Feed("stream", Opener(clock, script(clock)))]), "daemon")
        yield clock, collector
        daemon.stop()
        thread.join(60)
        assert not thread.is_alive()


def with_numbers(reports: list[Report]) -> list[Report]:
    return [report for report in reports if report.offset_ms is not None]


def test_video_and_audio_may_arrive_at_different_times() -> None:
    """Their stamps count. A check that took one order of both for granted would refuse every second item."""
    with running(lambda clock: [lambda: both(clock, sound_late_ms=300)]) as (clock, collector):
        clock.sleep(14)
    assert with_numbers(collector.reports) and collector.reports[-1].fault is None
    assert collector.reports[-1].video_dropped + collector.reports[-1].audio_dropped == 0


@pytest.mark.parametrize("word", ["missing", "jumped", "changed", "incomplete", "slow", "stalled", "permission"])
def test_each_fault_is_named_and_measuring_continues(word: str) -> None:
    script = [lambda clock: both(clock, for_s=8, then=error(word)), both]
    with running(lambda clock: [lambda: script[0](clock), lambda: script[1](clock)]) as (clock, collector):
        clock.sleep(20)
    assert f"stream_{word}" in [*Fault] and f"stream_{word}" in collector.faults
    first = next(number for number, report in enumerate(collector.reports) if report.fault == f"stream_{word}")
    broken, after = collector.reports[first], collector.reports[first + 1 :]
    assert broken.state is State.STALLED and broken.offset_ms is None
    assert with_numbers(collector.reports[:first]) and with_numbers(after), "within 12 s of it"


def test_without_sender_reports_it_is_starting_with_a_reason() -> None:
    with running(lambda clock: [error("unsynced")] * 4 + [lambda: both(clock)]) as (clock, collector):
        clock.sleep(20)
    starting = [report for report in collector.reports if report.fault == Fault.STREAM_UNSYNCED]
    assert starting and {(each.state, each.reason) for each in starting} == {(State.STARTING, Reason.NO_SENDER_REPORTS)}
    assert with_numbers(collector.reports), "once they have come"


def test_an_unrecoverable_stream_ends_the_daemon() -> None:
    with running(lambda clock: [lambda: both(clock, for_s=8, then=error("ended"))]) as (clock, collector):
        clock.sleep(12)
        said = len(collector.reports)
        clock.sleep(5)
        assert said == len(collector.reports) and with_numbers(collector.reports)


def test_what_ends_before_it_began_is_an_error() -> None:
    with SimClock() as clock, clock.taking_part():
        daemon = Daemon(load_bundle(overconfident_bundle()), require_face_model(), RASH, Collector(), clock=clock)
        with pytest.raises(StreamError, match="scripted"):
            daemon.run([Feed("stream", Opener(clock, [error("ended")]))])
