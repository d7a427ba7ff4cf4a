"""Timing against a clock that the test moves by hand; the cost table against figures that are easy to check."""

from __future__ import annotations

import json

import pytest

from device.bench.timing import CostReport, StageCost, Timing, best_of, format_costs, total
from device.errors import UsageError


class ScriptedWork:
    """Work that takes the scripted time, call by call (the last one forever), on a clock of its own."""

    def __init__(self, *seconds: float) -> None:
        self.seconds = list(seconds)
        self.now_s = 100.0
        self.calls = 0

    def __call__(self) -> None:
        self.now_s += self.seconds.pop(0) if len(self.seconds) > 1 else self.seconds[0]
        self.calls += 1

    def clock_s(self) -> float:
        return self.now_s


def timed(work: ScriptedWork, repeat: int, min_time_s: float) -> Timing:
    return best_of(work, repeat, min_time_s, clock_s=work.clock_s)


def test_first_call_only_warms_up() -> None:
    work = ScriptedWork(9.0, 0.5)
    assert timed(work, repeat=3, min_time_s=0.0) == Timing(median_s=0.5, min_s=0.5, calls=3)
    assert work.calls == 4


def test_median_and_minimum_differ_where_rounds_are_disturbed() -> None:
    timing = timed(ScriptedWork(0.0, 0.25, 4.0, 0.5), repeat=3, min_time_s=0.0)
    assert timing == Timing(median_s=0.5, min_s=0.25, calls=3)


def test_short_work_is_repeated_until_the_round_is_long_enough() -> None:
    timing = timed(ScriptedWork(0.125), repeat=2, min_time_s=1.0)
    assert timing == Timing(median_s=0.125, min_s=0.125, calls=16)


def test_long_work_runs_once_a_round() -> None:
    assert timed(ScriptedWork(3.0), repeat=4, min_time_s=1.0).calls == 4


def test_real_clock_gives_positive_seconds() -> None:
    timing = best_of(lambda: sum(range(1000)), repeat=3, min_time_s=0.001)
    assert 0 < timing.min_s <= timing.median_s < 0.1
    assert timing.calls >= 3


@pytest.mark.parametrize(("repeat", "min_time_s"), [(0, 1.0), (-1, 1.0), (1, -0.1), (1, float("nan"))])
def test_timing_that_cannot_be_done_is_refused(repeat: int, min_time_s: float) -> None:
    with pytest.raises(UsageError, match="repeat >= 1"):
        best_of(lambda: None, repeat, min_time_s)


def test_exception_of_the_work_goes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        best_of(lambda: 1 // 0, 1, 0.0)


STAGES = [
    StageCost("decode", 20.0),
    StageCost("lip tower", 8.0, 600.0),
    StageCost("audio tower", 2.0, 300.0),
    StageCost("curve", 10.0, 0.0),
]
SYNCNET = [StageCost("SyncNet video tower", 800.0, 39_000.0), StageCost("SyncNet audio tower", 200.0, 6_000.0)]
REPORT = CostReport(STAGES, SYNCNET, {"both towers": ["lip tower", "audio tower"]})


def test_totals_leave_unknown_counts_out() -> None:
    assert REPORT.total == StageCost("total", 40.0, 900.0)
    assert REPORT.subtotal("both towers") == StageCost("both towers", 10.0, 900.0)
    assert REPORT.syncnet_total == StageCost("SyncNet total", 1000.0, 45_000.0)


def test_total_of_unknown_counts_is_unknown() -> None:
    assert total("codec", [StageCost("a", 1.0), StageCost("b", 2.0)]) == StageCost("codec", 3.0, None)
    assert total("nothing", []) == StageCost("nothing", 0.0, None)


def test_dict_has_every_row_with_its_ratios() -> None:
    found = REPORT.to_dict()
    assert found["subtotals"] == [
        {
            "name": "both towers",
            "ms_per_s": 10.0,
            "mmac_per_s": 900.0,
            "realtime_factor": 100.0,
            "time_ratio": 0.01,
            "mac_ratio": 0.02,
        }
    ]
    assert found["stages"][0]["mmac_per_s"] is None
    assert found["stages"][0]["mac_ratio"] is None
    assert found["total"]["realtime_factor"] == 25.0
    assert found["syncnet_total"]["realtime_factor"] == 1.0
    assert [row["name"] for row in found["syncnet"]] == ["SyncNet video tower", "SyncNet audio tower"]
    assert json.loads(json.dumps(found)) == found


def test_dict_without_syncnet_has_no_ratios() -> None:
    found = CostReport(STAGES).to_dict()
    assert found["syncnet"] == []
    assert found["syncnet_total"] is None
    assert found["total"]["time_ratio"] is None
    assert found["total"]["mac_ratio"] is None
    assert found["total"]["realtime_factor"] == 25.0


def test_stage_that_takes_no_time_has_no_real_time_factor() -> None:
    assert CostReport([StageCost("nothing", 0.0)]).to_dict()["total"]["realtime_factor"] is None


def test_subtotal_of_an_unknown_stage_is_refused() -> None:
    with pytest.raises(UsageError, match="no stage is called lips"):
        CostReport(STAGES, SYNCNET, {"towers": ["lips", "audio tower"]})


def row(table: str, name: str) -> list[str]:
    (line,) = [line for line in table.splitlines() if line.startswith(name)]
    return line.removeprefix(name).split()


def test_table_rows() -> None:
    table = format_costs(REPORT)
    assert row(table, "decode ") == ["20.00", "-", "1/50", "-", "50.0x"]
    assert row(table, "both towers ") == ["10.00", "900.0", "1/100", "1/50", "100.0x"]
    assert row(table, "curve ") == ["10.00", "0.0", "1/100", "0", "100.0x"]
    assert row(table, "total ") == ["40.00", "900.0", "1/25", "1/50", "25.0x"]
    assert row(table, "SyncNet audio tower ") == ["200.00", "6000.0", "1/5.0", "1/7.5", "5.0x"]
    assert row(table, "SyncNet total ") == ["1000.00", "45000.0", "1.00", "1.00", "1.0x"]


def test_table_is_aligned_and_ordered() -> None:
    lines = format_costs(REPORT).splitlines()
    assert len({len(line) for line in lines}) == 1
    names = [line.split("  ")[0] for line in lines if not line.startswith("-")]
    assert names[1:5] == [stage.name for stage in STAGES]
    assert names[5:] == ["both towers", "total", "SyncNet video tower", "SyncNet audio tower", "SyncNet total"]


def test_table_without_syncnet_says_so_with_dashes() -> None:
    table = format_costs(CostReport(STAGES))
    assert "SyncNet total" not in table
    assert row(table, "total ") == ["40.00", "900.0", "-", "-", "25.0x"]
