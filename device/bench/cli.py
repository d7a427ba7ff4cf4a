"""The command `avdrift bench`."""

from __future__ import annotations

import argparse
from pathlib import Path

from device.bench.pipeline import SAMPLE, bench
from device.bench.streams import MAX_STREAMS, bench_streams
from device.bundles.bundle import DEFAULT_BUNDLE, DIRECT_BUNDLE
from device.bundles.model_kinds import DIRECT, TOWERS
from device.errors import UsageError

_BUILT_IN = {TOWERS.name: DEFAULT_BUNDLE, DIRECT.name: DIRECT_BUNDLE}


def add_bench_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    added = commands.add_parser("bench", help="measure what each stage costs on this computer, beside SyncNet")
    added.add_argument("--bundle", type=Path, help="folder with the models (default: the built-in ones of --model)")
    added.add_argument("--model", choices=list(_BUILT_IN), default=TOWERS.name, help="default: towers")
    added.add_argument("--source", metavar="FILE", help="the recording to work on (default: the built-in sample)")
    added.add_argument(
        "--streams", type=int, metavar="N", help="test instead whether this computer carries N streams in real time"
    )
    added.add_argument("--json", action="store_true", help="print one JSON object")


def bench_command(options: argparse.Namespace) -> int:
    if options.streams is not None:
        if not 1 <= options.streams <= MAX_STREAMS:
            remedy = f"Give 1 to {MAX_STREAMS}"
            raise UsageError(f"{options.streams} streams cannot be tried", where="--streams", remedy=remedy)
        bench_streams(options.streams, Path(options.source or SAMPLE), as_json=options.json)
        return 0
    bench(options.bundle or _BUILT_IN[options.model], options.source, as_json=options.json)
    return 0
