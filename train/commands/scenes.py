"""The commands of `avdrift-train` that compose recordings and evaluate the reports on them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from device.bundles.bundle import DEFAULT_BUNDLE
from device.errors import UsageError


def add_scene_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands, each with the function that does its work."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("clips", type=Path, metavar="CLIPS", help="folder with clips.csv")
    shared.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE, help="folder of models (default: built in)")
    shared.add_argument("--split", default="valid", help="which clips (default: valid)")
    shared.add_argument("--window", type=float, default=5.0, metavar="S", help="seconds (default: %(default)g)")
    shared.add_argument("--seed", type=int, default=0, help="random seed")
    shared.add_argument("--jobs", type=int, default=0, metavar="N", help="recordings at a time (default: one per core)")

    about = "two people side by side, one of them heard: whose offset is reported"
    two_speakers = commands.add_parser("two-speakers", aliases=["beside"], parents=[shared], help=about)
    two_speakers.set_defaults(work_of=_two_speakers)

    about = "degraded video and audio: how often there is a number, and whether it is right"
    degraded = commands.add_parser("degraded", aliases=["hard"], parents=[shared], help=about)
    degraded.set_defaults(work_of=_degraded)

    about = "continuous speech of one person: how soon and how often the daemon has a number, and whether it is right"
    daily = commands.add_parser("daily", parents=[shared], help=about)
    daily.set_defaults(work_of=_daily)

    about = "hours of input that cannot be measured: how often there is a number"
    unmeasurable = commands.add_parser("unmeasurable", aliases=["hopeless"], parents=[shared], help=about)
    unmeasurable.set_defaults(work_of=_unmeasurable)
    unmeasurable.add_argument(
        "--hours", type=float, default=3.0, metavar="H", help="hours of recording (default: %(default)g)"
    )


def _two_speakers(options: argparse.Namespace) -> int:
    from train.scenes.two_speakers import two_speakers

    return _judge(options, two_speakers)


def _degraded(options: argparse.Namespace) -> int:
    from train.scenes.degraded import degraded

    return _judge(options, degraded)


def _daily(options: argparse.Namespace) -> int:
    from train.scenes.daily import daily

    return _judge(options, daily)


def _judge(options: argparse.Namespace, work: Callable[..., dict[str, Any]]) -> int:
    _require(0.5 <= options.window <= 3600 and options.jobs >= 0, "Give a window of 0.5 to 3600 s")
    found = work(
        options.clips, options.bundle, split=options.split, window_s=options.window, seed=options.seed,
        jobs=options.jobs,
    )  # fmt: skip
    print(json.dumps(found, indent=1))
    return 0


def _unmeasurable(options: argparse.Namespace) -> int:
    from train.scenes.unmeasurable import unmeasurable

    possible = 0.5 <= options.window <= 3600 and 0.01 <= options.hours <= 1000 and options.jobs >= 0
    _require(possible, "Give a window of 0.5 to 3600 s and 0.01 to 1000 h")
    found = unmeasurable(
        options.clips, options.bundle, split=options.split, hours=options.hours, window_s=options.window,
        seed=options.seed, jobs=options.jobs,
    )  # fmt: skip
    print(json.dumps(found, indent=1))
    return 0


def _require(possible: bool, remedy: str) -> None:
    if not possible:
        raise UsageError("a value is out of range", where="avdrift-train", remedy=remedy)
