"""Reports and events in the log: each event, and a limited number of reports."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace

import pytest

from device.config.settings import LogSettings
from device.records import Event, EventKind, Health, Info, Report, State
from device.telemetry.log_sink import LogSink, is_worth_logging
from device.telemetry.report_text import short_text
from tests.device.telemetry.test_report_text import BLIND, MEASURED

EVENT = Event(
    schema=1, seq=7, boot_id="b", uptime_s=9.5, t_unix_ms=1, clock_synced=None, kind=EventKind.VERDICT,
    before="in_sync", after="unacceptable", about="The verdict went from in sync to unacceptable",
)  # fmt: skip
INFO = Info(
    schema=1, version="1.2", model="small 1", model_digest="abc", profile="ebu-r37", camera="imx708", microphone=None,
    bias_ms=12.34, bias_std_ms=2.0,
)  # fmt: skip


def said(reports: Iterable[Report], how: str, every_s: float = 1.0) -> list[int]:
    """The numbers of the reports that are logged."""
    last: Report | None = None
    numbers = []
    for number, given in enumerate(reports):
        report = replace(given, uptime_s=number * every_s)
        if is_worth_logging(report, last, how):
            last = report
            numbers.append(number)
    return numbers


def test_all_and_none() -> None:
    assert said([MEASURED] * 5, "all") == [0, 1, 2, 3, 4]
    assert said([MEASURED, BLIND] * 5, "none") == []


def test_one_a_minute() -> None:
    assert said([MEASURED, BLIND] * 100, "minute") == [0, 60, 120, 180]


def test_changes_say_nothing_while_nothing_changes_but_a_sign_of_life() -> None:
    assert said([MEASURED] * 7300, "changes") == [0, 3600, 7200]
    assert said([BLIND] * 7300, "changes") == [0, 3600, 7200]


def test_changes_are_said_but_not_more_often_than_once_a_minute() -> None:
    assert said([MEASURED] * 100 + [BLIND] * 100, "changes") == [0, 100]
    assert said([MEASURED, BLIND] * 300, "changes") == [0, *range(61, 600, 61)]
    assert said([MEASURED] * 10 + [BLIND] * 100, "changes") == [0, 60]


@pytest.mark.parametrize(
    ("other", "new"),
    [
        (replace(MEASURED, offset_ms=143.0), False),
        (replace(MEASURED, offset_ms=144.0), True),
        (replace(MEASURED, fault="overloaded"), True),
        (replace(BLIND, state=State.UNCERTAIN), True),
        (replace(MEASURED, confidence=0.96, seq=99, faces=2), False),
    ],
)
def test_what_counts_as_a_change(other: Report, new: bool) -> None:
    assert (said([MEASURED] * 100 + [other] * 50, "changes") == [0, 100]) is new


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    return [(record.levelno, record.getMessage()) for record in caplog.records]


def test_reports_are_logged_in_words_with_all_their_fields(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "device"):
        LogSink(LogSettings(reports="all")).report(MEASURED)
    words = "report: +124 ms, audio early, ±4 ms, confidence 0.98, unacceptable"
    assert logged(caplog) == [(logging.INFO, words)]
    assert caplog.records[0].fields == {"report": MEASURED.to_dict()}  # type: ignore[attr-defined]


def test_a_fault_is_named_beside_the_state() -> None:
    assert short_text(BLIND) == "no face"
    assert short_text(replace(BLIND, state=State.STALLED, fault="camera_lost")) == "stalled (camera lost)"


@pytest.mark.parametrize(
    ("event", "level"),
    [
        (EVENT, logging.WARNING),
        (replace(EVENT, before="unacceptable", after="detectable"), logging.INFO),
        (replace(EVENT, kind=EventKind.FAULT, before="none", after="camera_lost"), logging.WARNING),
        (replace(EVENT, kind=EventKind.FAULT, before="camera_lost", after="none"), logging.INFO),
        (replace(EVENT, kind=EventKind.STEP, before=80.0, after=-160.0), logging.INFO),
    ],
)
def test_every_event_is_logged_and_bad_ones_as_warnings(
    caplog: pytest.LogCaptureFixture, event: Event, level: int
) -> None:
    sink = LogSink(LogSettings(reports="none"))
    with caplog.at_level(logging.INFO, "device"):
        sink.event(event)
        sink.event(event)
    assert logged(caplog) == [(level, f"event: {EVENT.about}")] * 2
    assert caplog.records[0].fields == {"event": event.to_dict()}  # type: ignore[attr-defined]


def test_what_is_running_is_logged_and_health_only_for_those_who_search(caplog: pytest.LogCaptureFixture) -> None:
    sink = LogSink(LogSettings())
    health = Health(
        schema=1, boot_id="b", uptime_s=1.0, t_unix_ms=1, clock_synced=None, cpu_ratio=None, memory_mb=None, threads=1,
        open_files=None, temperature_c=None, undervoltage=None, disk_free_mb=None, video_rate_hz=None,
        microphone_ppm=None, video_dropped=0, audio_dropped=0, sources_reopened=0, events_lost=0, load_step=0,
    )  # fmt: skip
    with caplog.at_level(logging.INFO, "device"):
        sink.info(INFO)
        sink.health(health)
        sink.info(INFO)
        sink.info(replace(INFO, microphone="USB", bias_ms=None))
    assert logged(caplog) == [
        (logging.INFO, "avdrift 1.2, models small 1, limits ebu-r37, camera imx708, bias +12.3 ms subtracted"),
        (logging.INFO, "avdrift 1.2, models small 1, limits ebu-r37, camera imx708, microphone USB"),
    ]


def test_other_settings_hold_from_the_next_report_on(caplog: pytest.LogCaptureFixture) -> None:
    sink = LogSink(LogSettings(reports="none"))
    with caplog.at_level(logging.INFO, "device"):
        sink.report(MEASURED)
        sink.apply_settings(LogSettings(reports="all"))
        sink.report(MEASURED)
        sink.close()
    assert [message for _, message in logged(caplog)][1:] == ["measuring has stopped"]
