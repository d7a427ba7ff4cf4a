"""Plots a model's accuracy against the minutes that it was trained on, from a report with several runs, and as a table.

python -m train.comparison.data_curve REPORT.json --run RUN … --page docs/experiments.md --out docs/models
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from train.comparison.load_estimators import syncnet_name
from train.markdown import put_into

LENGTHS_S = ("0.2", "0.6", "1.0", "2.0", "5.0")
SEARCH_FRAMES = "15"


@dataclass(frozen=True, slots=True)
class Point:
    """One run: its training data, its training time, and its figures by window length in s, from the report."""

    clips: int
    minutes: float
    batches: int
    figures: Mapping[str, Mapping[str, float | None]]


def point(run: Path, report: Mapping[str, Any]) -> Point:
    """A run of SyncNet in a report that includes it. Raises KeyError if the report does not."""
    config, data = (json.loads((run / f"{name}.json").read_text(encoding="utf-8")) for name in ("config", "data"))
    by_name = {result["model"]: result["figures"][SEARCH_FRAMES] for result in report["results"]}
    return Point(
        sum(corpus["clips"] for corpus in data.values()), sum(corpus["minutes"] for corpus in data.values()),
        config["epochs"] * config["steps_per_epoch"], by_name[syncnet_name(config)],
    )  # fmt: skip


def as_markdown(points: Sequence[Point]) -> str:
    """Share within one frame and its interval, by window length."""
    head = ["trained on", "batches", *(f"{float(length):g} s" for length in LENGTHS_S)]
    rows = [
        [f"{p.minutes:.0f} min, {p.clips} clips", str(p.batches), *(_share(p.figures[length]) for length in LENGTHS_S)]
        for p in points
    ]
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def draw(points: Sequence[Point], path: Path) -> None:
    """One line per window length, with the intervals."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    minutes = [p.minutes for p in points]
    for length in LENGTHS_S:
        shares, lows, highs = (
            [100 * (p.figures[length][key] or 0) for p in points] for key in ("within_frame", "low", "high")
        )
        axes.plot(minutes, shares, "o-", label=f"{float(length):g} s")
        axes.fill_between(minutes, lows, highs, alpha=0.12, linewidth=0)
    axes.set(xscale="log", xlabel="minutes of training clips", ylim=(0, 101))
    axes.set(ylabel=f"within one frame in %, ±{SEARCH_FRAMES} frames", xticks=minutes)
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    figure.legend(title="window", loc="outside right center", fontsize=7)
    figure.savefig(path, dpi=90)


def _share(figures: Mapping[str, float | None]) -> str:
    share, low, high = (100 * (figures[key] or 0) for key in ("within_frame", "low", "high"))
    return f"{share:.1f} ({low:.1f} to {high:.1f})"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("report", type=Path)
    parser.add_argument("--run", type=Path, action="append", required=True)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder for data-curve.png")
    options = parser.parse_args(arguments)
    report = json.loads(options.report.read_text(encoding="utf-8"))
    points = sorted((point(run, report) for run in options.run), key=lambda found: found.minutes)
    print(as_markdown(points), end="")
    draw(points, options.out / "data-curve.png")
    if options.page is not None:
        put_into(options.page, "data curve", as_markdown(points))


if __name__ == "__main__":
    main()
