"""Which reports are published as `state`, to spare recorders."""

from __future__ import annotations

from dataclasses import replace

import pytest

from device.records import Report, State, Verdict
from device.telemetry.mqtt.state_filter import MAX_SILENCE_S, StateFilter
from tests.brokers import report

REPORTS = [replace(report(seq), uptime_s=100.0 + seq + 0.01 * (seq % 3)) for seq in range(180)]


def taken(made: StateFilter, reports: list[Report]) -> list[int]:
    return [each.seq for each in reports if made.admits(each)]


def test_by_default_every_report_goes() -> None:
    assert taken(StateFilter(1.0, 0.0, only_changes=False), REPORTS) == [each.seq for each in REPORTS]


@pytest.mark.parametrize("every_s", [10.0, 60.0])
def test_one_in_a_while(every_s: float) -> None:
    made = StateFilter(1.0, every_s, only_changes=False)
    assert taken(made, REPORTS) == list(range(0, 180, round(every_s))) and made.longest_s == every_s


def test_only_changes_and_a_sign_of_life() -> None:
    made = StateFilter(1.0, 0.0, only_changes=True)
    changed = [*REPORTS[:20], *(replace(each, verdict=Verdict.UNACCEPTABLE) for each in REPORTS[20:40]),
               *(replace(each, offset_ms=-80.0) for each in REPORTS[40:50]),
               *(replace(each, state=State.UNCERTAIN, offset_ms=None) for each in REPORTS[50:])]  # fmt: skip
    assert taken(made, changed) == [0, 20, 40, 50, 110, 170]
    assert made.longest_s == MAX_SILENCE_S


def test_after_a_restart_the_first_report_goes() -> None:
    made = StateFilter(1.0, 60.0, only_changes=True)
    assert taken(made, [REPORTS[9], replace(REPORTS[1], seq=500, uptime_s=0.3)]) == [9, 500]
