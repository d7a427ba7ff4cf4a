"""All scripted faults of streams, so many times each, at random moments, in one process and real time: what leaks.

    python -m tests.scripted.streams.soak --times 50 --out soak.jsonl
    python -m tests.scripted.streams.soak --times 60 --only "server killed" --rest 40    # an hour of it

The streams run side by side, each with a daemon of its own. Lines and exit code as in `tests.scripted.soak`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, TextIO

import cv2
from tqdm import tqdm

from device.bundles.bundle import DEFAULT_BUNDLE, load_bundle
from device.runtime.inputs.sources import stream_feed
from tests.scripted.faults import Fault
from tests.scripted.soak import process_figures, summary
from tests.scripted.stage import STOPPED_WITHIN_S, Outcome, Stage
from tests.scripted.streams.faults import FAULTS, LANES, Kind, make
from tests.scripted.streams.worlds import StreamWorld
from tests.streams.stream_servers import talk

FILMS = partial(talk, b_frames=False)
_LOADED_WITHIN_S = 60.0
_END_S = 5.0  # going back to the stamps or the codec from before is a fault as well


class Lane:
    """One stream, and the daemon that measures it."""

    def __init__(self, kind: Kind, faults: Sequence[Fault], seed: int) -> None:
        self.faults, self._rng = faults, Random(seed)
        self.world = kind(self._rng, FILMS)
        self.stage: Stage[StreamWorld] = Stage(
            self.world, [stream_feed(self.world.input)], bundle=load_bundle(DEFAULT_BUNDLE)
        )
        self.stage.wait_for(lambda report: True, 0, _LOADED_WITHIN_S)
        self.world.start()

    def round(self, rest_s: float) -> list[tuple[Fault, Outcome]]:
        """Each of its faults once, in a random order."""
        outcomes = []
        for fault in self._rng.sample(self.faults, len(self.faults)):
            outcome = self.stage.suffer(fault, rest_s=rest_s, end_s=_END_S)
            outcomes.append((fault, outcome))
            if outcome.problems(fault):
                tqdm.write(f"{fault.name}:\n{self._course()}", file=sys.stderr)
        return outcomes

    def _course(self) -> str:
        """The reports of the last fault, a line each."""
        reports = list(self.stage.sink.reports)
        return "\n".join(
            f"{(t_ns - reports[0][0]) / 1e9:6.1f} s  {report.state}  {report.fault}  {report.offset_ms} ms"
            f"  late by {report.latency_ms} ms"
            for t_ns, report in reports
        )

    def stop(self) -> float:
        """In the middle of a fault; how many seconds that took."""
        self._rng.choice(self.faults).begin(self.world)
        self.stage.clock.sleep(self._rng.uniform(0, 6))
        try:
            return self.stage.stop()
        finally:
            self.world.close()


def run(lanes: Sequence[Lane], times: int, rest_s: float, out: TextIO) -> dict[str, Any]:
    """All rounds, and what came of them."""
    outcomes: list[Outcome] = []
    figures = []
    with ThreadPoolExecutor(len(lanes)) as pool:
        for number in tqdm(range(times), unit="round", disable=None):
            for found in pool.map(partial(Lane.round, rest_s=rest_s), lanes):
                for fault, outcome in found:
                    outcomes.append(outcome)
                    write(fault, outcome, number, out)
            figures.append(process_figures())
            out.write(json.dumps({"round": number, **figures[-1]}) + "\n")
            out.flush()
        stops_s = list(pool.map(Lane.stop, lanes))
    if max(stops_s) > STOPPED_WITHIN_S:
        print(f"stopped in {max(stops_s):.2f} s", file=sys.stderr)
    return summary(FAULTS, outcomes, stops_s, figures)


def write(fault: Fault, outcome: Outcome, number: int, out: TextIO) -> None:
    problems = outcome.problems(fault)
    out.write(json.dumps({**outcome.to_dict(), "round": number, "problems": problems}) + "\n")
    if problems:
        tqdm.write(f"round {number}, {fault.name}: {'; '.join(problems)}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--times", type=int, default=50, help="how often each fault (default: %(default)s)")
    parser.add_argument("--only", default="", help="only faults with this in their name")
    parser.add_argument("--stream", type=int, help="only this one of the streams, counted from 1")
    parser.add_argument("--rest", type=float, default=0.0, metavar="S", help="how long to measure before each fault")
    parser.add_argument("--seed", type=int, default=1, help="of the first stream (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="where the lines go (default: the standard output)")
    options = parser.parse_args(argv)
    cv2.setNumThreads(1)
    lanes = LANES if options.stream is None else LANES[options.stream - 1 : options.stream]
    chosen = [(kind, [fault for fault in faults if options.only in fault.name]) for kind, faults in lanes]
    with ExitStack() as files:
        out = files.enter_context(options.out.open("w", encoding="utf-8")) if options.out else sys.stdout
        make(FILMS)
        streams = [Lane(kind, faults, options.seed + number) for number, (kind, faults) in enumerate(chosen) if faults]
        result = run(streams, options.times, options.rest, out)
        out.write(json.dumps(result) + "\n")
    return 0 if result["correct"] else 1


if __name__ == "__main__":
    sys.exit(main())
