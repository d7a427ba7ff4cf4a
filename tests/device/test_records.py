"""Records: frozen, and a report whose JSON has the documented keys in their order."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest

from device.records import Chunk, Direction, DriftClass, Estimate, Frame, Report, State, Verdict

KEYS = [
    "schema", "seq", "boot_id", "uptime_s", "t_unix_ms", "clock_synced", "state", "offset_ms", "offset_std_ms",
    "direction", "confidence", "drift_ppm", "drift_std_ppm", "drift_class", "step_ms", "verdict", "profile", "window_s",
    "faces", "speech_ratio", "model", "video_dropped", "audio_dropped", "latency_ms", "fault", "reason",
    "evidence_age_s", "verdict_range", "faults",
]  # fmt: skip


def report(state: State = State.NO_FACE, offset_ms: float | None = None) -> Report:
    return Report(
        schema=1, seq=3, boot_id="b", uptime_s=1.5, t_unix_ms=1_700_000_000_000, clock_synced=None, state=state,
        offset_ms=offset_ms, offset_std_ms=None, direction=None, confidence=None, drift_ppm=None, drift_std_ppm=None,
        drift_class=DriftClass.UNKNOWN, step_ms=None, verdict=Verdict.UNKNOWN, profile="itu-r-bt1359", window_s=5.0,
        faces=None, speech_ratio=None, model="tiny 0", video_dropped=0, audio_dropped=0, latency_ms=None,
    )  # fmt: skip


def test_a_report_has_the_keys_of_the_schema_in_their_order() -> None:
    assert [field.name for field in fields(Report)] == KEYS
    assert list(report().to_dict()) == KEYS


def test_a_report_is_json_and_unknown_is_null() -> None:
    told = json.loads(json.dumps(report().to_dict(), allow_nan=False))
    assert told["state"] == "no_face" and told["verdict"] == "unknown"
    assert told["offset_ms"] is None and told["clock_synced"] is None and told["faces"] is None
    assert json.loads(json.dumps(report(State.MEASURING, -12.5).to_dict()))["offset_ms"] == -12.5


def test_the_words_are_those_of_the_schema() -> None:
    assert [str(state) for state in State] == ["starting", "measuring", "no_face", "no_speech", "uncertain", "stalled"]
    assert [str(word) for word in Direction] == ["audio_early", "audio_late", "in_sync"]
    assert [str(word) for word in Verdict] == ["in_sync", "detectable", "unacceptable", "borderline", "unknown"]


@pytest.mark.parametrize(
    ("record", "name"),
    [
        (Frame(0, 0, np.zeros((2, 2, 3), np.uint8)), "t_ns"),
        (Chunk(0, 0, 16_000, np.zeros(3, np.float32)), "rate_hz"),
        (Estimate(1.0, 2.0, 0.5, False), "offset_ms"),
        (report(), "offset_ms"),
    ],
)
def test_records_do_not_change(record: object, name: str) -> None:
    with pytest.raises(FrozenInstanceError):
        setattr(record, name, 1)
