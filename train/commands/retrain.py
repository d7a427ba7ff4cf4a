"""The commands of `avdrift-train` around a whole retraining: what there is, all of it, and whether it is any better."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from device.bundles.bundle import DEFAULT_BUNDLE
from device.errors import InputFormatError
from train.commands.shared import shards_parser
from train.files import make_folder, sha256, write_all
from train.models.run_files import CHECKPOINT

GATE = "gate"  # the stem of the files that it writes


def add_retrain_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Their parsers."""
    check = commands.add_parser("check", help="what there is in a folder of clips, and what it is enough for")
    check.set_defaults(work_of=_check)
    check.add_argument("clips", type=Path, metavar="CLIPS", help="folder with clips.csv")
    retrain = commands.add_parser("retrain", help="all of it, as one configuration file says; goes on where it was")
    retrain.set_defaults(work_of=_retrain)
    retrain.add_argument("config", type=Path, metavar="CONFIG.toml", help="a copy of train/adapt.toml or default.toml")
    retrain.add_argument("--dry-run", action="store_true", help="check the clips, and stop there")
    gate = commands.add_parser("gate", parents=[shards_parser()], help="a training run beside the models before it")
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


def _retrain(options: argparse.Namespace) -> int:
    from train.retrain.run import dry_run, retrain

    if options.dry_run:
        dry_run(options.config)
        return 0
    bundle = retrain(options.config)
    print(f"{bundle}: try it with avdrift measure FILE --bundle {bundle}, then avdrift-convert sign")
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
