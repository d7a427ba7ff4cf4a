"""The command `avdrift-train`: from recordings to trained towers, and how good they are.

Exit codes as those of `avdrift`: 0 done, 2 usage, 3 input files, 4 model. TensorFlow is imported only where it is used.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from device import __version__
from device.command import guarded
from device.errors import InputMissingError, UsageError
from device.features.fetch import require_face_model
from device.towers.bundle import DEFAULT_BUNDLE, load_bundle
from train.fit_options import CONFIGS, add_fit_options, fit_config, require_tensorflow

if TYPE_CHECKING:
    from train.data import Clip

_TRAINING = ("fit", "clean")
_FITS = {"towers": "fit", "syncnet": "fit_syncnet", "direct": "fit_direct"}
_MIN_TRUTH_CONFIDENCE = 0.3
_SURE_TRUTH = 0.95  # who judges single windows and reports must know what is right


def build_parser(command: str | None = None, model: str = "towers") -> argparse.ArgumentParser:
    """The parser; the options of a training run are known only when `command` is one, as they need TensorFlow."""
    parser = argparse.ArgumentParser(prog="avdrift-train", description="Makes the models of avdrift.")
    parser.add_argument("--version", action="version", version=f"avdrift {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    prepare = commands.add_parser("prepare", help="decode clips once, into shards")
    prepare.add_argument("clips", metavar="CLIPS", help="folder with clips.csv")
    prepare.add_argument("out", metavar="OUT", help="folder for the shards")
    prepare.add_argument("--jobs", type=int, default=0, metavar="N", help="clips at once (default: one a core)")
    prepare.add_argument("--beam", action="store_true", help="on Apache Beam; options such as --runner are its own")
    commands.add_parser("synth", add_help=False, help="render synthetic talking faces")  # has a parser of its own

    shards = argparse.ArgumentParser(add_help=False)
    shards.add_argument("shards", type=Path, nargs="+", metavar="SHARDS", help="folder that prepare filled")
    clean = commands.add_parser("clean", parents=[shards], help="measure how far each training clip is off by itself")
    clean.add_argument("--out", type=Path, required=True, metavar="OFFSETS.json")
    clean.add_argument("--calibration", type=Path, metavar="CALIBRATION.json", help="also fit the confidence")
    clean.add_argument("--offsets", type=Path, metavar="EARLIER.json", help="of a first round, to do a second one")
    clean.add_argument("--work", type=Path, required=True, metavar="DIR", help="for the two half-trained pairs")
    fit = commands.add_parser("fit", parents=[shards], help="train a model; goes on where it was interrupted")
    fit.add_argument("--model", choices=tuple(CONFIGS), default="towers", help="its options follow (default: towers)")
    fit.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder for checkpoints and log")
    fit.add_argument("--offsets", type=Path, metavar="OFFSETS.json", help="what clean wrote")
    fit.add_argument(
        "--strategy", choices=("none", "mirrored", "multiworker"), default="none",
        help="mirrored: all GPUs of this machine; multiworker: the cluster in TF_CONFIG (default: none)",
    )  # fmt: skip
    if command in _TRAINING:
        add_fit_options(clean)
        add_fit_options(fit, model=model if model in CONFIGS else "towers")

    calibrate = commands.add_parser("calibrate", parents=[shards], help="fit the confidence of a trained pair")
    calibrate.add_argument("--run", type=Path, required=True, metavar="RUN", help="the folder that fit wrote")
    calibrate.add_argument("--split", default="valid", help="clips that the pair never saw (default: valid)")
    calibrate.add_argument("--out", type=Path, required=True, metavar="CALIBRATION.json")

    evaluate = commands.add_parser("evaluate", parents=[shards], help="how good a tower pair or a bundle is")
    what = evaluate.add_mutually_exclusive_group()
    what.add_argument("--run", type=Path, metavar="RUN", help="the folder that fit wrote")
    what.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE, help="folder with the models (default: built in)")
    evaluate.add_argument("--split", default="valid", help="which clips (default: valid)")
    evaluate.add_argument("--calibration", type=Path, metavar="FILE.json", help="instead of the model's own")
    evaluate.add_argument("--offsets", type=Path, metavar="FILE.json", help="truth made by another model")
    evaluate.add_argument("--out", type=Path, metavar="DIR", help="also write tables and plots there")
    evaluate.add_argument("--seed", type=int, default=0, help="of the shifts")
    evaluate.add_argument("--json", action="store_true", help="print JSON instead of tables")

    zero = commands.add_parser("zero", parents=[shards], help="where the zero is, by lips that part as /p b m/ sound")
    whose = zero.add_mutually_exclusive_group()
    whose.add_argument("--run", type=Path, metavar="RUN", help="of the towers in the folder that fit wrote")
    whose.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE, help="of these towers (default: built in)")
    whose.add_argument("--offsets", type=Path, metavar="OFFSETS.json", help="of the table that clean wrote")
    zero.add_argument("--calibration", type=Path, metavar="FILE.json", help="write the towers' zero into this file")
    zero.add_argument("--out", type=Path, metavar="MOVED.json", help="write the table, counted from the physical zero")
    zero.add_argument("--seed", type=int, default=0, help="of the bootstrap")

    ablation = commands.add_parser("ablate", parents=[shards], help="the origin's direct network, remedy by remedy")
    ablation.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the runs and the table")
    ablation.add_argument("--offsets", type=Path, metavar="OFFSETS.json", help="what clean wrote")
    ablation.add_argument("--steps", type=int, default=400, metavar="N", help="batches of each run (default: 400)")
    ablation.add_argument("--page", type=Path, metavar="FILE.md", help="put the table into this page too")
    ablation.add_argument("--stretches", type=int, default=16, metavar="N", help="windows in each (default: 16)")

    report = commands.add_parser("report", parents=[shards], help="all models on the same windows, in one table")
    report.add_argument("--run", type=Path, action="append", default=[], metavar="RUN", help="a folder that fit wrote")
    report.add_argument("--bundle", type=Path, action="append", default=[], metavar="DIR", help="a tower pair's bundle")
    report.add_argument("--reference", type=Path, default=DEFAULT_BUNDLE, help="bundle that tells the truth")
    report.add_argument("--offsets", type=Path, metavar="FILE.json", help="the truth, in place of --reference")
    report.add_argument("--split", default="valid", help="which clips (default: valid)")
    report.add_argument("--out", type=Path, metavar="DIR", help="also write tables and plots there")
    report.add_argument("--page", type=Path, metavar="FILE.md", help="put the tables into this page too")
    report.add_argument("--seed", type=int, default=0, help="of the shifts")
    report.add_argument("--json", action="store_true", help="print JSON instead of tables")
    trust = commands.add_parser("trust", parents=[shards], help="whether reports can be trusted, over steps as well")
    trust.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE, help="folder with the models (default: built in)")
    trust.add_argument("--split", default="valid", help="which clips (default: valid)")
    trust.add_argument("--window", type=float, default=5.0, metavar="S", help="seconds (default: 5)")
    trust.add_argument("--rounds", type=int, default=5, metavar="N", help="how often each clip comes (default: 5)")
    trust.add_argument("--seed", type=int, default=0, help="of the order and the shifts")

    beside = commands.add_parser("beside", help="two people side by side, one of them heard: whose offset is reported")
    beside.add_argument("clips", type=Path, metavar="CLIPS", help="folder with clips.csv")
    beside.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE, help="folder of models (default: built in)")
    beside.add_argument("--split", default="valid", help="which clips (default: valid)")
    beside.add_argument("--window", type=float, default=5.0, metavar="S", help="seconds (default: %(default)g)")
    beside.add_argument("--seed", type=int, default=0, help="of the pairs and shifts")
    beside.add_argument("--jobs", type=int, default=0, metavar="N", help="scenes at once (default: one a core)")
    hopeless = commands.add_parser("hopeless", help="hours of what nothing can be measured on: what is reported of it")
    hopeless.add_argument("clips", type=Path, metavar="CLIPS", help="folder with clips.csv")
    hopeless.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE, help="folder of models (default: built in)")
    hopeless.add_argument("--split", default="valid", help="which clips (default: valid)")
    hopeless.add_argument("--hours", type=float, default=3.0, metavar="H", help="of recording (default: %(default)g)")
    hopeless.add_argument("--window", type=float, default=5.0, metavar="S", help="seconds (default: %(default)g)")
    hopeless.add_argument("--seed", type=int, default=0, help="of everything random")
    hopeless.add_argument("--jobs", type=int, default=0, metavar="N", help="minutes at once (default: one a core)")
    check = commands.add_parser("check", help="avdrift measure on really sliced files, against their truth")
    check.add_argument("clips", type=Path, metavar="CLIPS", help="folder with clips.csv")
    check.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE, help="folder with the models (default: built in)")
    check.add_argument("--split", default="valid", help="which clips (default: valid)")
    check.add_argument("--window", type=float, default=2.0, metavar="S", help="seconds (default: 2)")
    check.add_argument("--max-shift-ms", type=float, default=600.0, help="largest shift (default: 600)")
    check.add_argument("--copies", type=int, default=1, metavar="N", help="shifts of each clip (default: 1)")
    check.add_argument("--seed", type=int, default=0, help="of the shifts")
    check.add_argument("--jobs", type=int, default=0, metavar="N", help="clips at once (default: one a core)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow loads, or it talks
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = next((word for word in arguments if not word.startswith("-")), None)
    return guarded("avdrift-train", lambda: _run(command, arguments))


def _run(command: str | None, arguments: list[str]) -> int:
    if command == "synth":
        from train import synth

        return synth.main(arguments[arguments.index(command) + 1 :])
    parser = build_parser(command, _model_of(arguments))
    options, of_beam = parser.parse_known_args(arguments)
    if getattr(options, "beam", False):
        return _prepare_with_beam(options, of_beam)
    if of_beam:
        parser.error(f"unrecognized arguments: {' '.join(of_beam)}")
    return _COMMANDS[options.command](options)


def _model_of(arguments: list[str]) -> str:
    """What `--model` says, if anything: it decides which options there are."""
    early = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    early.add_argument("--model", nargs="?", default="towers")
    return str(early.parse_known_args(arguments)[0].model)


def _prepare(options: argparse.Namespace) -> int:
    from train.landmarks import fetch_landmark_model
    from train.prepare import prepare

    if options.jobs < 0:
        raise UsageError(f"{options.jobs} is not possible", where="--jobs", remedy="Give 0 or more")
    require_face_model()  # or each clip by itself would complain
    fetch_landmark_model()
    _make_folder(Path(options.out))
    prepare(Path(options.clips), Path(options.out), jobs=options.jobs)
    return 0


def _prepare_with_beam(options: argparse.Namespace, of_beam: list[str]) -> int:
    if options.jobs:
        remedy = "Give --direct_num_workers, or what the runner has in its place"
        raise UsageError("--jobs is of no use to Apache Beam", where="avdrift-train prepare", remedy=remedy)
    try:
        from train.beam_prepare import prepare_with_beam
    except ImportError as error:
        remedy = "Install avdrift with it: pip install 'avdrift[beam]'"
        raise UsageError(f"Apache Beam cannot be imported ({error})", where="--beam", remedy=remedy) from error
    prepare_with_beam(options.clips, options.out, of_beam)
    return 0


def _clean(options: argparse.Namespace) -> int:
    config = fit_config(options)
    _check_parent(options.out)
    if options.calibration:
        _check_parent(options.calibration)
    _make_folder(options.work)
    from train.clean import clean

    train, validation = _splits(options.shards, options.offsets)
    earlier = json.loads(options.offsets.read_text(encoding="utf-8")) if options.offsets else None
    clean(train, validation, options.out, config, options.work, options.calibration, earlier)
    return 0


def _fit(options: argparse.Namespace) -> int:
    config = fit_config(options, options.model)
    if options.strategy != "none" and options.model != "towers":
        what = f"only towers, not {options.model}, can be trained by several"
        raise UsageError(what, where="--strategy", remedy="Leave it out, or train towers")
    _make_folder(options.out)
    from train.distribute import workers

    together = workers(options.strategy)  # first of all: it must find TensorFlow untouched
    train, validation = _splits(options.shards, options.offsets)
    if getattr(config, "picture", "mouth") == "face":
        from train.direct_batches import with_faces

        train, validation = with_faces(train, options.shards), with_faces(validation, options.shards)
    fit = import_module(CONFIGS[options.model][0])
    more = [together] if options.model == "towers" else []
    getattr(fit, _FITS[options.model])(train, validation, options.out, config, *more)
    return 0


def _splits(shards: list[Path], offsets: Path | None = None) -> tuple[list[Clip], list[Clip]]:
    """Training and validation clips. Raises CaptureError."""
    from train.data import load_clips
    from train.evaluate import read_offsets

    if offsets is not None:
        read_offsets(offsets)  # before the clips are loaded, and with a message
    clips = load_clips(shards, offsets)
    train = [clip for clip in clips if clip.split == "train"]
    if not train:
        where = ", ".join(map(str, shards))
        raise InputMissingError("no clip of the split 'train'", where=where, remedy="Check the split in clips.csv")
    return train, [clip for clip in clips if clip.split == "valid"]


def _calibrate(options: argparse.Namespace) -> int:
    import numpy as np

    from train.calibrate import fitted
    from train.evaluate import load_split
    from train.load_towers import towers_of_run
    from train.measure import own_offset, track

    _check_parent(options.out)
    towers, calibration, _ = towers_of_run(options.run)
    tracks = [track(clip, towers) for clip in load_split(options.shards, options.split)]
    # The truth of a clip that is itself unsure would teach doubt where there is none.
    truths = [(t, *own_offset(t, calibration)) for t in tracks]
    sure = [(t, offset_ms) for t, offset_ms, confidence in truths if confidence >= _MIN_TRUTH_CONFIDENCE]
    found = fitted([t for t, _ in sure], [offset_ms for _, offset_ms in sure], np.random.default_rng(0))
    options.out.write_text(json.dumps(asdict(found.calibration), indent=1), encoding="utf-8")
    print(json.dumps(found.to_dict() | {"clips": len(sure), "left_out": len(truths) - len(sure)}))
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from train.evaluate import evaluate, load_split, read_offsets
    from train.load_towers import read_calibration, towers_of_bundle, towers_of_run
    from train.tables import as_markdown, as_text

    offsets_ms = read_offsets(options.offsets) if options.offsets else None
    if options.out is not None:
        _make_folder(options.out)
    towers, calibration, model = towers_of_run(options.run) if options.run else towers_of_bundle(options.bundle)
    if options.calibration:
        calibration = read_calibration(options.calibration, calibration.logit_scale)
    found = evaluate(
        load_split(options.shards, options.split), towers, calibration, model=model, offsets_ms=offsets_ms,
        offsets_name=str(options.offsets), seed=options.seed,
    )  # fmt: skip
    as_json = json.dumps(found.to_dict(), allow_nan=False, ensure_ascii=False)
    print(as_json if options.json else as_text(found))
    if options.out is not None:
        from train.plots import save

        for name, content in (("json", as_json), ("md", as_markdown(found)), ("txt", as_text(found))):
            (options.out / f"evaluation.{name}").write_text(content, encoding="utf-8")
        save(found, options.out)
    return 0


def _zero(options: argparse.Namespace) -> int:
    from train.load_towers import towers_of_bundle, towers_of_run
    from train.zero_run import zero_of_table, zero_of_towers

    wrong = options.calibration if options.offsets else options.out
    if wrong:
        remedy = "Give --calibration with towers, and --out with --offsets"
        raise UsageError("does not go with the other options", where=str(wrong), remedy=remedy)
    for file in filter(None, (options.calibration, options.out)):
        _check_parent(file)
    if options.offsets:
        found = zero_of_table(options.shards, options.offsets, options.out, options.seed)
    else:
        towers, calibration, _ = towers_of_run(options.run) if options.run else towers_of_bundle(options.bundle)
        found = zero_of_towers(options.shards, towers, calibration, options.calibration, options.seed)
    print(json.dumps(found.to_dict(), ensure_ascii=False, indent=1))
    return 0


def _ablate(options: argparse.Namespace) -> int:
    require_tensorflow()
    if options.steps < 1 or options.stretches < 1:
        raise UsageError("a value is not positive", where="avdrift-train ablate", remedy="Give 1 or more")
    _make_folder(options.out)
    from train.ablation import ablate, as_markdown
    from train.pages import put_into

    train, validation = _splits(options.shards, options.offsets)
    found = ablate(
        train, validation, options.shards, options.out, steps=options.steps, stretches=options.stretches
    )  # fmt: skip
    print(as_markdown(found), end="")
    if options.page is not None:
        put_into(options.page, "ablation", as_markdown(found))
    return 0


def _report(options: argparse.Namespace) -> int:
    from train.evaluate import load_split, read_offsets
    from train.load_meters import meter_of_bundle, meter_of_run
    from train.load_towers import towers_of_bundle
    from train.measure import own_offset, track
    from train.meters import Meter, ZeroMeter
    from train.opening import VOICES, OpeningMeter
    from train.report import compare
    from train.report_tables import as_markdown, as_text, save, update_page

    if options.out is not None:
        _make_folder(options.out)
    meters: list[Meter] = [meter_of_bundle(folder) for folder in options.bundle or [DEFAULT_BUNDLE]]
    meters += [meter_of_run(run) for run in options.run]
    meters += [*(OpeningMeter(voice) for voice in VOICES), ZeroMeter()]
    clips = load_split(options.shards, options.split)
    if options.offsets:
        truth_ms, truth = read_offsets(options.offsets), str(options.offsets)
    else:
        towers, calibration, label = towers_of_bundle(options.reference)
        own = {clip.name: own_offset(track(clip, towers), calibration) for clip in clips}
        truth_ms = {name: offset_ms for name, (offset_ms, sure) in own.items() if sure >= _SURE_TRUTH}
        truth = f"each clip's own offset over its whole length by {label}, where that is sure"
    found = compare(clips, meters, truth_ms, truth=truth, seed=options.seed)
    as_json = json.dumps(found.to_dict(), allow_nan=False, ensure_ascii=False)
    print(as_json if options.json else as_text(found))
    if options.out is not None:
        for name, content in (("json", as_json), ("md", as_markdown(found)), ("txt", as_text(found))):
            (options.out / f"report.{name}").write_text(content, encoding="utf-8")
        save(found, options.out)
    if options.page is not None:
        update_page(options.page, found)
    return 0


def _trust(options: argparse.Namespace) -> int:
    from train.evaluate import load_split
    from train.load_towers import towers_of_bundle
    from train.measure import own_offset, track
    from train.trust import report

    if not (0.4 <= options.window <= 60 and options.rounds >= 1):
        raise UsageError(
            "a value is out of range", where="avdrift-train trust", remedy="Give 0.4 to 60 s and at least one round"
        )
    towers, calibration, model = towers_of_bundle(options.bundle)
    tracks = [track(clip, towers) for clip in load_split(options.shards, options.split)]
    truths = [(t, *own_offset(t, calibration)) for t in tracks if len(t.lips)]
    sure = [(t, offset_ms) for t, offset_ms, confidence in truths if confidence >= _SURE_TRUTH]
    found = report(sure, calibration, window_s=options.window, rounds=options.rounds, seed=options.seed)
    print(json.dumps({"model": model, "clips": len(sure), "left_out": len(tracks) - len(sure)} | found, indent=1))
    return 0


def _beside(options: argparse.Namespace) -> int:
    from train.beside import beside

    if not 0.5 <= options.window <= 3600 or options.jobs < 0:
        raise UsageError("a value is out of range", where="avdrift-train beside", remedy="Give 0.5 to 3600 s")
    print(json.dumps(beside(options.clips, options.bundle, split=options.split, window_s=options.window,
                            seed=options.seed, jobs=options.jobs), indent=1))  # fmt: skip
    return 0


def _hopeless(options: argparse.Namespace) -> int:
    from train.hopeless_scenes import hopeless

    if not (0.5 <= options.window <= 3600 and 0.01 <= options.hours <= 1000 and options.jobs >= 0):
        raise UsageError(
            "a value is out of range", where="avdrift-train hopeless", remedy="Give 0.5 to 3600 s and 0.01 to 1000 h"
        )
    print(json.dumps(hopeless(options.clips, options.bundle, split=options.split, hours=options.hours,
                              window_s=options.window, seed=options.seed, jobs=options.jobs), indent=1))  # fmt: skip
    return 0


def _check(options: argparse.Namespace) -> int:
    from train.load_towers import MEASURING
    from train.sliced import check

    require_face_model()
    load_bundle(options.bundle, MEASURING)  # here, or each clip by itself would complain
    if not (0.2 <= options.window <= 60 and 0 < options.max_shift_ms <= 950 and options.copies >= 1):
        raise UsageError(
            "a value is out of range", where="avdrift-train check",
            remedy="Give a window of 0.2 to 60 s, a shift of up to 950 ms and at least one copy",
        )  # fmt: skip
    print(json.dumps(check(
        options.clips, options.bundle, split=options.split, window_s=options.window, max_shift_ms=options.max_shift_ms,
        copies=options.copies, seed=options.seed, jobs=options.jobs,
    ), indent=1))  # fmt: skip
    return 0


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot be made ({error.strerror})", where=str(folder), remedy="Choose another") from error
    if not os.access(folder, os.W_OK):
        raise UsageError("cannot be written to", where=str(folder), remedy="Choose another folder")


def _check_parent(file: Path) -> None:
    if not os.access(file.parent, os.W_OK) or file.is_dir():
        raise UsageError("cannot be written", where=str(file), remedy="Name a file in a folder that is there")


_COMMANDS = {
    "prepare": _prepare, "clean": _clean, "fit": _fit, "calibrate": _calibrate, "evaluate": _evaluate,
    "ablate": _ablate, "report": _report, "trust": _trust, "zero": _zero, "check": _check, "beside": _beside,
    "hopeless": _hopeless,
}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
