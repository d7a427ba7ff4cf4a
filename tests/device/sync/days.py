"""False calls of drift and of steps in simulated days, and how soon 50 ppm are called.

    python -m tests.device.sync.days [--days 3] [--runs 20]

One report a second with 40 ms of noise, of which every fifth is wrong: evenly from as far around the truth as told.
Asked: less than one false drift and one false step a day; 50 ppm within 15 minutes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator

import numpy as np
from tqdm import tqdm

from device.records import DriftClass
from device.sync.drift import Drift, DriftState, update

DAY_S = 86_400
NOISE_MS = 40.0
WRONG_SHARE = 0.2


def reports(
    random: np.random.Generator, ppm: float, wrong_reach_ms: float, count: int
) -> Iterator[tuple[float, Drift]]:
    """(time, what is known then) of each report."""
    state = DriftState()
    offsets_ms = ppm * np.arange(count) / 1000 + random.normal(0, NOISE_MS, count)
    wrong = random.random(count) < WRONG_SHARE
    offsets_ms[wrong] = random.uniform(-wrong_reach_ms, wrong_reach_ms, int(wrong.sum()))
    for t_s, offset_ms in enumerate(offsets_ms):
        state, found = update(state, float(t_s), float(offset_ms), NOISE_MS, window_s=1.0)
        yield t_s, found


def quiet_day(random: np.random.Generator, wrong_reach_ms: float) -> tuple[int, int]:
    """How often a drift, and how often a step, is called where there is none."""
    drifts = steps = 0
    drifting = False
    for _, found in reports(random, 0.0, wrong_reach_ms, DAY_S):
        steps += found.step_ms is not None
        drifts += found.kind is DriftClass.DRIFTING and not drifting
        drifting = found.kind is DriftClass.DRIFTING
    return drifts, steps


def called_after_s(random: np.random.Generator, ppm: float, wrong_reach_ms: float) -> float | None:
    """When a drift is called first, within an hour."""
    drifting = (t_s for t_s, found in reports(random, ppm, wrong_reach_ms, 3600) if found.kind is DriftClass.DRIFTING)
    return next(drifting, None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=3)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random = np.random.default_rng(options.seed)
    for reach_ms in (400.0, 1200.0):
        days = [quiet_day(random, reach_ms) for _ in tqdm(range(options.days), "days", disable=None)]
        called = [called_after_s(random, 50.0, reach_ms) for _ in range(options.runs)]
        print(json.dumps({
            "wrong_reach_ms": reach_ms, "false_drifts": [d for d, _ in days], "false_steps": [s for _, s in days],
            "called_after_s": sorted(t_s for t_s in called if t_s is not None), "never": called.count(None),
        }), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
