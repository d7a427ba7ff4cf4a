"""Each of the forty faults through the whole daemon, with the real models, on simulated time; and what must not be."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from random import Random

import pytest

from device.errors import DeviceMissingError
from device.records import NS_PER_MS, NS_PER_S, Chunk, State
from tests.scripted.faults import FAULTS, Fault, World, both, gone, hanging_closing, sounding
from tests.scripted.simclock import START_NS
from tests.scripted.sources import TRUTH_MS, Item, scene
from tests.scripted.stage import (
    NAMED_WITHIN_S,
    RECOVERED_WITHIN_S,
    RIGHT_WITHIN_MS,
    STOPPED_WITHIN_S,
    Outcome,
    Stage,
    stage,
)

BY_NAME = {fault.name: fault for fault in FAULTS}


def numbers_ms(running: Stage[World]) -> list[float]:
    return [report.offset_ms for _, report in running.sink.reports if report.offset_ms is not None]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault(fault: Fault) -> None:
    """Named, never a number that must not be, measured again; and a stop in the middle of it is a clean one."""
    with stage(seed=FAULTS.index(fault) + 7) as running:
        outcome = running.suffer(fault)
        assert outcome.problems(fault) == []
        fault.begin(running.world)
        running.clock.sleep(running.world.rng.uniform(0, 6))
        assert running.stop() < STOPPED_WITHIN_S


# What the check is made of


GOOD = Outcome("x", "camera_lost", 0.5, 3.0, 0, 0, None, 0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"named_s": None}, "not named"),
        ({"numbers_meanwhile": 2}, "2 numbers while it lasted"),
        ({"wrong_numbers": 1, "latest_wrong_ms": 300.0}, "1 wrong numbers, the last 300.0 ms"),
        ({"recovered_s": None}, "not measuring"),
        ({"false_steps": 1}, "1 steps"),
    ],
)
def test_each_failure_is_seen(change: dict[str, float | None], words: str) -> None:
    fault = BY_NAME["camera stalls"]
    assert GOOD.problems(fault) == []
    (problem,) = Outcome(**{**GOOD.to_dict(), **change}).problems(fault)
    assert problem.startswith(words)


def test_numbers_may_go_on_where_a_fault_leaves_them_right() -> None:
    fault = BY_NAME["camera's times jitter"]
    assert Outcome("x", None, None, 0.5, 7, 0, None, 0).problems(fault) == []


def test_an_unnamed_fault_and_a_false_offset_are_caught_on_the_stage_itself() -> None:
    """A device that is wrong in a way of which nobody can know: sound moved by 0.3 s, with true-looking times."""

    def begin(world: World) -> None:
        true = world.microphone.make
        world.microphone.make = lambda number: moved(*true(number))

    def moved(ready_ns: int, item: Item) -> tuple[int, Item]:
        assert isinstance(item, Chunk)
        return ready_ns, replace(item, samples=scene().samples(item.t_ns - 300 * NS_PER_MS, len(item.samples)))

    fault = Fault("moved", begin, frozenset({"microphone_lost"}))
    with stage(seed=1) as running:
        running.suffer(fault)
        outcome = running.suffer(BY_NAME["wall clock steps"])
    assert outcome.wrong_numbers > 0
    assert outcome.latest_wrong_ms == pytest.approx(TRUTH_MS - 300, abs=RIGHT_WITHIN_MS)


# More than one fault, or longer


def test_without_faults_it_measures_the_truth_all_the_time() -> None:
    with stage(seed=2) as running:
        running.clock.sleep(40)
        reports = [report for _, report in running.sink.reports]
    assert {report.fault for report in reports} == {None}
    measured = [report for report in reports if report.state is State.MEASURING]
    assert len(measured) >= 30
    assert all(abs(number - TRUTH_MS) < RIGHT_WITHIN_MS for number in numbers_ms(running))
    assert all(report.step_ms is None for report in reports)
    assert all(report.latency_ms is not None and report.latency_ms < 4000 for report in measured)
    assert measured[-1].video_dropped == measured[-1].audio_dropped == 0


def test_faults_that_overlap_in_any_way_leave_no_wrong_number_behind() -> None:
    rng = Random(5)
    with stage(seed=5) as running:
        for _ in range(12):
            for fault in rng.sample(FAULTS, 2):
                running.clock.sleep(rng.uniform(0, 3))
                fault.begin(running.world)
            running.clock.sleep(rng.uniform(0, 4))
            running.world.calm()
            running.clock.sleep(rng.uniform(0, 4))
        assert running.wait_measuring(RECOVERED_WITHIN_S) is not None
    assert all(abs(number - TRUTH_MS) < RIGHT_WITHIN_MS for number in numbers_ms(running))


@pytest.mark.parametrize("name", ["computer suspended", "processor too slow", "camera freezes"])
def test_clipped_sound_hides_no_fault_that_matters_more(name: str) -> None:
    fault = BY_NAME[name]
    with stage(seed=13) as running:
        running.wait_measuring()
        BY_NAME["microphone clips"].begin(running.world)
        running.clock.sleep(2)
        assert running.sink.reports[-1][1].fault == "microphone_clipped"
        outcome = running.suffer(fault)
    assert outcome.word in fault.words


def test_a_source_that_is_away_for_an_hour_is_measured_again_soon_after_it_is_back() -> None:
    with stage(seed=3) as running:
        running.wait_measuring()
        both(gone(DeviceMissingError))(running.world)
        running.clock.sleep(3600)
        lately = [report for t_ns, report in running.sink.reports if t_ns > running.clock.now_ns() - 60 * NS_PER_S]
        assert len(lately) >= 55, "it goes on saying so"
        assert {report.fault for report in lately} <= {"camera_missing", "microphone_missing"}
        beats = sum(t_ns > running.clock.now_ns() - 60 * NS_PER_S for t_ns in running.beats_ns)
        assert beats >= 20, "and it is well: nobody needs to restart it"
        opened = running.world.camera.opened
        running.world.calm()
        assert running.wait_measuring(RECOVERED_WITHIN_S) is not None
        assert running.world.camera.opened == opened + 1


def test_a_thread_that_never_comes_back_from_its_driver_stops_the_heartbeat() -> None:
    with stage(seed=4) as running:
        running.wait_measuring()
        running.world.camera.begin(hanging_closing(running.world.rng))
        running.clock.sleep(120)
        assert running.beats_ns[-1] < running.clock.now_ns() - 10 * NS_PER_S, "so that systemd restarts it"
        assert running.sink.reports[-1][1].fault in ("camera_stalled", "camera_busy")
        assert running.stop() < STOPPED_WITHIN_S


@pytest.mark.parametrize("name", ["camera stalls", "camera hangs", "microphone hangs", "microphone's times are zero"])
def test_a_source_that_gives_nothing_ends_the_numbers_before_it_is_named(name: str) -> None:
    fault, begun_ns = BY_NAME[name], 0
    with stage(seed=11) as running:
        running.wait_measuring()
        begun_ns = running.clock.now_ns()
        fault.begin(running.world)
        running.clock.sleep(NAMED_WITHIN_S)
        meanwhile = [(t_ns, r) for t_ns, r in running.sink.reports if t_ns > begun_ns + 1.1 * NS_PER_S]
    assert all(report.offset_ms is None for _, report in meanwhile)
    assert {report.fault for _, report in meanwhile} & fault.words


@pytest.mark.parametrize("name", ["camera hangs", "camera hangs, and when closed", "microphone hangs when opened"])
def test_what_hangs_for_long_and_comes_back_is_measured_again(name: str) -> None:
    fault = BY_NAME[name]
    with stage(seed=10) as running:
        running.wait_measuring()
        fault.begin(running.world)
        running.clock.sleep(25)
        begun_ns = running.clock.now_ns() - 20 * NS_PER_S
        assert all(r.offset_ms is None and r.fault for t_ns, r in running.sink.reports if t_ns > begun_ns)
        running.world.calm()
        assert running.wait_measuring(RECOVERED_WITHIN_S) is not None


@pytest.mark.parametrize("part", ["camera", "microphone"])
def test_a_device_that_is_not_there_at_the_start_is_named_and_waited_for(part: str) -> None:
    def take_away(world: World) -> None:
        device = world.camera if part == "camera" else world.microphone
        device.begin(gone(DeviceMissingError)(world.rng))

    with stage(seed=12, prepare=take_away) as running:
        found = running.wait_for(lambda report: report.fault is not None, START_NS, NAMED_WITHIN_S)
        assert found is not None and found[1].fault == f"{part}_missing"
        running.clock.sleep(30)
        assert numbers_ms(running) == []
        running.world.calm()
        assert running.wait_measuring(RECOVERED_WITHIN_S) is not None


def test_the_heart_beats_while_nobody_is_there_or_nobody_speaks() -> None:
    with stage(seed=6) as running:
        running.wait_measuring()
        quiet = sounding(gain=1e-3)
        running.world.microphone.begin(quiet(running.world.rng))
        running.clock.sleep(40)
        assert running.beats_ns[-1] > running.clock.now_ns() - NS_PER_S
        assert running.sink.reports[-1][1].state in (State.NO_SPEECH, State.UNCERTAIN)


def test_a_wall_clock_that_steps_moves_nothing_but_the_wall_time() -> None:
    with stage(seed=8) as running:
        running.wait_measuring()
        BY_NAME["wall clock steps"].begin(running.world)
        step_ms = running.world.wall_step_ns // NS_PER_MS
        before = running.sink.reports[-1][1]
        running.clock.sleep(5)
        after = running.sink.reports[-1][1]
    assert after.t_unix_ms - before.t_unix_ms == pytest.approx(step_ms, abs=60_000)
    assert 0 < after.uptime_s - before.uptime_s < 7
    assert all(abs(number - TRUTH_MS) < RIGHT_WITHIN_MS for number in numbers_ms(running))


def test_forty_faults_leave_no_thread_behind() -> None:
    with stage(seed=1) as running:
        running.wait_measuring()  # whatever is made only once is made now
    before = threading.active_count()
    with stage(seed=9) as running:
        for fault in FAULTS[::4]:
            fault.begin(running.world)
            running.clock.sleep(NAMED_WITHIN_S)
            running.world.calm()
            running.clock.sleep(1)
    time.sleep(0.1)
    assert threading.active_count() <= before
