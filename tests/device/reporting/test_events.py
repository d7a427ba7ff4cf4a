"""Events: each change once, with before and after; none from noise, pauses, uncertainty or unknown reports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device.config.settings import EventSettings
from device.records import NO_FAULT, Direction, DriftClass, EventKind, Report, State, Verdict
from device.reporting.events import ABSENT, PRESENT, EventState, Happening, Level, update
from device.standards import PROFILES, Profile, own_profile

SETTINGS = EventSettings(hysteresis_ms=10, min_s=15, absent_s=30)
LIMIT_MS = 90.0  # early, from detectable to unacceptable, in ITU-R BT.1359-1

BLIND = Report(
    schema=1, seq=1, boot_id="b", uptime_s=0.0, t_unix_ms=0, clock_synced=None, state=State.NO_FACE, offset_ms=None,
    offset_std_ms=None, direction=None, confidence=None, drift_ppm=None, drift_std_ppm=None,
    drift_class=DriftClass.UNKNOWN, step_ms=None, verdict=Verdict.UNKNOWN, profile="itu-r-bt1359", window_s=5.0,
    faces=0, speech_ratio=None, model="one", video_dropped=0, audio_dropped=0, latency_ms=None,
)  # fmt: skip


def at(offset_ms: float) -> Report:
    return replace(
        BLIND, state=State.MEASURING, offset_ms=offset_ms, offset_std_ms=4.0, direction=Direction.AUDIO_EARLY,
        confidence=0.99, verdict=Verdict.DETECTABLE, faces=1, speech_ratio=0.9,
    )  # fmt: skip


def in_state(state: State) -> Report:
    return replace(BLIND, state=state)


UNSURE, SILENT, STALLED = in_state(State.UNCERTAIN), in_state(State.NO_SPEECH), in_state(State.STALLED)


def told(
    reports: Iterable[Report], every_s: float = 1.0, rules: EventSettings = SETTINGS, begin_s: float = 0.0
) -> list[tuple[float, Happening]]:
    """The events of reports that come at a steady pace, with the time of the report that decided each."""
    state, events = EventState(), []
    for number, report in enumerate(reports):
        t_s = begin_s + number * every_s
        state, now = update(state, replace(report, uptime_s=t_s), rules)
        events += [(t_s, event) for event in now]
    return events


def of(kind: EventKind, events: Sequence[tuple[float, Happening]]) -> list[tuple[float, object, object]]:
    return [(t_s, event.before, event.after) for t_s, event in events if event.kind is kind]


def crossings(reports: Iterable[Report], rules: EventSettings = SETTINGS) -> list[tuple[object, object]]:
    return [(before, after) for _, before, after in of(EventKind.VERDICT, told(reports, rules=rules))]


# Crossings


def test_a_lasting_crossing_is_reported_once_when_it_has_lasted() -> None:
    events = told([at(0)] * 30 + [at(60)] * 600)
    assert of(EventKind.VERDICT, events) == [(45.0, "in_sync", "detectable")]
    assert events[0][1].about == "The verdict went from in sync to detectable at +60 ms, audio early (itu-r-bt1359)"
    assert len(events) == 1


def test_there_and_back_are_two_events() -> None:
    reports = [at(0)] * 30 + [at(200)] * 60 + [at(0)] * 60
    assert crossings(reports) == [("in_sync", "unacceptable"), ("unacceptable", "in_sync")]


@pytest.mark.parametrize("seconds", [1, 5, 14])
def test_a_short_excursion_is_none(seconds: int) -> None:
    assert crossings([at(0)] * 30 + [at(200)] * seconds + [at(0)] * 30 + [at(200)] * seconds + [at(0)]) == []


@pytest.mark.parametrize(("offset_ms", "crossed"), [(45, False), (54.9, False), (55.1, True), (-134.9, False)])
def test_the_hysteresis_lies_beyond_the_limit(offset_ms: float, crossed: bool) -> None:
    assert bool(crossings([at(0)] * 30 + [at(offset_ms)] * 60)) is crossed


@pytest.mark.parametrize(("offset_ms", "crossed"), [(44, False), (35.1, False), (34.9, True), (-114.9, True)])
def test_and_on_the_other_side_of_it_on_the_way_back(offset_ms: float, crossed: bool) -> None:
    reports = [at(60)] * 30 + [at(offset_ms)] * 60
    assert crossings(reports) == [("unknown", "detectable"), *([("detectable", "in_sync")] if crossed else [])]


def test_what_is_right_from_the_start_is_no_news_and_what_is_wrong_is() -> None:
    assert crossings([at(0)] * 60) == []
    assert crossings([at(300)] * 60) == [("unknown", "unacceptable")]


def test_without_hysteresis_and_duration_every_other_verdict_is_an_event() -> None:
    rash = EventSettings(hysteresis_ms=0, min_s=0, absent_s=1)
    assert len(crossings([at(0), at(46), at(45), at(91), at(90), at(-186)], rules=rash)) == 5


def test_from_one_side_to_the_other_the_verdict_stays_and_nothing_is_reported() -> None:
    assert crossings([at(200)] * 30 + [at(-300)] * 60) == [("unknown", "unacceptable")]


def test_noise_between_the_two_outer_verdicts_still_says_that_it_left_the_inner_one() -> None:
    wild = [at(LIMIT_MS + (30 if k % 2 else -30)) for k in range(60)]
    assert crossings([at(0)] * 30 + wild) == [("in_sync", "detectable")]


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_can_be_left_and_entered_again_with_the_widest_hysteresis(profile: str) -> None:
    rules = EventSettings(hysteresis_ms=25, min_s=5, absent_s=30)
    middle = -15.0  # of the narrowest
    reports = [replace(at(offset), profile=profile) for offset in [middle] * 20 + [400] * 20 + [middle] * 20]
    assert crossings(reports, rules=rules) == [("in_sync", "unacceptable"), ("unacceptable", "in_sync")]


def test_no_crossing_while_the_limit_lies_within_the_error_bar() -> None:
    """A report that calls itself borderline never leads to an event that is sure."""
    unsure = replace(at(LIMIT_MS + 15), verdict=Verdict.BORDERLINE,
                     verdict_range=(Verdict.DETECTABLE, Verdict.UNACCEPTABLE))  # fmt: skip
    assert crossings([at(0)] * 30 + [unsure] * 60) == [("in_sync", "detectable")]


@pytest.mark.parametrize("limits", [own_profile(5, -5), own_profile(0, 0), own_profile(40, -60)])
def test_own_limits_can_be_left_and_entered_again(limits: Profile) -> None:
    state, found = EventState(), []
    for number, offset_ms in enumerate([0] * 30 + [300] * 30 + [0] * 30):
        report = replace(at(offset_ms), uptime_s=float(number), profile="own")
        state, now = update(state, report, SETTINGS, limits)
        found += [(event.before, event.after) for event in now if event.kind is EventKind.VERDICT]
    assert found == [("in_sync", "unacceptable"), ("unacceptable", "in_sync")]


def test_a_profile_that_nobody_knows_gives_no_verdict() -> None:
    assert crossings([replace(at(0), profile="mine")] * 30 + [replace(at(300), profile="mine")] * 60) == []


# Reports that know nothing


@pytest.mark.parametrize("between", [UNSURE, SILENT, BLIND, STALLED, in_state(State.STARTING)])
def test_doubt_neither_fires_nor_sets_back(between: Report) -> None:
    reports = [at(0)] * 30 + [at(200), between] * 40
    events = told(reports)
    (event,) = of(EventKind.VERDICT, events)
    assert event == (46.0, "in_sync", "unacceptable"), "eight measurements, each of the two seconds before it"
    assert crossings([at(0)] * 30 + [between] * 600) == []


def test_an_hour_of_nothing_adds_no_more_than_one_window() -> None:
    reports = [at(0)] * 30 + [at(200)] * 2 + [BLIND] * 3600 + [at(200)] * 8
    assert crossings(reports) == []
    assert crossings([*reports, *[at(200)] * 8]) == [("in_sync", "unacceptable")]


def test_after_an_hour_of_nothing_the_verdict_of_before_still_holds() -> None:
    assert crossings([at(200)] * 30 + [BLIND] * 3600 + [at(200)] * 60) == [("unknown", "unacceptable")]
    reports = [at(200)] * 30 + [BLIND] * 3600 + [at(0)] * 60
    assert crossings(reports)[1:] == [("unacceptable", "in_sync")]


def test_a_pause_of_the_process_adds_no_more_than_one_window() -> None:
    state = EventState(verdict=Level("in_sync"))
    for t_s in (0.0, 1000.0, 2000.0, 3000.0):
        state, events = update(state, replace(at(200), uptime_s=t_s), SETTINGS)
    assert [event.kind for event in events] == [EventKind.VERDICT], "three windows of 5 s"


# Noise


@pytest.mark.parametrize(("limit_ms", "inside_ms"), [(45, 0), (90, 70), (-125, 0), (-185, -150)])
def test_noise_within_the_hysteresis_gives_nothing_ever(limit_ms: float, inside_ms: float) -> None:
    noise = np.random.default_rng(7).uniform(-9.9, 9.9, 4000)
    assert len(crossings([at(limit_ms + float(by_ms)) for by_ms in noise])) <= 1, "only that it began out of sync"
    held = [at(inside_ms)] * 30
    assert crossings(held + [at(limit_ms + float(by_ms)) for by_ms in noise]) == crossings(held)


def test_the_noise_of_real_reports_on_a_limit_gives_hardly_any() -> None:
    """Windows of 5 s each second share their noise; 8 ms is what the reports say of themselves."""
    independent = np.random.default_rng(3).normal(size=20_004)
    noise_ms = 8 * np.convolve(independent, np.ones(5) / np.sqrt(5), "valid")
    assert len(crossings([at(LIMIT_MS + float(by_ms)) for by_ms in noise_ms], rules=EventSettings())) <= 1


# Face and speech


def test_a_face_that_is_gone_and_comes_back() -> None:
    events = told([at(0)] * 30 + [BLIND] * 60 + [at(0)] * 60)
    assert of(EventKind.FACE, events) == [(60.0, PRESENT, ABSENT), (105.0, ABSENT, PRESENT)]
    assert of(EventKind.SPEECH, events) == [], "without a face nobody looks for speech"
    assert [event.about for _, event in events] == ["The face is gone", "A face is there again"]


def test_a_pause_between_sentences_is_no_event_and_silence_is() -> None:
    talk = [*[at(0)] * 20, *[SILENT] * 25, *[UNSURE] * 3]
    assert told(talk * 20) == []
    events = told([at(0)] * 30 + [SILENT] * 300 + [at(0)] * 30)
    assert of(EventKind.SPEECH, events) == [(60.0, PRESENT, ABSENT), (345.0, ABSENT, PRESENT)]


def test_nobody_there_at_the_start_is_no_event_but_the_first_one_to_come_is() -> None:
    assert told([in_state(State.STARTING)] * 5 + [BLIND] * 600) == []
    assert of(EventKind.FACE, told([BLIND] * 60 + [at(0)] * 60)) == [(75.0, ABSENT, PRESENT)]


def test_a_broken_camera_or_microphone_says_nothing_of_face_and_speech() -> None:
    broken = [replace(BLIND, fault="camera_black"), replace(SILENT, fault="microphone_silent"), STALLED]
    for report in broken:
        events = told([at(0)] * 30 + [report] * 600 + [at(0)] * 60)
        assert {event.kind for _, event in events} <= {EventKind.FAULT}


# Faults, steps, changes


def test_a_fault_begins_at_once_and_ends_for_good() -> None:
    lost = replace(STALLED, fault="camera_lost")
    events = told([at(0)] * 30 + [lost] * 20 + [at(0)] * 5 + [lost] * 5 + [at(0)] * 60)
    assert of(EventKind.FAULT, events) == [(30.0, NO_FAULT, "camera_lost"), (75.0, "camera_lost", NO_FAULT)]
    assert [event.about for _, event in events] == ["The fault camera_lost began", "The fault camera_lost ended"]


def test_one_fault_that_becomes_another() -> None:
    faults = ["camera_lost"] * 3 + ["camera_missing"] * 60
    events = told([replace(STALLED, fault=fault) for fault in faults])
    changes = [(0.0, NO_FAULT, "camera_lost"), (18.0, "camera_lost", "camera_missing")]
    assert of(EventKind.FAULT, events) == changes
    assert events[1][1].about == "The fault camera_lost became camera_missing"


def test_two_faults_in_turn_do_not_flood() -> None:
    faults = [replace(STALLED, fault=fault) for fault in ("camera_black", "microphone_silent")]
    assert len(told(faults * 500)) == 1
    assert len(told([replace(STALLED, fault="overloaded"), at(0)] * 500)) == 1


def test_a_step_is_reported_with_both_levels() -> None:
    reports = [at(80.0)] * 30 + [replace(at(-160.0), step_ms=-241.6)] + [at(-160.0)] * 5
    ((t_s, event),) = [(t_s, event) for t_s, event in told(reports) if event.kind is EventKind.STEP]
    assert (t_s, event.before, event.after) == (30.0, 81.6, -160.0)
    assert event.about == "The offset stepped by -242 ms from +82 to -160 ms"


def test_a_step_whose_levels_are_unknown_has_none() -> None:
    ((_, event),) = told([replace(UNSURE, step_ms=50.0)])
    assert (event.before, event.after, event.about) == (None, None, "The offset stepped by +50 ms")


def test_other_models_and_other_limits_are_reported_at_once() -> None:
    other = replace(at(0), model="two")
    events = told([at(0)] * 5 + [other] * 5 + [replace(other, profile="ebu-r37")] * 5)
    assert of(EventKind.MODEL, events) == [(5.0, "one", "two")]
    assert of(EventKind.PROFILE, events) == [(10.0, "itu-r-bt1359", "ebu-r37")]


def test_under_other_limits_the_same_offset_crosses_them() -> None:
    reports = [at(30)] * 30 + [replace(at(30), profile="atsc-is191")] * 60
    assert of(EventKind.VERDICT, told(reports)) == [(45.0, "in_sync", "unacceptable")]


# Whatever comes

OFFSETS = st.one_of(st.floats(-600, 600), st.sampled_from([0.0, 35.0, 45.0, 55.0, 80.0, 90.0, 100.0, -125.0, -185.0]))
REPORTS = st.one_of(
    OFFSETS.map(at),
    st.sampled_from([BLIND, UNSURE, SILENT, STALLED, in_state(State.STARTING)]),
    st.sampled_from(["camera_lost", "microphone_silent", "overloaded"]).map(
        lambda fault: replace(STALLED, fault=fault)
    ),
    st.tuples(st.sampled_from(list(PROFILES)), OFFSETS).map(lambda both: replace(at(both[1]), profile=both[0])),
)
SERIES = st.lists(st.tuples(REPORTS, st.integers(1, 50)), max_size=40).map(
    lambda runs: [report for report, times in runs for _ in range(times)]
)
RULES = st.builds(
    EventSettings, hysteresis_ms=st.floats(0, 25), min_s=st.floats(0, 60), absent_s=st.floats(1, 120)
)  # fmt: skip
CHAINED = (EventKind.VERDICT, EventKind.FACE, EventKind.SPEECH, EventKind.FAULT, EventKind.PROFILE)


@settings(max_examples=100, derandomize=True)
@given(SERIES, RULES, st.floats(0.2, 60))
def test_each_event_takes_up_where_the_one_before_it_of_its_kind_ended(
    series: list[Report], rules: EventSettings, every_s: float
) -> None:
    events = told(series, every_s=every_s, rules=rules)
    for kind in CHAINED:
        changes = of(kind, events)
        assert all(before != after and before is not None and after is not None for _, before, after in changes)
        for (_, _, was), (_, now, _) in pairwise(changes):
            assert was == now, "so two of a kind in a row are never the same"


@settings(max_examples=60, derandomize=True)
@given(SERIES, st.integers(1, 4))
def test_events_do_not_come_faster_than_they_must_last(series: list[Report], every_s: int) -> None:
    for kind, gap_s in ((EventKind.VERDICT, 15), (EventKind.FACE, 15), (EventKind.SPEECH, 15)):
        times_s = [t_s for t_s, _, _ in of(kind, told(series, every_s=every_s))]
        assert all(later - sooner >= gap_s for sooner, later in pairwise(times_s))


@settings(max_examples=60, derandomize=True)
@given(OFFSETS, OFFSETS, SERIES)
def test_a_level_that_lasts_ends_in_its_own_verdict_whatever_was_before(
    offset_ms: float, other_ms: float, series: list[Report]
) -> None:
    """With no hysteresis, what holds in the end is what the last minute said, told at most once."""
    rules = EventSettings(hysteresis_ms=0, min_s=15, absent_s=30)
    long_after = [*series, *[at(other_ms)] * 60]
    settled = crossings(long_after, rules=rules)
    again = crossings([*long_after, *[at(other_ms)] * 300], rules=rules)
    assert again == settled
    moved = crossings([*long_after, *[at(offset_ms)] * 60], rules=rules)
    assert len(moved) - len(settled) in (0, 1) and moved[: len(settled)] == settled


@settings(max_examples=60, derandomize=True)
@given(SERIES, st.sets(st.integers(0, 2000), max_size=40))
def test_reports_that_know_nothing_put_in_anywhere_change_nothing(series: list[Report], places: set[int]) -> None:
    blank = replace(STALLED, fault=None)
    state, plain, doubtful = EventState(), [], []
    other = EventState()
    for number, report in enumerate(series):
        now = replace(report, uptime_s=float(number))
        state, events = update(state, now, SETTINGS)
        plain += [event for event in events if event.kind is EventKind.VERDICT]
        if number in places:
            other, none = update(other, replace(blank, uptime_s=number - 0.5, profile=now.profile), SETTINGS)
            assert EventKind.VERDICT not in {event.kind for event in none}
        other, events = update(other, now, SETTINGS)
        doubtful += [event for event in events if event.kind is EventKind.VERDICT]
    assert doubtful == plain and (other.verdict, other.face, other.speech) == (state.verdict, state.face, state.speech)


@pytest.mark.parametrize("times_s", [[5.0] * 30, [30.0 - k for k in range(30)], [float(k % 3) for k in range(30)]])
def test_time_that_stands_still_or_goes_back_breaks_nothing(times_s: list[float]) -> None:
    state = EventState()
    events: list[Happening] = []
    for t_s in times_s:
        state, now = update(state, replace(at(200), uptime_s=t_s), SETTINGS)
        events += now
    assert len(events) <= 1
