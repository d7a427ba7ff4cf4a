"""The command of `avdrift-train` that makes the page of results."""

from __future__ import annotations

import argparse
from pathlib import Path

from device.bundles.bundle import DEFAULT_BUNDLE
from device.errors import UsageError

_PARTS = ("own-offsets", "windows", "daily", "sliced", "two-speakers", "trust", "models", "degraded", "unmeasurable")


def add_results_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add its parser."""
    results = commands.add_parser("results", help="run all evaluations of a bundle and make the page of results")
    results.set_defaults(work_of=_results)
    results.add_argument(
        "sets", nargs="+", metavar="[TITLE=]CLIPS",
        help="folder with clips.csv, and its title on the page; the long parts are run on the first one only",
    )  # fmt: skip
    results.add_argument("--out", type=Path, required=True, metavar="PAGE.md", help="page with the marks `results`")
    results.add_argument(
        "--work", type=Path, required=True, metavar="DIR", help="folder for what each part found; a later call goes on"
    )
    results.add_argument("--again", action="append", default=[], choices=_PARTS, metavar="PART",
                         help=f"run this part again, even if it is up to date: {', '.join(_PARTS)}")  # fmt: skip
    results.add_argument("--without", action="append", default=[], choices=_PARTS[1:], metavar="PART",
                         help="leave this part out, on the page as well")  # fmt: skip
    results.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE, help="folder of models (default: built in)")
    results.add_argument("--split", default="valid", help="which clips (default: valid)")
    results.add_argument("--seed", type=int, default=0, help="random seed")
    results.add_argument("--jobs", type=int, default=0, metavar="N", help="clips at a time (default: one per core)")
    results.add_argument("--copies", type=int, default=4, metavar="N", help="sliced: shifts per clip (default: 4)")
    results.add_argument(
        "--hours", type=float, default=3.0, metavar="H", help="unmeasurable: hours of recording (default: 3)"
    )
    results.add_argument("--degraded-clips", type=int, metavar="N", help="degraded: at most N clips (default: all)")


def _results(options: argparse.Namespace) -> int:
    from train.markdown import around, put_into
    from train.results.page import MARK, page
    from train.results.parts import Settings
    from train.results.run import clip_set, measured

    possible = 1 <= options.copies <= 100 and 0.01 <= options.hours <= 1000 and options.jobs >= 0
    if not possible or (options.degraded_clips is not None and options.degraded_clips < 1):
        remedy = "Give 1 to 100 copies, 0.01 to 1000 h, at least one degraded clip and jobs of at least 0"
        raise UsageError("a value is out of range", where="avdrift-train results", remedy=remedy)
    around(options.out, MARK)  # before hours of work
    sets = [clip_set(*_titled(given), options.work) for given in options.sets]
    if len({clips.work for clips in sets}) < len(sets):
        remedy = "Give each set a title of its own: TITLE=CLIPS"
        raise UsageError("two sets have the same title", where="avdrift-train results", remedy=remedy)
    settings = Settings(
        options.bundle,
        options.split,
        options.seed,
        options.jobs,
        copies=options.copies,
        hours=options.hours,
        degraded_clips=options.degraded_clips,
    )
    put_into(options.out, MARK, page(measured(sets, settings, options.again, options.without)))
    return 0


def _titled(given: str) -> tuple[str, Path]:
    """The title and the folder of a set; without a title, the folder's name is one."""
    title, equals, folder = given.rpartition("=")
    return (title, Path(folder)) if equals else (Path(given).resolve().name, Path(given))
