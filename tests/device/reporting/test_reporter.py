"""Reports: the documented schema, and nothing unknown reported as known."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest

from device.analysis.offset_tracker import WindowResult
from device.records import NS_PER_MS, NS_PER_S, Estimate, Report, State
from device.reporting.reporter import Reporter
from device.standards import own_profile
from device.state.rig import Rig
from device.sync.step_detector import DetectedStep
from tests.scenes import REPORT_KEYS
from tests.scripted.simclock import SimClock


def result(state: State, offset_ms: float = 123.456, confidence: float = 0.98765) -> WindowResult:
    best = Estimate(offset_ms=offset_ms, offset_std_ms=4.321, confidence=confidence, at_edge=False)
    return WindowResult(0, 5 * NS_PER_S, state, best, 0.51234, level=best)


RIG = Rig(bias_ms=-40.0, bias_std_ms=3.0, made_unix_ms=1, camera="a", microphone="b")


def reporter(profile: str = "itu-r-bt1359") -> Reporter:
    return Reporter("tiny 1 abc", profile, 5.0)


def test_keys_are_the_documented_ones_in_their_order() -> None:
    for report in (reporter().report(result(State.MEASURING)), reporter().report(None)):
        assert list(report.to_dict()) == REPORT_KEYS.split()


def test_a_measurement_says_everything() -> None:
    report = reporter().report(result(State.MEASURING), faces=2, video_dropped=3, audio_dropped=4)
    assert (report.offset_ms, report.offset_std_ms, report.confidence) == (123.5, 4.3, 0.9877)
    assert (report.direction, report.verdict) == ("audio_early", "unacceptable")
    assert (report.faces, report.speech_ratio, report.video_dropped, report.audio_dropped) == (2, 0.512, 3, 4)
    assert (report.model, report.profile, report.window_s) == ("tiny 1 abc", "itu-r-bt1359", 5.0)


@pytest.mark.parametrize(
    ("offset_ms", "direction", "verdict"),
    [(60.0, "audio_early", "detectable"), (-60.0, "audio_late", "in_sync"), (-20.0, "in_sync", "in_sync"),
     (-186.0, "audio_late", "borderline"), (-190.0, "audio_late", "unacceptable")],
)  # fmt: skip
def test_positive_is_audio_early(offset_ms: float, direction: str, verdict: str) -> None:
    report = reporter().report(result(State.MEASURING, offset_ms))
    assert (report.direction, report.verdict) == (direction, verdict)


def test_limits_within_the_error_bar_make_it_borderline_and_zero_is_uncertain_unless_the_rig_is_known() -> None:
    maker = reporter()
    maker.zero_std_ms = 8.9
    report = maker.report(result(State.MEASURING, 80.5))  # ±4.3, and ±9.9 with the doubt about zero
    assert (report.verdict, report.verdict_range) == ("borderline", ("detectable", "unacceptable"))
    maker.rig = replace(RIG, bias_ms=0.0)
    report = maker.report(result(State.MEASURING, 80.5))
    assert (report.verdict, report.verdict_range) == ("detectable", ("detectable", "detectable"))
    assert maker.report(None).verdict_range is None


def test_the_profile_own_has_limits_of_its_own() -> None:
    maker = reporter("own")
    maker.own_limits = own_profile(10.0, -10.0)
    report = maker.report(result(State.MEASURING, 15.0))
    assert (report.verdict, report.direction) == ("unacceptable", "audio_early")


def test_the_profile_decides_the_verdict() -> None:
    assert reporter("atsc-is191").report(result(State.MEASURING, 30.0)).verdict == "unacceptable"
    assert reporter("itu-r-bt1359").report(result(State.MEASURING, 30.0)).verdict == "in_sync"


@pytest.mark.parametrize("state", [state for state in State if state is not State.MEASURING])
def test_an_offset_is_a_number_only_while_measuring(state: State) -> None:
    given = reporter().report(result(state))
    overridden = reporter().report(result(State.MEASURING), state=state)
    for report in (given, overridden):
        assert report.state is state
        assert {report.offset_ms, report.offset_std_ms, report.direction} == {None}
        assert report.verdict == "unknown"
        assert (report.confidence is not None) == (state is State.UNCERTAIN)


def unknown(report: Report) -> set[str]:
    return {key for key, value in report.to_dict().items() if value is None}


def test_unknown_is_null_and_never_0() -> None:
    report = reporter().report(None)
    assert report.state is State.STARTING
    assert unknown(report) >= {
        "offset_ms", "offset_std_ms", "direction", "confidence", "drift_ppm", "drift_std_ppm", "step_ms", "faces",
        "speech_ratio", "latency_ms",
    }  # fmt: skip
    assert report.clock_synced in (True, False, None)


def test_not_yet_measured_drift_and_steps_are_null_in_a_measurement_too() -> None:
    assert unknown(reporter().report(result(State.MEASURING))) >= {"drift_ppm", "drift_std_ppm", "step_ms"}


def test_reports_are_numbered_and_placed_in_time() -> None:
    maker = reporter()
    before_ms = time.time_ns() // 1_000_000
    reports = [maker.report(None) for _ in range(3)]
    assert [report.seq for report in reports] == [1, 2, 3]
    assert before_ms <= reports[0].t_unix_ms <= reports[2].t_unix_ms <= time.time_ns() // 1_000_000 + 1
    assert 0 <= reports[0].uptime_s <= reports[2].uptime_s < 10
    assert len({report.boot_id for report in reports}) == 1 and reports[0].boot_id


def test_latency_is_from_capture_to_report() -> None:
    captured_ns = time.monotonic_ns() - 1_500_000_000
    report = reporter().report(result(State.MEASURING), captured_ns=captured_ns)
    assert report.latency_ms is not None and 1500 <= report.latency_ms < 3000


def test_reports_survive_json() -> None:
    for state in State:
        found = json.loads(json.dumps(reporter().report(result(state)).to_dict(), allow_nan=False))
        assert found["state"] == state.value


def told(maker: Reporter, t_s: int, offset_ms: float, state: State = State.MEASURING) -> Report:
    return maker.report(replace(result(state, offset_ms), from_ns=(t_s - 5) * NS_PER_S, to_ns=t_s * NS_PER_S))


def test_a_step_is_in_one_report_only() -> None:
    maker = reporter()
    reports = [told(maker, 10 + k, 80.0 if k < 20 else -160.0) for k in range(40)]
    assert [report.step_ms for report in reports if report.step_ms is not None] == [-240.0]
    assert [report.drift_class for report in (reports[0], reports[-1])] == ["unknown", "stepped"]


def test_a_step_in_the_evidence_is_reported_and_starts_again() -> None:
    maker = reporter()
    assert not maker.has_level(10 * NS_PER_S)
    reports = [told(maker, 10 + k, 80.0) for k in range(30)]
    assert maker.has_level(40 * NS_PER_S) and not maker.has_level(70 * NS_PER_S)
    after = replace(result(State.MEASURING, -20.0), from_ns=38 * NS_PER_S, to_ns=40 * NS_PER_S)
    report = maker.report(after, step=DetectedStep(38 * NS_PER_S, -99.96))
    assert (report.step_ms, report.drift_class) == (-100.0, "stepped") and reports[-1].drift_class == "unknown"
    assert [told(maker, 41 + k, -20.0).step_ms for k in range(60)] == [None] * 60, "nobody is told twice"


def test_drift_is_in_every_report_once_it_is_known() -> None:
    maker = reporter()
    reports = [told(maker, 10 + k, 80.0 + 0.1 * k) for k in range(300)]
    assert (reports[100].drift_class, reports[-1].drift_class) == ("unknown", "drifting")
    assert reports[100].drift_ppm is reports[100].drift_std_ppm is None
    assert reports[-1].drift_ppm == pytest.approx(100, abs=1) and reports[-1].drift_std_ppm
    blind = (told(maker, 320, 0.0, State.NO_FACE), maker.report(None, state=State.STALLED))
    assert {report.drift_ppm for report in blind} == {reports[-1].drift_ppm}
    assert told(maker, 2000, 0.0, State.NO_FACE).drift_ppm is None, "of half an hour ago"


def test_uncertain_reports_contribute_neither_to_drift_nor_to_steps() -> None:
    maker = reporter()
    for k in range(20):
        told(maker, 10 + k, 80.0)
    unsure = [told(maker, 30 + k, -400.0, State.UNCERTAIN) for k in range(20)]
    overridden = [
        maker.report(replace(result(State.MEASURING, -400.0), to_ns=(50 + k) * NS_PER_S), state=State.STARTING)
        for k in range(20)
    ]
    after = [told(maker, 70 + k, 80.0) for k in range(20)]
    assert {report.step_ms for report in (*unsure, *overridden, *after)} == {None}


def test_time_that_stands_still_or_goes_back_breaks_nothing() -> None:
    maker = reporter()
    reports = [told(maker, t_s, 80.0) for t_s in (10, 11, 11, 11, 9, 10, 5000, 5000, 5001)]
    assert {report.state for report in reports} == {State.MEASURING}
    assert {report.step_ms for report in reports} == {report.drift_ppm for report in reports} == {None}


# The rig's own offset, faults, and what may change on the way


def test_the_rigs_own_offset_is_subtracted_before_anything_else() -> None:
    maker = reporter()
    maker.rig = RIG
    report = maker.report(result(State.MEASURING, 10.0))
    assert (report.offset_ms, report.direction, report.verdict) == (50.0, "audio_early", "borderline")
    assert report.offset_std_ms == 5.3, "4.321 and 3 together"


def test_another_rig_is_no_step_of_the_stream() -> None:
    maker = reporter()
    for k in range(20):
        told(maker, 10 + k, 80.0)
    maker.rig = replace(RIG, bias_ms=200.0)
    assert {told(maker, 30 + k, 80.0).step_ms for k in range(20)} == {None}


def test_a_fault_is_carried() -> None:
    report = reporter().report(None, state=State.STALLED, faults=["camera_lost", "microphone_lost"])
    assert (report.fault, report.faults) == ("camera_lost", ("camera_lost", "microphone_lost"))
    assert reporter().report(result(State.MEASURING)).fault is None


def test_profile_and_model_may_change_from_one_report_to_the_next() -> None:
    maker = reporter("itu-r-bt1359")
    assert maker.report(result(State.MEASURING, 30.0)).verdict == "in_sync"
    maker.profile, maker.model = "atsc-is191", "tiny 2 def"
    report = maker.report(result(State.MEASURING, 30.0))
    assert (report.verdict, report.profile, report.model) == ("unacceptable", "atsc-is191", "tiny 2 def")


def test_drift_can_be_forgotten() -> None:
    maker = reporter()
    for k in range(300):
        told(maker, 10 + k, 80.0 + 0.1 * k)
    assert told(maker, 310, 110.0).drift_ppm is not None
    maker.forget_drift()
    assert told(maker, 311, 110.0).drift_ppm is None


def test_uptime_and_latency_are_on_the_given_clock() -> None:
    with SimClock() as clock, clock.taking_part():
        maker = Reporter("tiny 1 abc", "itu-r-bt1359", 5.0, clock)
        clock.sleep(100)
        report = maker.report(result(State.MEASURING), captured_ns=clock.now_ns() - 250 * NS_PER_MS)
    assert (report.uptime_s, report.latency_ms) == (100.0, 250)
