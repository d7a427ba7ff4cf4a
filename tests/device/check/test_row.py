"""What passes and what fails; names that are safe to print; rows that survive JSON."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.check.row import FailOn, Result, Row, Rules, judged, offset_text, printable, row_from
from device.standards import PROFILES

RULES = Rules("ebu-r37", PROFILES["ebu-r37"], (FailOn.UNACCEPTABLE,), 1200.0, "tiny 1 abc")
PIECE = {
    "from_s": 0.0, "to_s": 9.0, "offset_ms": 50.0, "offset_std_ms": 3.0, "from_offset_ms": 50.0, "to_offset_ms": 52.0,
}  # fmt: skip


def measured(mildest: str | None, severest: str | None = None, **more: Any) -> dict[str, Any]:
    """What `avdrift measure` says, as far as a row looks at it."""
    severest = severest or mildest
    verdict = "unknown" if mildest is None else mildest if mildest == severest else "borderline"
    result = {
        "offset_ms": 50.0, "offset_std_ms": 3.0, "state": "measuring", "reason": None, "confidence": 0.99,
        "verdict": verdict, "verdict_range": mildest and [mildest, severest], "profile": "ebu-r37", "steps": [],
        "pieces": [PIECE], "drift_class": "steady", "drift_ppm": None, "drift_std_ppm": None, "duration_s": 9.0,
        "speech_s": 8.0, "audio_track": "sound 1", "damaged": None,
    }  # fmt: skip
    return result | more


def row(result: Result = Result.PASSED, file: str = "a.mkv", result: dict[str, Any] | None = None) -> Row:
    result = measured("in_sync") if result is None and result is Result.PASSED else result
    identity = {"path": f"/x/{file}", "size": 1, "changed_ns": 2}
    problem = None if result is Result.PASSED else f"{result}, why"
    return Row(file, result, problem, result, [(2.5, 50.0, 3.0)] if result else [], 0.5, identity)


STEPPED = {"steps": [{"t_s": 3.0, "step_ms": 90.0}]}
DRIFTING = {"drift_class": "drifting", "drift_ppm": 40.0, "drift_std_ppm": 5.0}
NOTHING = {"offset_ms": None, "state": "no_face", "reason": "no_face", "pieces": []}


@pytest.mark.parametrize(
    ("told", "fail_on", "result"),
    [
        (measured("in_sync"), "", "passed"),
        (measured("detectable"), "", "passed"),
        (measured("unacceptable"), "", "failed"),
        (measured("detectable"), "detectable", "failed"),
        (measured("unacceptable"), "drift", "failed"),
        (measured("in_sync", "detectable"), "detectable", "passed"),
        (measured("detectable", "unacceptable"), "", "passed"),
        (measured("detectable", "unacceptable"), "detectable", "failed"),
        (measured(None, **NOTHING), "", "unknown"),
        (measured(None, **NOTHING), "unknown", "failed"),
        (measured(None, **NOTHING, **STEPPED), "step", "failed"),
        (measured("in_sync", **STEPPED), "drift", "passed"),
        (measured("in_sync", **STEPPED), "step", "failed"),
        (measured("in_sync", **DRIFTING), "step", "passed"),
        (measured("in_sync", **DRIFTING), "drift", "failed"),
    ],
)
def test_what_fails(result: dict[str, Any], fail_on: str, result: str) -> None:
    found, problem = judged(result, [FailOn(fail_on)] if fail_on else [])
    assert found == result
    assert (problem is None) == (result == "passed")


def test_an_offset_in_words() -> None:
    assert offset_text(measured("in_sync")) == "+50 ±3 ms"
    assert offset_text(measured("in_sync", offset_ms=None)) == "+50 to +52 ms"
    assert offset_text(measured(None, **NOTHING)) == "-"


@given(st.binary(max_size=40))
def test_every_name_prints_on_one_line_without_control_characters(name: bytes) -> None:
    shown = printable(os.fsdecode(name))
    assert shown.isprintable()
    shown.encode("utf-8")


@given(st.binary(min_size=1, max_size=40).filter(lambda name: 0 not in name), st.sampled_from(Result))
def test_rows_survive_json(name: bytes, result: Result) -> None:
    before = row(result, os.fsdecode(name))
    line = json.dumps(before.to_dict(RULES), allow_nan=False)
    assert line.isascii() and "\n" not in line
    assert row_from(json.loads(line)) == before
