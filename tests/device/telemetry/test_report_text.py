"""Reports as text: JSON for programs, a line for people, and the summary of a run."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from device.records import Direction, DriftClass, Report, State, Verdict
from device.standards import direction
from device.telemetry.report_text import Summary, as_json, as_text
from tests.scenes import REPORT_KEYS

MEASURED = Report(
    schema=1, seq=7, boot_id="b", uptime_s=9.5, t_unix_ms=1_700_000_000_000, clock_synced=None, state=State.MEASURING,
    offset_ms=123.5, offset_std_ms=4.2, direction=Direction.AUDIO_EARLY, confidence=0.98, drift_ppm=None,
    drift_std_ppm=None, drift_class=DriftClass.UNKNOWN, step_ms=None, verdict=Verdict.UNACCEPTABLE,
    profile="itu-r-bt1359", window_s=5.0, faces=1, speech_ratio=0.9, model="tiny 0 abc", video_dropped=0,
    audio_dropped=0, latency_ms=None,
)  # fmt: skip
BLIND = replace(
    MEASURED, state=State.NO_FACE, offset_ms=None, offset_std_ms=None, direction=None, confidence=None,
    verdict=Verdict.UNKNOWN, faces=0,
)  # fmt: skip


def measured(offset_ms: float) -> Report:
    return replace(MEASURED, offset_ms=offset_ms, direction=direction(offset_ms))


def summary_of(*entries: tuple[Report, float | None]) -> str:
    summary = Summary()
    for report, t_s in entries:
        summary.add(report, t_s)
    return "\n".join(summary.lines()) + "\n"


def test_json_is_one_line_with_every_key() -> None:
    line = as_json(MEASURED)
    assert "\n" not in line
    assert list(json.loads(line)) == REPORT_KEYS.split()
    assert json.loads(line)["direction"] == "audio_early"
    assert json.loads(as_json(BLIND))["offset_ms"] is None


def test_json_of_a_recording_carries_the_place_in_it() -> None:
    assert json.loads(as_json(measured(5.0), 12.3456))["t_s"] == 12.346


def test_json_without_nan() -> None:
    with pytest.raises(ValueError, match="JSON"):
        as_json(measured(float("nan")))


def test_text_carries_the_word_beside_the_number() -> None:
    assert as_text(MEASURED, 12.0) == ("    0:12.0     +124 ms  audio early  ±4 ms  confidence 0.98  unacceptable")
    late = replace(measured(-80.0), direction=Direction.AUDIO_LATE, verdict=Verdict.IN_SYNC)
    assert "-80 ms  audio late" in as_text(late, None) and "in sync" in as_text(late, None)


def test_text_without_an_offset_has_no_number() -> None:
    assert as_text(BLIND, None) == "no face"
    assert as_text(BLIND, 3.0).endswith("0:03.0  no face")


def test_summary_counts_states() -> None:
    said = summary_of((BLIND, 0.0), (BLIND, 1.0), (MEASURED, 2.0))
    assert "3 reports: 2 no_face, 1 measuring" in said


def test_summary_joins_what_agrees_and_parts_what_does_not() -> None:
    said = summary_of(*[(measured(v), float(k)) for k, v in enumerate((80, 84, 82, -160, -158))]).splitlines()
    assert [" ".join(line.split()) for line in said[2:]] == [
        "0:00.0 to 0:02.0 +82 ms (audio early), 3 reports",
        "0:03.0 to 0:04.0 -159 ms (audio late), 2 reports",
    ]


def test_summary_calls_what_is_in_sync_in_sync() -> None:
    assert "(in sync)" in summary_of((measured(0.0), 0.0))
    assert "(in sync)" in summary_of((measured(-8.0), 0.0))


def test_summary_works_without_times_and_without_reports() -> None:
    assert "+124 ms" in summary_of((MEASURED, None))
    assert "0 reports: none" in summary_of()


def test_summary_speaks_of_losses_only_where_there_are_some() -> None:
    assert "dropped" not in summary_of((MEASURED, 0.0))
    lossy = replace(MEASURED, video_dropped=5, audio_dropped=9)
    assert "dropped: 5 frames, 9 blocks of audio" in summary_of((MEASURED, 0.0), (lossy, 1.0))


def test_summary_of_a_long_run_stays_small() -> None:
    said = summary_of(*[(measured(500.0 * (-1) ** k), float(k)) for k in range(2000)])
    assert len(said.splitlines()) < 30


def test_a_step_is_in_its_line_and_in_the_summary() -> None:
    stepped = replace(measured(-160.0), step_ms=-241.6)
    assert as_text(stepped, 26.1).endswith("step of -242 ms")
    said = summary_of((MEASURED, 25.1), (stepped, 26.1), (measured(-160.0), 27.1))
    assert said.count("step of") == 1 and "step of -242 ms, seen at 0:26.1" in said
    assert "step of -242 ms\n" in summary_of((stepped, None))


def test_summary_is_silent_about_steps_and_drift_where_none_are_known() -> None:
    said = summary_of((MEASURED, 0.0), (BLIND, 1.0))
    assert "step" not in said and "drift" not in said


def test_summary_gives_the_latest_drift() -> None:
    drifting = [replace(MEASURED, drift_ppm=ppm, drift_std_ppm=4.0) for ppm in (30.0, 48.26)]
    assert "drift: +48.3 ±4.0 ppm" in summary_of(*[(report, None) for report in drifting], (BLIND, None))


def test_summary_of_many_steps_stays_small() -> None:
    said = summary_of(*[(replace(MEASURED, step_ms=100.0), float(k)) for k in range(500)])
    assert len(said.splitlines()) < 30 and "seen at 8:19.0" in said
