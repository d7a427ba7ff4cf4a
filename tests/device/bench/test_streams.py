"""How many streams a machine can measure: from reports to a verdict, and one real run."""

from __future__ import annotations

import json

import pytest

from device.bench.streams import Carried, StreamCosts, carried, format_streams, measure_streams
from device.cli import main
from tests.scenes import talking


def line(**more: object) -> str:
    report = {"latency_ms": 1800, "video_dropped": 0, "audio_dropped": 0, "fault": None}
    return json.dumps({**report, **more})


@pytest.mark.parametrize(
    ("lines", "realtime"),
    [
        ([line(), line(latency_ms=None), line(latency_ms=2000)], True),
        ([line(), line(video_dropped=1)], True),
        ([line(), line(video_dropped=3)], False),
        ([line(), line(fault="overloaded"), line()], False),
        ([line(latency_ms=6000), line(latency_ms=7000)], False),
        ([line(latency_ms=None)], False),
        ([], False),
    ],
)
def test_what_keeps_up(lines: list[str], realtime: bool) -> None:
    assert carried(lines).realtime is realtime


def test_the_table_says_how_many_keep_up() -> None:
    text = format_streams(StreamCosts([Carried(9, 1800.0, 0, 0), Carried(9, None, 5, 1)], 2, 1.234))
    assert text.endswith("1 of 2 in real time on 2 cores, with 1.23 cores busy") and "1.8 s" in text


def test_a_number_of_streams_that_cannot_be_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--streams", "0"]) == 2
    assert "Give 1 to 64" in capsys.readouterr().err


@pytest.mark.slow
def test_two_at_once_are_measured() -> None:
    found = measure_streams(2, talking())
    assert [stream.reports > 0 for stream in found.streams] == [True, True] and found.cpu_ratio > 0
