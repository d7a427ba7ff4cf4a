"""What passes and what fails; names that are safe to print; rows that survive JSON."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.check.row import FailOn, Result, Row, Rules, judged, offset_text, row_from
from device.printable import shown_name
from device.standards import PROFILES

RULES = Rules("ebu-r37", PROFILES["ebu-r37"], (FailOn.UNACCEPTABLE,), 1200.0, "tiny 1 abc")
PIECE = {
    "from_s": 0.0, "to_s": 9.0, "offset_ms": 50.0, "offset_std_ms": 3.0, "from_offset_ms": 50.0, "to_offset_ms": 52.0,
}  # fmt: skip


def measured(mildest: str | None, severest: str | None = None, **more: Any) -> dict[str, Any]:
    """What `avdrift measure` says, as far as a row looks at it."""
    severest = severest or mildest
    verdict = "unknown" if mildest is None else mildest if mildest == severest else "borderline"
    found = {
        "offset_ms": 50.0, "offset_std_ms": 3.0, "state": "measuring", "reason": None, "confidence": 0.99,
        "verdict": verdict, "verdict_range": mildest and [mildest, severest], "profile": "ebu-r37", "steps": [],
        "pieces": [PIECE], "drift_class": "steady", "drift_ppm": None, "drift_std_ppm": None, "duration_s": 9.0,
        "speech_s": 8.0, "audio_track": "audio 1", "damaged": None,
    }  # fmt: skip
    return found | more


def row(result: Result = Result.PASSED, file: str = "a.mkv", found: dict[str, Any] | None = None) -> Row:
    found = measured("in_sync") if found is None and result is Result.PASSED else found
    identity = {"path": f"/x/{file}", "size": 1, "changed_ns": 2}
    problem = None if result is Result.PASSED else f"{result}, why"
    return Row(file, result, problem, found, [(2.5, 50.0, 3.0)] if found else [], 0.5, identity)


STEPPED: dict[str, Any] = {"steps": [{"t_s": 3.0, "step_ms": 90.0}]}
DRIFTING: dict[str, Any] = {"drift_class": "drifting", "drift_ppm": 40.0, "drift_std_ppm": 5.0}
NOTHING: dict[str, Any] = {"offset_ms": None, "state": "no_face", "reason": "no_face", "pieces": []}


@pytest.mark.parametrize(
    ("found", "fail_on", "result"),
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
def test_what_fails(found: dict[str, Any], fail_on: str, result: str) -> None:
    judgement, problem = judged(found, [FailOn(fail_on)] if fail_on else [])
    assert judgement == result
    assert (problem is None) == (result == "passed")


def test_an_offset_in_words() -> None:
    assert offset_text(measured("in_sync")) == "+50 ±3 ms"
    assert offset_text(measured("in_sync", offset_ms=None)) == "+50 to +52 ms"
    assert offset_text(measured(None, **NOTHING)) == "-"


@given(st.binary(max_size=40))
def test_every_name_prints_on_one_line_without_control_characters(name: bytes) -> None:
    shown = shown_name(os.fsdecode(name))
    assert shown.isprintable()
    shown.encode("utf-8")


@given(st.binary(min_size=1, max_size=40).filter(lambda name: 0 not in name), st.sampled_from(Result))
def test_rows_survive_json(name: bytes, result: Result) -> None:
    before = row(result, os.fsdecode(name))
    line = json.dumps(before.to_dict(RULES), allow_nan=False)
    assert line.isascii() and "\n" not in line
    assert row_from(json.loads(line)) == before
