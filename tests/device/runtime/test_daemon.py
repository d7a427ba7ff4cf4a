"""The daemon on recordings and on live sources: reports in time, counted losses, stops, stalls and failures."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any, cast

import pytest

from device.bundles.bundle import load_bundle
from device.config.settings import MeasureSettings
from device.errors import CaptureError, DeviceLostError, DeviceMissingError, UsageError
from device.features.model_download import require_face_model
from device.records import NS_PER_MS, NS_PER_S, Chunk, Frame, State
from device.runtime.daemon import Daemon
from device.runtime.inputs.source_thread import ORPHAN_TIMEOUT_S, Feed, RecordingFeed
from device.state.rig import Rig
from tests.device.runtime.live import (
    CAMERA,
    MICROPHONE,
    RASH,
    Collector,
    Item,
    Live,
    Opener,
    Script,
    Tape,
    after,
    chunk,
    frames,
    live,
    talk,
    talking,
)  # fmt: skip
from tests.scenes import REPORT_KEYS, overconfident_bundle, talking_items, tiny_bundle
from tests.scripted.simclock import SimClock

SLACK_S = 2.0  # for a machine that is busy with something else
BROKEN = CaptureError("it fell off", where="camera", remedy="Put it back")
LOST = DeviceLostError("unplugged", where="camera", remedy="Plug it in")
MISSING = DeviceMissingError("not there", where="camera", remedy="Plug it in")


def daemon(collector: Collector, **settings: Any) -> Daemon:
    made = Daemon(load_bundle(tiny_bundle()), require_face_model(), MeasureSettings(**settings), collector)
    collector.position_s = lambda: made.position_s
    return made


# Settings


def test_all_wrong_settings_are_named_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        MeasureSettings(window_s=0, report_every_s=float("nan"), search_ms=99, profile="loud")
    for name in ("window_s", "report_every_s", "search_ms", "profile", "itu-r-bt1359"):
        assert name in str(caught.value)


def test_the_defaults_and_the_limits_are_allowed() -> None:
    MeasureSettings()
    MeasureSettings(window_s=60, report_every_s=0.2, search_ms=5000, profile="ebu-r37")


# Recordings


class Recording:
    """A recording by hand: some items, then an error, or a wait until it is released, or the end."""

    def __init__(
        self, items: Iterable[Item], then: Exception | None = None, hangs: threading.Event | None = None
    ) -> None:
        self._items, self._then, self._hangs = items, then, hangs

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None: ...

    def __iter__(self) -> Iterator[Item]:
        yield from self._items
        if self._then:
            raise self._then
        if self._hangs:
            self._hangs.wait(30)

    def feed(self) -> RecordingFeed:
        return RecordingFeed("recording", lambda: self)


def replayed(items: Iterable[Item], **settings: Any) -> Collector:
    collector = Collector()
    daemon(collector, **settings).run([Recording(items).feed()], realtime=False)
    return collector


def running(target: Daemon, feed: RecordingFeed, *, realtime: bool) -> threading.Thread:
    thread = threading.Thread(target=target.run, args=([feed],), kwargs={"realtime": realtime}, daemon=True)
    thread.start()
    return thread


def test_a_report_each_second_of_the_recording() -> None:
    found = replayed(talking_items())
    times_s = [t_s for t_s in found.times_s if t_s is not None]
    assert len(times_s) == len(found.reports) == 6 + 1
    assert all(b - a == pytest.approx(1.0, abs=0.05) for a, b in pairwise(times_s[:-1]))
    assert 1 <= times_s[-1] - times_s[-2] < 2, "the last one comes when the recording ends"
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
    assert {report.fault for report in found.reports} == {None}


def test_an_offset_is_a_number_in_measuring_only() -> None:
    collector = Collector()
    settings = MeasureSettings(window_s=2.0, report_every_s=0.2)
    Daemon(load_bundle(overconfident_bundle()), require_face_model(), settings, collector).run(
        [Recording(talking_items()).feed()], realtime=False
    )
    assert State.MEASURING in collector.states
    for report in collector.reports:
        assert (report.offset_ms is not None) == (report.state is State.MEASURING)


def test_after_a_jump_in_time_missed_reports_are_not_made_up_for() -> None:
    later = [replace(item, t_ns=item.t_ns + 1000 * NS_PER_S) for item in talking_items()]
    times_s = [t_s for t_s in replayed([*talking_items(), *later]).times_s if t_s is not None]
    assert 12 <= len(times_s) <= 18
    assert all(b - a > 0.9 for a, b in pairwise(times_s))


def test_when_one_track_goes_on_alone_that_is_reported() -> None:
    found = replayed([chunk(number * NS_PER_S // 50) for number in range(50 * 30)])
    assert found.states == {State.STALLED}
    assert 4 <= len(found.reports) <= 10
    assert {report.faces for report in found.reports} == {None}


def test_what_a_recording_raises_comes_after_the_reports_of_what_it_gave() -> None:
    for realtime in (False, True):
        collector = Collector()
        half = [item for item in talking_items() if item.t_ns < 2.5 * NS_PER_S]
        with pytest.raises(CaptureError, match="fell off"):
            daemon(collector, report_every_s=0.5).run([Recording(half, BROKEN).feed()], realtime=realtime)
        assert len(collector.reports) >= 3


def test_a_recording_that_cannot_be_opened_gives_no_report() -> None:
    def refuse() -> Recording:
        raise BROKEN

    collector = Collector()
    with pytest.raises(CaptureError, match="fell off"):
        daemon(collector).run([RecordingFeed("recording", refuse)], realtime=False)
    assert collector.reports == []


@pytest.mark.parametrize("realtime", [True, False])
@pytest.mark.parametrize("given_s", [0.0, 1.0])
def test_stop_ends_soon_even_when_a_recording_hangs(realtime: bool, given_s: float) -> None:
    released = threading.Event()
    items = [item for item in talking_items() if item.t_ns < given_s * NS_PER_S]
    target = daemon(Collector(), stalled_after_s=60)
    thread = running(target, Recording(items, hangs=released).feed(), realtime=realtime)
    time.sleep(0.3)
    assert thread.is_alive()
    start_s = time.monotonic()
    target.stop()
    # The source hangs in a call of its own, which nobody can end: the daemon waits for it for 1.5 s, then leaves it.
    thread.join(10)
    assert not thread.is_alive()
    assert time.monotonic() - start_s < 2 + SLACK_S
    released.set()


def test_stop_in_the_middle_of_a_recording_ends_soon() -> None:
    target = daemon(Collector())
    thread = running(target, Recording(talking_items()).feed(), realtime=True)
    time.sleep(0.5)
    start_s = time.monotonic()
    target.stop()
    thread.join(10)
    assert not thread.is_alive() and time.monotonic() - start_s < 1 + SLACK_S


def test_a_recording_at_real_time_pace_that_falls_silent_is_stalled() -> None:
    collector, released = Collector(), threading.Event()
    target = daemon(collector, stalled_after_s=1)
    thread = running(target, Recording([], hangs=released).feed(), realtime=True)
    time.sleep(2.7)
    target.stop()
    released.set()
    thread.join(5)
    assert len(collector.reports) == 2
    assert collector.states == {State.STALLED}
    first = collector.reports[0].to_dict()
    assert list(first) == REPORT_KEYS.split()
    assert first["offset_ms"] is first["faces"] is first["speech_ratio"] is first["latency_ms"] is None


def test_a_slow_consumer_drops_and_counts_and_does_not_fall_behind() -> None:
    collector = Collector(lambda: time.sleep(1.5))
    daemon(collector, report_every_s=0.5, window_s=1.0, search_ms=100, stalled_after_s=1).run(
        [Recording(talking_items()).feed()], realtime=True
    )
    last = collector.reports[-1]
    assert last.video_dropped > 10 and last.audio_dropped > 20
    assert "overloaded" in collector.faults
    # Three times too slow: 16 reports would be 16 s late. The queue holds 2 s, and what is 4 s old is not said.
    assert len(collector.reports) < 10
    latest_ms = 4000 + 1000 * SLACK_S
    assert all(report.latency_ms is not None and report.latency_ms < latest_ms for report in collector.reports)


def test_at_real_time_pace_nothing_is_dropped_and_latency_is_reported() -> None:
    items = [item for item in talking_items() if item.t_ns < 4.5 * NS_PER_S]
    settings = MeasureSettings(report_every_s=0.5, window_s=1.0, search_ms=100)
    collector = Collector()
    with SimClock() as clock, clock.taking_part():
        begun_ns = clock.now_ns()
        target = Daemon(load_bundle(tiny_bundle()), require_face_model(), settings, collector, clock=clock)
        target.run([Recording(items).feed()], realtime=True)
        assert clock.now_ns() - begun_ns == pytest.approx(items[-1].t_ns, abs=NS_PER_S // 50)
    assert collector.reports[-1].video_dropped == collector.reports[-1].audio_dropped == 0
    # Two blocks of lips, 320 ms each, wait for two more that compete with them: longer than for so little sound.
    assert all(report.latency_ms is not None and 0 <= report.latency_ms < 1300 for report in collector.reports)


# Live


def test_live_there_is_a_report_each_second_once_both_sources_are_open() -> None:
    with live() as on:
        on.clock.sleep(20)
    times_s = [report.uptime_s for report in on.collector.reports]
    # This bundle's evidence comes each 0.4 s, and each second report right after some.
    assert 16 <= len(times_s) <= 26
    assert all(b - a == pytest.approx(1.0, abs=0.3) for a, b in pairwise(times_s))
    assert State.MEASURING in on.collector.states and on.collector.faults == [None]
    assert set(on.collector.times_s) == {None}
    measuring = [report for report in on.collector.reports if report.state is State.MEASURING]
    assert all(report.latency_ms is not None and 0 < report.latency_ms < 700 for report in measuring)


def test_nothing_is_said_before_it_is_known_whether_the_sources_work() -> None:
    def slow(clock: SimClock) -> list[Callable[[], Tape] | Exception]:
        def make() -> Tape:
            clock.sleep(3)
            return Tape(clock, talk(Frame, clock.now_ns()))

        return [make]

    with live(slow) as on:
        on.clock.sleep(2.9)
        assert on.collector.reports == []
        on.clock.sleep(2)
        assert on.collector.reports and on.collector.faults == [None]


@pytest.mark.parametrize("part", ["camera", "microphone"])
def test_a_lost_source_is_named_at_once_and_no_number_is_given_until_it_is_back(part: str) -> None:
    kind = Frame if part == "camera" else Chunk
    broken = after(talking(kind, LOST, for_s=8), MISSING, MISSING, MISSING, talking(kind))
    camera, microphone = (broken, MICROPHONE) if part == "camera" else (CAMERA, broken)
    with live(camera, microphone) as on:
        on.clock.sleep(7.5)
        count = len(on.collector.reports)
        on.clock.sleep(12)
    before, reports = on.collector.reports[:count], on.collector.reports[count:]
    assert any(report.offset_ms is not None for report in before)
    named = [report for report in reports if report.fault]
    assert {report.fault for report in named} == {f"{part}_lost", f"{part}_missing"}
    assert {report.state for report in named} == {State.STALLED} and {report.offset_ms for report in named} == {None}
    assert 7.9 < named[0].uptime_s < 8.3 and len(named) >= 3, "named at once, and again each second"
    back = [report for report in reports if report.uptime_s > named[-1].uptime_s]
    assert next(r.uptime_s for r in back if r.offset_ms is not None) - named[-1].uptime_s < 6


def test_evidence_from_before_a_fault_is_not_used_after_it() -> None:
    """A long window would hold plenty of it."""
    broken = after(talking(Frame, LOST, for_s=16), CAMERA)
    settings = MeasureSettings(window_s=8, search_ms=300)
    with live(broken, settings=settings, bundle=load_bundle(tiny_bundle())) as on:
        on.clock.sleep(22)
    states = [report.state for report in on.collector.reports if report.fault is None]
    full = states.index(State.UNCERTAIN)
    assert set(states[:full]) == {State.STARTING} and State.STARTING not in states[full : full + 4]
    assert states[-3:] == [State.STARTING] * 3, "the window fills anew"


def test_both_sources_may_fail_and_the_camera_is_reported_of_first() -> None:
    with live(lambda clock: [MISSING], lambda clock: [MISSING]) as on:
        on.clock.sleep(30)
    assert on.collector.faults in (["camera_missing"], ["microphone_missing", "camera_missing"])
    assert on.collector.reports[-1].faults == ("camera_missing", "microphone_missing")
    assert on.collector.states == {State.STALLED}
    assert 28 <= len(on.collector.reports) <= 34


def test_a_computer_that_slept_forgets_and_says_so() -> None:
    with live() as on:
        on.clock.sleep(10)
        on.asleep[0] = 3600 * NS_PER_S
        on.clock.sleep(10)
    jumped = [report for report in on.collector.reports if report.fault == "clock_jumped"]
    assert jumped and {report.offset_ms for report in jumped} == {None}
    assert 9.9 < jumped[0].uptime_s < 10.5 and jumped[-1].uptime_s < 12.5
    assert State.MEASURING in {report.state for report in on.collector.reports if report.uptime_s > 13}


def test_what_a_source_cannot_mend_is_raised_here() -> None:
    wrong = UsageError("no such device", where="avdrift.toml", remedy="Correct it")
    with SimClock() as clock, clock.taking_part():
        target = Daemon(load_bundle(tiny_bundle()), require_face_model(), RASH, Collector(), clock=clock)
        feeds = [
            Feed("camera", Opener(clock, [wrong])),
            Feed("microphone", Opener(clock, MICROPHONE(clock))),
        ]
        with pytest.raises(UsageError, match="no such device"):
            target.run(feeds)


def test_models_that_fail_are_a_fault_and_tried_again() -> None:
    class Failing:
        """A tower that fails for a while."""

        def __init__(self, model: Any, clock_s: Callable[[], float]) -> None:
            self._model, self._clock_s = model, clock_s
            self.input_shape, self.output_shapes = model.input_shape, model.output_shapes

        def __call__(self, values: Any) -> Any:
            if 8 < self._clock_s() < 14:
                raise RuntimeError("Invoke failed")
            return self._model(values)

    whole = load_bundle(overconfident_bundle())
    now_s = [0.0]
    failing: Any = Failing(whole.lips, lambda: now_s[0])
    with live(bundle=replace(whole, models=whole.models | {"lips": failing})) as on:
        for _ in range(240):
            on.clock.sleep(0.1)
            now_s[0] += 0.1
    assert on.collector.faults == [None, "model_failed", None]
    assert {r.offset_ms for r in on.collector.reports if r.fault} == {None}
    assert State.MEASURING in {report.state for report in on.collector.reports if report.uptime_s > 14}


def stuck(on: Live, *, restarts_help: bool) -> None:
    """From now on the analysis takes what comes and gives nothing, until it is reset or for good."""
    analyzer: Any = on.daemon._core._analyzer
    reset = analyzer.reset

    def mend() -> None:
        reset()
        if restarts_help:
            del analyzer.push, analyzer.reset

    analyzer.push, analyzer.reset = (lambda item: iter(())), mend


def test_a_stalled_analysis_is_a_fault_and_is_restarted() -> None:
    with live() as on:
        on.clock.sleep(8)
        stuck(on, restarts_help=True)
        on.clock.sleep(30)
        assert on.collector.faults == [None, "analysis_stalled", None]
        stalled = [report for report in on.collector.reports if report.state is State.STALLED]
        assert 4 < stalled[-1].uptime_s - stalled[0].uptime_s < 8
        assert on.collector.reports[-1].state in (State.MEASURING, State.UNCERTAIN)
        assert longest_gap_s(on.beats, on.clock.now_ns()) < 5


def test_the_heartbeat_stops_when_a_restarted_analysis_stalls_too() -> None:
    with live() as on:
        on.clock.sleep(8)
        stuck(on, restarts_help=False)
        on.clock.sleep(60)
        assert on.collector.faults == [None, "analysis_stalled"]
        assert (on.clock.now_ns() - on.beats[-1]) / NS_PER_S > 40


def test_a_stalled_analysis_of_a_recording_is_a_fault_and_is_restarted() -> None:
    collector = Collector()
    made = daemon(collector)
    on = Live(cast(Any, None), made, collector, threading.current_thread(), [], [])

    def items() -> Iterator[Item]:
        for turn in range(5):
            if turn == 1:
                stuck(on, restarts_help=True)
            for item in talking_items():
                yield replace(item, t_ns=item.t_ns + turn * 8 * NS_PER_S)

    made.run([RecordingFeed("recording", lambda: Recording(items()))], realtime=False)
    assert collector.faults == [None, "analysis_stalled", None]
    assert collector.reports[-1].state is not State.STALLED


# The heartbeat


def longest_gap_s(beats_ns: list[int], to_ns: int) -> float:
    return max(b - a for a, b in pairwise([*beats_ns, to_ns])) / NS_PER_S


def test_the_heart_beats_through_a_recording_at_real_time_pace_however_long() -> None:
    chunks = [chunk(k * 20 * NS_PER_MS, k) for k in range(50 * 70)]
    items = sorted([*frames(0, 25 * 70), *chunks], key=lambda item: item.t_ns)
    with SimClock() as clock, clock.taking_part():
        beats: list[int] = []
        made = Daemon(
            load_bundle(overconfident_bundle()), require_face_model(), RASH, Collector(), clock=clock,
            heartbeat=lambda: beats.append(clock.now_ns()), asleep_ns=lambda: 0,
        )  # fmt: skip
        thread = clock.start(lambda: made.run([Recording(items).feed()], realtime=True), "daemon")
        clock.sleep(65)
        assert longest_gap_s(beats, clock.now_ns()) < 2
        made.stop()
        thread.join(60)


@pytest.mark.parametrize("camera", [CAMERA, lambda clock: [MISSING], talking(Frame, LOST, for_s=0.5)])
def test_the_heart_beats_while_it_measures_and_while_it_knows_why_it_cannot(camera: Script) -> None:
    with live(camera) as on:
        on.clock.sleep(20)
        assert longest_gap_s(on.beats, on.clock.now_ns()) < 2


def test_the_heart_stops_when_only_a_new_process_can_help() -> None:
    released = threading.Event()

    def hanging(clock: SimClock) -> list[Callable[[], Tape] | Exception]:
        class Hanging(Tape):
            def __iter__(self) -> Iterator[Item]:
                clock.hang(released)
                return iter(())

        return [lambda: Hanging(clock, ()), MISSING]

    with live(hanging) as on:
        on.clock.sleep(ORPHAN_TIMEOUT_S + 10)
        assert longest_gap_s(on.beats, on.clock.now_ns()) < 2
        on.clock.sleep(20)
        assert (on.clock.now_ns() - on.beats[-1]) / NS_PER_S > 10
        assert on.stop() < 2, "a hanging driver does not keep it from ending"
        on.clock.release(released)


def test_the_heart_stops_when_nothing_comes_of_what_the_sources_give() -> None:
    """Models that fail for long may work in a new process."""

    class Broken:
        def __init__(self, model: Any) -> None:
            self.input_shape, self.output_shapes = model.input_shape, model.output_shapes

        def __call__(self, values: Any) -> Any:
            raise RuntimeError("Invoke failed")

    whole = load_bundle(overconfident_bundle())
    broken: Any = Broken(whole.lips)
    with live(bundle=replace(whole, models=whole.models | {"lips": broken})) as on:
        on.clock.sleep(60)
        assert 20 < (on.clock.now_ns() - on.beats[-1]) / NS_PER_S < 40
        assert on.collector.reports[-1].fault == "model_failed"


# Stopping


@pytest.mark.parametrize(
    "camera", [CAMERA, lambda clock: [MISSING], lambda clock: [lambda: Tape(clock, (), silent=True)]]
)
@pytest.mark.parametrize("for_s", [0.0, 0.1, 5.0])
def test_it_stops_within_two_seconds_from_any_state(camera: Script, for_s: float) -> None:
    with live(camera) as on:
        on.clock.sleep(for_s)
        assert on.stop() < 2


def test_it_stops_with_full_queues() -> None:
    with live(slowly=lambda clock: clock.sleep(1.0)) as on:
        on.clock.sleep(20)
        assert on.stop() < 2 + 1


# Too slow


def test_a_slow_analysis_never_falls_behind_for_long_and_loses_of_both() -> None:
    with live(slowly=lambda clock: clock.sleep(3.0), settings=replace(RASH, report_every_s=0.5)) as on:
        on.clock.sleep(60)
    last = on.collector.reports[-1]
    assert last.video_dropped > 200 and last.audio_dropped > 400
    assert last.fault == "overloaded"
    assert all(report.latency_ms is None or report.latency_ms < 9000 for report in on.collector.reports)


# The rig's own offset


RIG = Rig(30.0, 40.0, 1, "the Frame", "the Chunk")


def offsets(found: Live) -> list[tuple[float, float]]:
    return [
        (report.offset_ms, report.offset_std_ms or 0.0)
        for report in found.collector.reports
        if report.offset_ms is not None
    ]


def test_the_offset_of_the_calibrated_rig_is_subtracted_and_its_uncertainty_added() -> None:
    with live() as plain:
        plain.clock.sleep(8)
    with live(rig=RIG) as on:
        on.clock.sleep(8)
    assert [ms for ms, _ in offsets(on)] == pytest.approx([ms - 30 for ms, _ in offsets(plain)], abs=0.11)
    assert [std for _, std in offsets(on)] == pytest.approx([(std**2 + 1600) ** 0.5 for _, std in offsets(plain)], 0.01)
    assert on.collector.infos[-1].bias_ms == 30.0


def test_the_offset_of_another_rig_is_left_alone() -> None:
    with live() as plain:
        plain.clock.sleep(8)
    with live(rig=replace(RIG, camera="another")) as on:
        on.clock.sleep(8)
    assert offsets(on) == offsets(plain) and on.collector.infos[-1].bias_ms is None


# Info and health


def test_info_comes_first_and_again_when_the_devices_are_known() -> None:
    with live() as on:
        on.clock.sleep(5)
    first, last = on.collector.infos[0], on.collector.infos[-1]
    assert (first.camera, first.microphone, first.model) == (None, None, load_bundle(overconfident_bundle()).label)
    assert (last.camera, last.microphone) == ("the Frame", "the Chunk")
    assert len(on.collector.infos) <= 3


def test_health_comes_once_a_minute_and_counts() -> None:
    broken = after(talking(Frame, LOST, for_s=5), CAMERA)
    with live(broken, events_lost=lambda: 7) as on:
        on.clock.sleep(121)
    first, second = on.collector.healths
    assert second.uptime_s - first.uptime_s == pytest.approx(60, abs=0.5)
    assert (first.sources_reopened, first.events_lost, first.load_step) == (1, 7, 0)
    assert second.video_rate_hz == pytest.approx(25, abs=0.3)
    assert second.memory_mb and second.memory_mb > 10 and second.threads >= 3 and second.open_files
