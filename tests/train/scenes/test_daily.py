"""`avdrift-train daily`: the figures count correctly."""

from __future__ import annotations

import pytest

from device.analysis.offset_tracker import WindowResult
from device.records import NS_PER_S, Estimate, State
from train.scenes.daily import Talk, followed, summary


def results(*offsets_ms: float | None) -> list[WindowResult]:
    """Reports at the seconds 1, 2, …, each with a number or without."""
    return [
        WindowResult(
            0, t_s * NS_PER_S, State.UNCERTAIN if offset_ms is None else State.MEASURING,
            None if offset_ms is None else Estimate(offset_ms, 5.0, 0.99, False), 1.0,
        )
        for t_s, offset_ms in enumerate(offsets_ms, 1)
    ]  # fmt: skip


def test_only_reports_after_four_seconds_count_and_the_first_number_is_the_first() -> None:
    found = followed("a", results(None, 100.0, 100.0, 500.0, 100.0, None, 141.0, 139.0), 100.0)
    assert found == Talk("a", first_s=2.0, reports=4, measuring=3, right=2, longest_gap_s=2.0)


def test_a_clip_without_any_number_is_one_long_gap() -> None:
    found = followed("a", results(*[None] * 10), 0.0)
    assert found.first_s is None and found.measuring == 0 and found.longest_gap_s == 6.0


def test_the_summary_shares_out_reports_and_ranks_clips() -> None:
    talks = [Talk("a", 1.0, 10, 10, 10, 1.0), Talk("b", 3.0, 10, 6, 5, 4.0), Talk("c", None, 10, 0, 0, 10.0)]
    found = summary(talks, [(30, 0), (20, 1)])
    assert found["reports"] == 30 and found["with_a_number"] == pytest.approx(16 / 30)
    assert found["right_of_these"] == pytest.approx(15 / 16) and found["wrong"] == 1
    assert (found["first_s_median"], found["first_s_95_percent"], found["never"]) == (3.0, None, 1)
    assert found["other_voices"] == {"reports": 50, "with_a_number": 1} and found["longest_gap_s"] == 10.0


def test_nothing_to_share_out_is_none() -> None:
    found = summary([], [])
    assert found["with_a_number"] is None and found["right_of_these"] is None and found["first_s_median"] is None
