"""From half a minute of reports to a rig's own offset, or to a reason without one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from device.errors import UsageError
from device.records import NS_PER_S, State
from device.reporting.reporter import Reporter
from device.runtime.recalibration import LASTS_S, Recalibration
from device.state.rig import Rig

BLANK = Reporter("tiny", "itu-r-bt1359", 5.0).report(None)
OLD = Rig(20.0, 2.0, 1, "a", "b")


def collected(offsets_ms: Iterable[float | None], rig: Rig | None = None, every_s: float = 1.0) -> Recalibration:
    found = Recalibration(0, rig, window_s=5.0, every_s=every_s)
    for seq, offset_ms in enumerate(offsets_ms, 1):
        state = State.UNCERTAIN if offset_ms is None else State.MEASURING
        std_ms = None if offset_ms is None else 6.0
        found.add(replace(BLANK, seq=seq, state=state, offset_ms=offset_ms, offset_std_ms=std_ms))
    return found


def test_the_middle_of_what_was_measured_is_the_rigs_own_offset() -> None:
    rig = collected([52.0] * 20 + [900.0] + [48.0] * 20).found("cam", "mic", 7)
    assert 48.0 <= rig.bias_ms <= 52.0
    assert (rig.camera, rig.microphone, rig.made_unix_ms) == ("cam", "mic", 7)
    assert 2.0 < rig.bias_std_ms < 4.0, "six windows of their own, each as sure as it says"


def test_it_adds_to_the_one_that_the_reports_already_leave_out() -> None:
    assert collected([5.0] * 30, OLD).found("a", "b", 7).bias_ms == 25.0


def test_it_lasts_half_a_minute() -> None:
    recalibration = Recalibration(100, None, window_s=5.0, every_s=1.0)
    assert not recalibration.is_over(100 + round((LASTS_S - 0.01) * NS_PER_S))
    assert recalibration.is_over(100 + round(LASTS_S * NS_PER_S))


def test_the_same_report_counts_once() -> None:
    recalibration = Recalibration(0, None, window_s=5.0, every_s=1.0)
    for _ in range(100):
        recalibration.add(replace(BLANK, seq=1, state=State.MEASURING, offset_ms=5.0, offset_std_ms=6.0))
        recalibration.add(None)
    with pytest.raises(UsageError, match="only 1 offsets"):
        recalibration.found("cam", "mic", 7)


@pytest.mark.parametrize(
    ("offsets_ms", "every_s"), [([], 1.0), ([None] * 30, 1.0), ([5.0] * 8, 1.0), ([5.0] * 2, 10.0), ([5.0] * 40, 0.2)]
)
def test_too_little_is_refused(offsets_ms: list[float | None], every_s: float) -> None:
    with pytest.raises(UsageError, match="speak to the camera"):
        collected(offsets_ms, every_s=every_s).found("cam", "mic", 7)


def test_what_is_enough_depends_on_how_often_there_is_a_report() -> None:
    assert collected([5.0] * 3, every_s=10.0).found("cam", "mic", 7).bias_ms == 5.0


def test_numbers_that_do_not_agree_are_refused() -> None:
    wild = np.random.default_rng(1).uniform(-1000, 1000, 30)
    with pytest.raises(UsageError, match="not steady"):
        collected(wild.tolist()).found("cam", "mic", 7)


def test_an_offset_that_no_rig_has_is_refused() -> None:
    with pytest.raises(UsageError, match="bias_ms"):
        collected([4990.0] * 30, OLD).found("cam", "mic", 7)
