"""Times a piece of work, and prints the table that compares each stage with SyncNet.

Conventions: costs are per second of audio-video (ms, and millions of multiply-accumulates), so that stages which run 25
or 100 times a second, or once, can be added. An unknown count is None, and is excluded from sums and ratios.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Final

from device.errors import UsageError

MS_PER_S: Final = 1000.0


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds per call over several rounds; the minimum is the least disturbed one."""

    median_s: float
    min_s: float
    calls: int


def best_of(
    work: Callable[[], object],
    repeat: int,
    min_time_s: float,
    clock_s: Callable[[], float] = time.process_time,
) -> Timing:
    """Time one call of `work`: one call to warm up, then `repeat` rounds of whole calls of at least `min_time_s` each.

    Raises UsageError for less than one round or a negative time, and whatever `work` raises.
    """
    if repeat < 1 or not min_time_s >= 0:
        raise UsageError(
            f"repeat={repeat} and min_time_s={min_time_s} cannot be timed",
            where="benchmark",
            remedy="Use repeat >= 1 and min_time_s >= 0",
        )
    work()
    per_call_s: list[float] = []
    calls = 0
    for _ in range(repeat):
        count, start_s = 0, clock_s()
        elapsed_s = 0.0
        while count == 0 or elapsed_s < min_time_s:
            work()
            count += 1
            elapsed_s = clock_s() - start_s
        per_call_s.append(elapsed_s / count)
        calls += count
    return Timing(median(per_call_s), min(per_call_s), calls)


@dataclass(frozen=True, slots=True)
class StageCost:
    """The cost of one stage per second of audio-video; `mmac_per_s` is None for uncounted stages (a codec)."""

    name: str
    ms_per_s: float
    mmac_per_s: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def total(name: str, stages: Sequence[StageCost]) -> StageCost:
    """The sum of some stages under a new name; its count is None if none of them has one."""
    counts = [stage.mmac_per_s for stage in stages if stage.mmac_per_s is not None]
    return StageCost(name, sum(stage.ms_per_s for stage in stages), sum(counts) if counts else None)


@dataclass(frozen=True, slots=True)
class CostReport:
    """The stages of the pipeline beside those of SyncNet; `subtotals` names groups of stages that get their own row."""

    stages: Sequence[StageCost]
    syncnet: Sequence[StageCost] = ()
    subtotals: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = {stage.name for stage in self.stages}
        missing = sorted({name for names in self.subtotals.values() for name in names} - known)
        if missing:
            raise UsageError(
                f"no stage is called {', '.join(missing)}",
                where="benchmark table",
                remedy=f"Use one of {sorted(known)}",
            )

    @property
    def total(self) -> StageCost:
        return total("total", self.stages)

    @property
    def syncnet_total(self) -> StageCost | None:
        return total("SyncNet total", self.syncnet) if self.syncnet else None

    def subtotal(self, name: str) -> StageCost:
        members = set(self.subtotals[name])
        return total(name, [stage for stage in self.stages if stage.name in members])

    def to_dict(self) -> dict[str, Any]:
        """For --json: each row with its ratios to SyncNet's total (0.02 is one fiftieth), None where unknown."""
        return {
            "stages": [self._row(stage) for stage in self.stages],
            "subtotals": [self._row(self.subtotal(name)) for name in self.subtotals],
            "total": self._row(self.total),
            "syncnet": [self._row(stage) for stage in self.syncnet],
            "syncnet_total": self._row(self.syncnet_total) if self.syncnet_total else None,
        }

    def _row(self, cost: StageCost) -> dict[str, Any]:
        base = self.syncnet_total
        return cost.to_dict() | {
            "realtime_factor": _ratio(MS_PER_S, cost.ms_per_s),
            "time_ratio": _ratio(cost.ms_per_s, base.ms_per_s) if base else None,
            "mac_ratio": _ratio(cost.mmac_per_s, base.mmac_per_s) if base else None,
        }


def format_costs(report: CostReport) -> str:
    """The report as an aligned text table, without a newline at the end."""
    rows = report.to_dict()
    blocks = [rows["stages"], [*rows["subtotals"], rows["total"]]]
    if rows["syncnet_total"]:
        blocks.append([*rows["syncnet"], rows["syncnet_total"]])
    header = ("per second of audio-video", "ms", "MMAC", "time/SyncNet", "MAC/SyncNet", "real-time factor")
    cells = [[_cells(row) for row in block] for block in blocks]
    widths = [max(len(row[i]) for row in [header, *(r for block in cells for r in block)]) for i in range(len(header))]
    rule = "  ".join("-" * width for width in widths)
    lines = [_align(header, widths)]
    for block in cells:
        lines += [rule, *(_align(row, widths) for row in block)]
    return "\n".join(lines)


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    count, factor = row["mmac_per_s"], row["realtime_factor"]
    return (
        str(row["name"]),
        f"{row['ms_per_s']:.2f}",
        "-" if count is None else f"{count:.1f}",
        _fraction(row["time_ratio"]),
        _fraction(row["mac_ratio"]),
        "-" if factor is None else f"{factor:.1f}x",
    )


def _align(cells: Sequence[str], widths: Sequence[int]) -> str:
    numbers = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
    return "  ".join([cells[0].ljust(widths[0]), *numbers])


def _ratio(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None


def _fraction(ratio: float | None) -> str:
    """1/57 reads better than 0.0175 for small ratios."""
    if ratio is None:
        return "-"
    if ratio == 0:
        return "0"
    if ratio >= 0.5:
        return f"{ratio:.2f}"
    return f"1/{1 / ratio:.0f}" if ratio <= 0.1 else f"1/{1 / ratio:.1f}"
