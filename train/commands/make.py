"""The commands of `avdrift-train` that produce something: shards, offsets, trained models."""

from __future__ import annotations

import argparse
import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from device.bundles.bundle import load_bundle
from device.bundles.calibration import Calibration
from device.bundles.model_kinds import MEASURING
from device.errors import InputMissingError, UsageError
from device.features.model_download import require_face_model
from train.commands.shared import shards_parser
from train.files import check_parent, make_folder
from train.fit.config import RoomConfig
from train.fit.options import add_fit_options, add_options_of, config_of, fit_config
from train.models.backend import make_deterministic, require_beam, require_keras, require_tensorboard
from train.models.kinds import KINDS, named

if TYPE_CHECKING:
    from train.data.shards import Clip

_TRAINING = ("fit", "clean", "rooms")


def add_make_commands(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], command: str | None, model: str
) -> None:
    """Add their parsers. The options of a training run are added only if `command` is one, as they need TensorFlow."""
    shards = shards_parser()
    prepare = commands.add_parser("prepare", help="decode clips once, into shards")
    prepare.set_defaults(work_of=_prepare)
    prepare.add_argument("clips", metavar="CLIPS", help="folder with clips.csv")
    prepare.add_argument("out", metavar="OUT", help="folder for the shards")
    prepare.add_argument("--jobs", type=int, default=0, metavar="N", help="clips at a time (default: one per core)")
    prepare.add_argument("--prune", action="store_true", help="delete shards in OUT that no row of clips.csv names")
    prepare.add_argument("--beam", action="store_true", help="on Apache Beam; options such as --runner are its own")
    commands.add_parser("synth", add_help=False, help="render synthetic talking faces")  # has a parser of its own

    clean = commands.add_parser("clean", parents=[shards], help="measure the original offset of each training clip")
    clean.set_defaults(work_of=_clean)
    clean.add_argument(
        "--out", type=Path, required=True, metavar="OFFSETS.json", help="file for the offset of each clip"
    )
    clean.add_argument("--calibration", type=Path, metavar="CALIBRATION.json", help="also fit the confidence")
    clean.add_argument("--offsets", type=Path, metavar="EARLIER.json", help="table of a first round, for a second one")
    measured_by = clean.add_mutually_exclusive_group(required=True)
    measured_by.add_argument(
        "--work", type=Path, metavar="DIR", help="folder for two models, each trained on half of the clips"
    )
    measured_by.add_argument(
        "--bundle", type=Path, metavar="DIR", help="measure with these models, trained on other clips; takes minutes"
    )
    clean.add_argument(
        "--absolute", action="store_true", help="relative to the bundle's zero, not to the clips' median"
    )
    fit = commands.add_parser("fit", parents=[shards], help="train a model; continues where it was interrupted")
    fit.set_defaults(work_of=_fit)
    fit.add_argument("--model", choices=tuple(KINDS), default="towers", help="its options follow (default: towers)")
    fit.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder for checkpoints and log")
    fit.add_argument("--offsets", type=Path, metavar="OFFSETS.json", help="what clean wrote")
    _add_source(fit)
    fit.add_argument(
        "--strategy", choices=("none", "mirrored", "multiworker"), default="none",
        help="mirrored: all GPUs of this machine; multiworker: the cluster in TF_CONFIG (default: none)",
    )  # fmt: skip
    fit.add_argument(
        "--teacher", type=Path, action="append", default=[], metavar="RUN",
        help="a finished run of towers; start from the first of these, and distil the mean of all",
    )  # fmt: skip
    fit.add_argument(
        "--from-bundle", type=Path, metavar="BUNDLE", help="start from these models, and train the last layers"
    )
    fit.add_argument("--tensorboard", type=Path, metavar="DIR", help="folder for TensorBoard logs, of towers only")
    rooms = commands.add_parser(
        "rooms", parents=[shards], help="make the audio encoder of finished models robust to rooms and noise"
    )
    rooms.set_defaults(work_of=_rooms)
    rooms.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder for checkpoints and log")
    rooms.add_argument(
        "--start", type=Path, required=True, metavar="RUN|BUNDLE", help="a finished run of towers, or a bundle"
    )
    _add_source(rooms)
    if command in _TRAINING:
        add_options_of(RoomConfig, rooms)
        add_fit_options(clean)
        add_fit_options(fit, model=model if model in KINDS else "towers")

    ablation = commands.add_parser(
        "ablate", parents=[shards], help="train the original direct network, one improvement at a time"
    )
    ablation.set_defaults(work_of=_ablate)
    ablation.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the runs and the table")
    ablation.add_argument("--offsets", type=Path, metavar="OFFSETS.json", help="what clean wrote")
    ablation.add_argument("--steps", type=int, default=400, metavar="N", help="batches of each run (default: 400)")
    ablation.add_argument("--page", type=Path, metavar="FILE.md", help="put the table into this page too")
    ablation.add_argument("--stretches", type=int, default=16, metavar="N", help="windows per batch (default: 16)")


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--source", type=Path, action="append", default=[], metavar="FILE",
        help="a file that the shards came from, such as clips.csv, for the hashes in provenance.json",
    )  # fmt: skip


def _prepare(options: argparse.Namespace) -> int:
    from train.data.landmarks import fetch_landmark_model
    from train.data.prepare import prepare

    if options.jobs < 0:
        raise UsageError(f"{options.jobs} is not possible", where="--jobs", remedy="Give 0 or more")
    require_face_model()  # here, so that a failure is reported once and not per clip
    fetch_landmark_model()
    make_folder(Path(options.out))
    prepare(Path(options.clips), Path(options.out), jobs=options.jobs, prune=options.prune)
    return 0


def prepare_with_beam(options: argparse.Namespace, of_beam: list[str]) -> int:
    if options.jobs:
        remedy = "Give --direct_num_workers, or the runner's own option"
        raise UsageError("--jobs has no effect with Apache Beam", where="avdrift-train prepare", remedy=remedy)
    require_beam()
    from train.data.prepare_beam import prepare_with_beam

    prepare_with_beam(options.clips, options.out, of_beam)
    return 0


def _clean(options: argparse.Namespace) -> int:
    config = fit_config(options)
    if options.absolute and not options.bundle:
        remedy = "Leave it out, or give --bundle"
        raise UsageError("two new models have no known zero", where="--absolute", remedy=remedy)
    make_deterministic()
    check_parent(options.out)
    if options.calibration:
        check_parent(options.calibration)
    from train.offsets.clean import clean, tracks_by_bundle, tracks_by_halves

    if options.bundle:
        bundle = load_bundle(options.bundle, MEASURING)
        tracks, calibration = tracks_by_bundle(_splits(options.shards, options.offsets)[0], bundle), bundle.calibration
    else:
        make_folder(options.work)
        tracks = tracks_by_halves(*_splits(options.shards, options.offsets), config, options.work)
        calibration = Calibration()
    earlier = json.loads(options.offsets.read_text(encoding="utf-8")) if options.offsets else None
    clean(tracks, calibration, options.out, options.calibration, earlier, absolute=options.absolute)
    return 0


def _fit(options: argparse.Namespace) -> int:
    config = fit_config(options, options.model)
    if options.strategy != "none" and options.model != "towers":
        what = f"only towers, not {options.model}, can be trained on several devices"
        raise UsageError(what, where="--strategy", remedy="Omit it, or train towers")
    if options.teacher and options.model != "towers":
        what = f"only towers, not {options.model}, can be trained with teachers"
        raise UsageError(what, where="--teacher", remedy="Omit it, or train towers")
    if options.from_bundle and (options.teacher or options.model != "towers"):
        what = "--from-bundle is for towers without teachers"
        raise UsageError(what, where="--from-bundle", remedy="Leave it out, or the other option")
    if options.out.resolve() in [run.resolve() for run in options.teacher]:
        where, remedy = str(options.out), "Give another folder as --out"
        raise UsageError("a run cannot be its own teacher", where=where, remedy=remedy)
    if options.teacher or options.from_bundle:  # which were pretrained
        config = replace(config, phone_steps=0, shape_steps=0)
    if options.tensorboard:
        require_tensorboard()
    make_folder(options.out)
    from train.fit.strategies import workers

    together = workers(options.strategy)  # first of all: it needs TensorFlow untouched
    make_deterministic()
    train, validation = _splits(options.shards, options.offsets)
    if getattr(config, "picture", "mouth") == "face":
        from train.fit.direct_batches import with_faces

        train, validation = with_faces(train, options.shards), with_faces(validation, options.shards)
    from train.models.provenance import recorded

    fit = named(KINDS[options.model].fit)
    more = [together, options.teacher, options.from_bundle, options.tensorboard] if options.model == "towers" else []
    recording = recorded(options.out, config, options.shards, options.offsets, options.source, options.teacher)
    with recording if together.is_chief else nullcontext():
        fit(train, validation, options.out, config, *more)
    return 0


def _rooms(options: argparse.Namespace) -> int:
    config = config_of(options, RoomConfig)
    require_keras()
    if options.out.resolve() == options.start.resolve():
        what, remedy = "a run cannot start as itself", "Give another folder as --out"
        raise UsageError(what, where=str(options.out), remedy=remedy)
    make_folder(options.out)
    make_deterministic()
    train, validation = _splits(options.shards)
    from train.fit.rooms import fit_rooms
    from train.models.provenance import recorded

    with recorded(options.out, config, options.shards, None, options.source, start=options.start):
        fit_rooms(train, validation, options.out, config, options.start)
    return 0


def _splits(shards: list[Path], offsets: Path | None = None) -> tuple[list[Clip], list[Clip]]:
    """Training and validation clips. Raises CaptureError."""
    from train.data.shards import load_clips, require_clips_of_each
    from train.offsets.table import read_offsets

    if offsets is not None:
        read_offsets(offsets)  # fail with a message before the clips are loaded
    require_clips_of_each(shards, offsets)
    clips = load_clips(shards, offsets)
    train = [clip for clip in clips if clip.split == "train"]
    if not train:
        where = ", ".join(map(str, shards))
        raise InputMissingError("no clip of the split 'train'", where=where, remedy="Check the split in clips.csv")
    return train, [clip for clip in clips if clip.split == "valid"]


def _ablate(options: argparse.Namespace) -> int:
    require_keras()
    if options.steps < 1 or options.stretches < 1:
        raise UsageError("a value is not positive", where="avdrift-train ablate", remedy="Give 1 or more")
    make_folder(options.out)
    from train.comparison.ablation import ablate, as_markdown
    from train.markdown import put_into

    train, validation = _splits(options.shards, options.offsets)
    found = ablate(
        train, validation, options.shards, options.out, steps=options.steps, stretches=options.stretches
    )  # fmt: skip
    print(as_markdown(found), end="")
    if options.page is not None:
        put_into(options.page, "ablation", as_markdown(found))
    return 0
