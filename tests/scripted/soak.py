"""All scripted faults, so many times each, at random moments, in one process: what came of them, and what leaks.

    python -m tests.scripted.soak --times 50 --out soak.jsonl

One JSON object a line: each outcome, the figures of the process after each round, and at last a summary. The exit code
is 1 where a fault was not named, not got over, or gave a number that it must not, or where something grew.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import threading
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, TextIO

import cv2
import psutil
from tqdm import tqdm

from tests.scripted.faults import FAULTS, Fault
from tests.scripted.stage import STOPPED_WITHIN_S, Outcome, stage

WARM_SHARE = 0.2  # of the rounds, after which memory has found its level
MAX_GROWTH_MB = 15.0


def process_figures() -> dict[str, float]:
    """Memory, threads and open files of this process now."""
    gc.collect()
    process = psutil.Process()
    return {
        "memory_mb": round(process.memory_info().rss / 2**20, 1),
        "threads": threading.active_count(),
        "open_files": process.num_fds(),
    }


def one_round(seed: int, faults: Sequence[Fault], out: TextIO, progress: tqdm[Any]) -> tuple[list[Outcome], float]:
    """Each fault once, in a random order, through one daemon; it is stopped in the middle of one more."""
    rng = Random(seed)
    outcomes = []
    with stage(seed) as running:
        for fault in rng.sample(faults, len(faults)):
            outcome = running.suffer(fault)
            outcomes.append(outcome)
            problems = outcome.problems(fault)
            out.write(json.dumps({**outcome.to_dict(), "seed": seed, "problems": problems}) + "\n")
            out.flush()
            if problems:
                progress.write(f"seed {seed}, {fault.name}: {'; '.join(problems)}", file=sys.stderr)
            progress.update()
        last = rng.choice(faults)
        last.begin(running.world)
        running.clock.sleep(rng.uniform(0, 6))
        stopped_s = running.stop()
    if stopped_s > STOPPED_WITHIN_S:
        progress.write(f"seed {seed}: stopped in {stopped_s:.2f} s, in the middle of: {last.name}", file=sys.stderr)
    return outcomes, stopped_s


def summary(
    faults: Sequence[Fault],
    outcomes: Sequence[Outcome],
    stops_s: Sequence[float],
    figures: Sequence[dict[str, float]],
) -> dict[str, Any]:
    """The figures of all rounds, and `correct`."""
    by_name = defaultdict(list)
    for outcome in outcomes:
        by_name[outcome.name].append(outcome)
    rows = {fault.name: _row(fault, by_name[fault.name]) for fault in faults if fault.name in by_name}
    judged = figures[int(WARM_SHARE * len(figures)) :]
    growth = {key: round(judged[-1][key] - judged[0][key], 1) for key in judged[0]}
    flat = growth["memory_mb"] <= MAX_GROWTH_MB and growth["threads"] <= 0 and growth["open_files"] <= 0
    wrong = sum(row["problems"] for row in rows.values())
    return {
        "faults": len(outcomes), "correct": not wrong and flat and max(stops_s) <= STOPPED_WITHIN_S,
        "with_problems": wrong, "slowest_stop_s": round(max(stops_s), 2), "stops": len(stops_s),
        "growth": growth, "first": judged[0], "last": judged[-1], "by_fault": rows,
    }  # fmt: skip


def _row(fault: Fault, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    named = [outcome.named_s for outcome in outcomes if outcome.named_s is not None]
    recovered = [outcome.recovered_s for outcome in outcomes if outcome.recovered_s is not None]
    return {
        "times": len(outcomes), "words": sorted({outcome.word for outcome in outcomes if outcome.word}),
        "named_s": [round(median(named), 2), max(named)] if named else None,
        "recovered_s": [round(median(recovered), 2), max(recovered)] if recovered else None,
        "numbers_meanwhile": 0 if fault.numbers else sum(outcome.numbers_meanwhile for outcome in outcomes),
        "wrong_numbers": sum(outcome.wrong_numbers for outcome in outcomes),
        "false_steps": sum(outcome.false_steps for outcome in outcomes),
        "problems": sum(bool(outcome.problems(fault)) for outcome in outcomes),
    }  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--times", type=int, default=50, help="how often each fault (default: %(default)s)")
    parser.add_argument("--only", default="", help="only faults with this in their name")
    parser.add_argument("--seed", type=int, default=1, help="of the first round (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="where the lines go (default: the standard output)")
    options = parser.parse_args(argv)
    cv2.setNumThreads(1)
    faults = [fault for fault in FAULTS if options.only in fault.name]
    out = options.out.open("w", encoding="utf-8") if options.out else sys.stdout
    outcomes: list[Outcome] = []
    stops_s, figures = [], []
    with out, tqdm(total=options.times * len(faults), unit="fault", disable=None) as progress:
        for seed in range(options.seed, options.seed + options.times):
            found, stopped_s = one_round(seed, faults, out, progress)
            outcomes += found
            stops_s.append(stopped_s)
            figures.append(process_figures())
            out.write(json.dumps({"round": seed, **figures[-1]}) + "\n")
        result = summary(faults, outcomes, stops_s, figures)
        out.write(json.dumps(result) + "\n")
    return 0 if result["correct"] else 1


if __name__ == "__main__":
    sys.exit(main())
