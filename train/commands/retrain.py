"""The commands of `avdrift-train` around a retraining: checking the data, the retraining itself, and the gate."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from device.bundles.bundle import DEFAULT_BUNDLE, load_bundle
from device.bundles.gate import gate_problem
from device.errors import InputFormatError, UsageError
from train.commands.shared import shards_parser
from train.files import make_folder, sha256, write_all
from train.models.backend import require_beam
from train.models.run_files import CHECKPOINT

_MAX_HOURS = 30.0
GATE = "gate"  # the stem of the gate's output files


def add_retrain_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add their parsers."""
    check = commands.add_parser("check", help="list what a folder of clips holds and what it is enough for")
    check.set_defaults(work_of=_check)
    check.add_argument("clips", type=Path, metavar="CLIPS", help="folder with clips.csv")
    harvest = commands.add_parser("harvest", help="cut clips out of long recordings: lectures, talks, an archive")
    harvest.set_defaults(work_of=_harvest)
    harvest.add_argument("folder", type=Path, metavar="FOLDER", help="recordings, also in subfolders")
    harvest.add_argument("out", type=Path, metavar="OUT", help="folder for the clips and their table")
    harvest.add_argument(
        "--max-hours", type=float, metavar="H", help="stop after this many hours of clips (default: 30)"
    )
    harvest.add_argument(
        "--corpus", default="harvest", metavar="NAME", help="name of the corpus in the table (harvest)"
    )
    harvest.add_argument(
        "--bundle", type=Path, default=DEFAULT_BUNDLE, help="models that select the clips (default: built in)"
    )
    harvest.add_argument(
        "--jobs", type=int, default=0, metavar="N", help="recordings at a time (default: one per core)"
    )
    harvest.add_argument("--beam", action="store_true", help="on Apache Beam; options such as --runner are its own")
    retrain = commands.add_parser(
        "retrain", help="run the whole training of a configuration file; continues where it stopped"
    )
    retrain.set_defaults(work_of=_retrain)
    retrain.add_argument("config", type=Path, metavar="CONFIG.toml", help="a copy of train/adapt.toml or default.toml")
    retrain.add_argument("--dry-run", action="store_true", help="only check the clips")
    gate = commands.add_parser(
        "gate", parents=[shards_parser()], help="compare a training run with the previous models"
    )
    gate.set_defaults(work_of=_gate)
    gate.add_argument("--run", type=Path, required=True, metavar="RUN", help="the folder that fit wrote")
    gate.add_argument("--calibration", type=Path, required=True, metavar="FILE.json", help="what calibrate wrote")
    gate.add_argument("--against", type=Path, default=DEFAULT_BUNDLE, metavar="BUNDLE", help="default: built in")
    gate.add_argument("--split", default="valid", help="which clips (default: valid)")
    gate.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for gate.json and gate.txt")
    gate.add_argument("--seed", type=int, default=0, help="random seed for the shifts")


def _check(options: argparse.Namespace) -> int:
    from train.retrain.check import check

    if check(options.clips, lambda line: print(line, flush=True)):
        return 0
    return InputFormatError.exit_code


def _harvest(options: argparse.Namespace) -> int:
    from train.harvest.run import harvest

    max_hours = _MAX_HOURS if options.max_hours is None else options.max_hours
    if not max_hours > 0 or options.jobs < 0:
        remedy = "Give hours above 0 and 0 jobs or more"
        raise UsageError("a value is out of range", where="avdrift-train harvest", remedy=remedy)
    count = harvest(
        options.folder, options.out, bundle=options.bundle, max_hours=max_hours, corpus=options.corpus,
        jobs=options.jobs,
    )  # fmt: skip
    _print_harvest(options.out, count)
    return 0


def harvest_with_beam(options: argparse.Namespace, of_beam: list[str]) -> int:
    """The same with Apache Beam. Raises UsageError if it is not installed, or for options that are not for it."""
    if options.jobs or options.max_hours is not None:
        remedy = "Leave them out, and give fewer recordings"
        what = "--jobs and --max-hours are of no use to Apache Beam"
        raise UsageError(what, where="avdrift-train harvest", remedy=remedy)
    require_beam()
    from train.harvest.on_beam import harvest_with_beam as on_beam

    count = on_beam(options.folder, options.out, of_beam, bundle=options.bundle, corpus=options.corpus)
    _print_harvest(options.out, count)
    return 0


def _print_harvest(out: Path, count: int) -> None:
    clips = f"{count} clip{'s' * (count != 1)}" if count else "no clip"
    print(f"{clips} in {out}; what was dropped, and why: {out / 'dropped.csv'}")
    if count:
        print(f"next: fill in licence and correct speaker in {out / 'clips.csv'}, then avdrift-train check {out}")


def _retrain(options: argparse.Namespace) -> int:
    from train.retrain.run import dry_run, retrain

    if options.dry_run:
        dry_run(options.config)
        return 0
    bundle = retrain(options.config)
    problem = gate_problem(load_bundle(bundle).manifest)
    then = f"no device accepts it by default: {problem}" if problem else "then avdrift-convert sign"
    print(f"{bundle}: try it with avdrift measure FILE --bundle {bundle}; {then}")
    return 0


def _gate(options: argparse.Namespace) -> int:
    from train.data.shards import load_split
    from train.evaluation.gate import Model, as_text, judge
    from train.models.load import read_calibration, towers_of_bundle, towers_of_run

    make_folder(options.out)
    towers, calibration, name = towers_of_run(options.run)
    calibration = read_calibration(options.calibration, calibration.logit_scale)
    towers = replace(towers, negative_reach_ticks=calibration.negative_reach_ticks)
    old_towers, old_calibration, label = towers_of_bundle(options.against)
    found = judge(
        load_split(options.shards, options.split), Model(name, towers, calibration),
        Model(label, old_towers, old_calibration), seed=options.seed,
    )  # fmt: skip
    of = {"weights_sha256": sha256(options.run / CHECKPOINT)}
    write_all(options.out / GATE, json=json.dumps(found.to_dict() | of, allow_nan=False), txt=as_text(found))
    print(as_text(found), end="")
    return 0
