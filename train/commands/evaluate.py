"""The commands of `avdrift-train` that evaluate models: confidence, zero, accuracy, and the precision of reports."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from device.bundles.bundle import DEFAULT_BUNDLE, load_bundle
from device.bundles.calibration import NEGATIVE_REACH_TICKS, Calibration
from device.bundles.model_kinds import MEASURING
from device.errors import InputFormatError, UsageError
from device.features.model_download import require_face_model
from train.commands.shared import shards_parser
from train.files import check_parent, make_folder, write_all

if TYPE_CHECKING:
    from train.data.shards import Clip
    from train.models.encoders import Towers

_MIN_TRUTH_CONFIDENCE = 0.3
_MIN_SURE_SHARE = 0.2  # share of the clips on which models must be sure, or they have learnt nothing
_SURE_TRUTH = 0.95  # the truth for single windows and reports must be right
_MAX_DECAY_S = 10.0


def add_judge_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add their parsers."""
    shards = shards_parser()
    calibrate = commands.add_parser("calibrate", parents=[shards], help="fit the confidence of a model")
    calibrate.set_defaults(work_of=_calibrate)
    fitted = calibrate.add_mutually_exclusive_group(required=True)
    fitted.add_argument("--run", type=Path, metavar="RUN", help="the folder that fit wrote")
    fitted.add_argument("--bundle", type=Path, metavar="DIR", help="folder with the models; their zero stays")
    calibrate.add_argument(
        "--keep", type=Path, metavar="BUNDLE", help="use this bundle's calibration, for a run that started from it"
    )
    calibrate.add_argument("--split", default="valid", help="clips not used in training (default: valid)")
    calibrate.add_argument("--out", type=Path, required=True, metavar="CALIBRATION.json", help="file for the fit")

    evaluate = commands.add_parser(
        "evaluate", parents=[shards], help="measure how good a two-tower model or a bundle is"
    )
    evaluate.set_defaults(work_of=_evaluate)
    what = evaluate.add_mutually_exclusive_group()
    what.add_argument("--run", type=Path, metavar="RUN", help="the folder that fit wrote")
    what.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE, help="folder with the models (default: built in)")
    evaluate.add_argument("--split", default="valid", help="which clips (default: valid)")
    evaluate.add_argument(
        "--calibration", type=Path, metavar="FILE.json", help="use this calibration instead of the model's own"
    )
    evaluate.add_argument(
        "--offsets", type=Path, metavar="FILE.json", help="use offsets measured by another model as the truth"
    )
    evaluate.add_argument(
        "--room", type=float, nargs=2, metavar=("DECAY_S", "LEVEL_DB"),
        help="in simulated rooms: seconds to a decay of 60 dB, and reverberation relative to the direct sound",
    )  # fmt: skip
    evaluate.add_argument("--out", type=Path, metavar="DIR", help="also write tables and plots there")
    evaluate.add_argument("--seed", type=int, default=0, help="random seed of the shifts")
    evaluate.add_argument("--json", action="store_true", help="print JSON instead of tables")

    zero = commands.add_parser("zero", parents=[shards], help="measure the physical zero, by lips that open at /p b m/")
    zero.set_defaults(work_of=_zero)
    whose = zero.add_mutually_exclusive_group()
    whose.add_argument("--run", type=Path, metavar="RUN", help="the folder that fit wrote")
    whose.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE, help="folder with the models (default: built in)")
    whose.add_argument("--offsets", type=Path, metavar="OFFSETS.json", help="the table that clean wrote")
    zero.add_argument("--calibration", type=Path, metavar="FILE.json", help="write the towers' zero into this file")
    zero.add_argument("--out", type=Path, metavar="MOVED.json", help="write the table, relative to the physical zero")
    zero.add_argument("--seed", type=int, default=0, help="random seed of the bootstrap")

    report = commands.add_parser(
        "report", parents=[shards], help="compare all models on the same windows, in one table"
    )
    report.set_defaults(work_of=_report)
    report.add_argument("--run", type=Path, action="append", default=[], metavar="RUN", help="a folder that fit wrote")
    report.add_argument(
        "--bundle", type=Path, action="append", default=[], metavar="DIR", help="a two-tower model's bundle"
    )
    report.add_argument("--reference", type=Path, default=DEFAULT_BUNDLE, help="bundle whose offsets are the truth")
    report.add_argument("--offsets", type=Path, metavar="FILE.json", help="the truth, in place of --reference")
    report.add_argument("--split", default="valid", help="which clips (default: valid)")
    report.add_argument("--out", type=Path, metavar="DIR", help="also write tables and plots there")
    report.add_argument("--page", type=Path, metavar="FILE.md", help="put the tables into this page too")
    report.add_argument("--seed", type=int, default=0, help="random seed of the shifts")
    report.add_argument("--json", action="store_true", help="print JSON instead of tables")
    trust = commands.add_parser("trust", parents=[shards], help="stress test: are reports right, also over steps")
    trust.set_defaults(work_of=_trust)
    trusted = trust.add_mutually_exclusive_group()
    trusted.add_argument("--run", type=Path, metavar="RUN", help="the folder that fit wrote")
    trusted.add_argument(
        "--bundle", type=Path, default=DEFAULT_BUNDLE, help="folder with the models (default: built in)"
    )
    trust.add_argument("--calibration", type=Path, metavar="FILE.json", help="what calibrate wrote")
    trust.add_argument("--split", default="valid", help="which clips (default: valid)")
    trust.add_argument("--window", type=float, default=5.0, metavar="S", help="seconds per window (default: 5)")
    trust.add_argument("--rounds", type=int, default=5, metavar="N", help="how often each clip is used (default: 5)")
    trust.add_argument("--seed", type=int, default=0, help="random seed of the order and the shifts")

    sliced = commands.add_parser("sliced", help="run `avdrift measure` on sliced files with a known offset")
    sliced.set_defaults(work_of=_sliced)
    sliced.add_argument("clips", type=Path, metavar="CLIPS", help="folder with clips.csv")
    sliced.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE, help="folder of the models (default: built in)")
    sliced.add_argument("--split", default="valid", help="which clips (default: valid)")
    sliced.add_argument("--window", type=float, default=2.0, metavar="S", help="seconds per window (default: 2)")
    sliced.add_argument("--max-shift-ms", type=float, default=600.0, help="largest shift, in ms (default: 600)")
    sliced.add_argument("--copies", type=int, default=1, metavar="N", help="shifts per clip (default: 1)")
    sliced.add_argument("--seed", type=int, default=0, help="random seed of the shifts")
    sliced.add_argument("--jobs", type=int, default=0, metavar="N", help="clips at a time (default: one per core)")


def _calibrate(options: argparse.Namespace) -> int:
    import numpy as np

    from train.data.shards import load_split
    from train.evaluation.calibration import fitted
    from train.evaluation.tracks import sure_tracks, track
    from train.models.load import towers_of_bundle, towers_of_run

    check_parent(options.out)
    if options.keep:
        kept = load_bundle(options.keep, MEASURING).calibration
        options.out.write_text(json.dumps(kept.to_dict(), indent=1), encoding="utf-8")
        print(f"{options.out}: the calibration of {options.keep}")
        return 0
    towers, given, _ = towers_of_run(options.run) if options.run else towers_of_bundle(options.bundle)
    towers = replace(towers, negative_reach_ticks=NEGATIVE_REACH_TICKS)  # whatever an older bundle has
    clips = load_split(options.shards, options.split)
    # Clips with an uncertain truth would teach doubt where there is none.
    as_answered = replace(given, zero_offset_ms=0.0)
    sure = sure_tracks((track(clip, towers) for clip in clips), as_answered, _MIN_TRUTH_CONFIDENCE)
    _require_learnt(str(options.run or options.bundle), len(sure), len(clips))
    found = fitted([t for t, _ in sure], [offset_ms for _, offset_ms in sure], np.random.default_rng(0))
    calibration = replace(
        found.calibration, zero_offset_ms=given.zero_offset_ms, zero_uncertainty_ms=given.zero_uncertainty_ms
    )
    options.out.write_text(json.dumps(calibration.to_dict(), indent=1), encoding="utf-8")
    print(json.dumps(found.to_dict() | {"clips": len(sure), "left_out": len(clips) - len(sure)}))
    return 0


def _require_learnt(where: str, sure: int, clips: int) -> None:
    """Raises InputFormatError if the models, not their clips, are the reason that nothing can be fitted."""
    if sure <= _MIN_SURE_SHARE * clips:
        what = f"these models are sure of the offset of {sure} of {clips} clips: they are not trained enough"
        remedy = "Train with more batches or more clips, or start from the built-in models (recipe adapt)"
        raise InputFormatError(what, where=where, remedy=remedy)


def _calibrated_towers(options: argparse.Namespace) -> tuple[Towers, Calibration, str]:
    """The towers of --run or --bundle, with the calibration of the file that --calibration names."""
    from train.models.load import read_calibration, towers_of_bundle, towers_of_run

    towers, calibration, model = towers_of_run(options.run) if options.run else towers_of_bundle(options.bundle)
    if options.calibration:
        calibration = read_calibration(options.calibration, calibration.logit_scale)
        towers = replace(towers, negative_reach_ticks=calibration.negative_reach_ticks)
    return towers, calibration, model


def _evaluate(options: argparse.Namespace) -> int:
    from train.data.shards import load_split
    from train.evaluation.protocol import evaluate
    from train.evaluation.tables import as_markdown, as_text
    from train.evaluation.tracks import sure_tracks, track
    from train.offsets.table import read_offsets

    offsets_ms = read_offsets(options.offsets) if options.offsets else None
    if options.out is not None:
        make_folder(options.out)
    if options.room and not (0 < options.room[0] <= _MAX_DECAY_S and -60 <= options.room[1] <= 60):
        remedy = f"Give more than 0 and at most {_MAX_DECAY_S:g} s, and -60 to 60 dB"
        raise UsageError("not a room", where="--room", remedy=remedy)
    towers, calibration, model = _calibrated_towers(options)
    clips, truth = load_split(options.shards, options.split), str(options.offsets)
    if options.room:
        if offsets_ms is None:
            sure = sure_tracks((track(clip, towers) for clip in clips), calibration, _SURE_TRUTH)
            offsets_ms, truth = {t.clip.name: offset_ms for t, offset_ms in sure}, "these towers without the room"
        decay_s, level_db = options.room
        clips = [_in_room(clip, decay_s, level_db, options.seed) for clip in clips]
    found = evaluate(
        clips, towers, calibration, model=model, offsets_ms=offsets_ms, offsets_name=truth, seed=options.seed
    )
    as_json = json.dumps(found.to_dict(), allow_nan=False, ensure_ascii=False)
    print(as_json if options.json else as_text(found))
    if options.out is not None:
        from train.evaluation.plots import save

        write_all(options.out / "evaluation", json=as_json, md=as_markdown(found), txt=as_text(found))
        save(found, options.out)
    return 0


def _in_room(clip: Clip, decay_s: float, level_db: float, seed: int) -> Clip:
    """The clip as a microphone far from the speaker records it; each clip in a room of its own."""
    import numpy as np

    from train.data.rooms import convolve, impulse_response

    random = np.random.default_rng([seed, len(clip.samples)])
    heard = convolve(clip.samples.astype(np.float32), impulse_response(random, decay_s, level_db))
    loudest = max(float(np.abs(heard).max(initial=0.0)), 1.0)
    return replace(clip, samples=np.rint(heard * min(32767 / loudest, 1.0)).astype(np.int16))


def _zero(options: argparse.Namespace) -> int:
    from train.models.load import towers_of_bundle, towers_of_run
    from train.offsets.zero_command import zero_of_table, zero_of_towers

    wrong = options.calibration if options.offsets else options.out
    if wrong:
        remedy = "Give --calibration with towers, and --out with --offsets"
        raise UsageError("cannot be combined with the other options", where=str(wrong), remedy=remedy)
    for file in filter(None, (options.calibration, options.out)):
        check_parent(file)
    if options.offsets:
        found = zero_of_table(options.shards, options.offsets, options.out, options.seed)
    else:
        towers, calibration, _ = towers_of_run(options.run) if options.run else towers_of_bundle(options.bundle)
        found = zero_of_towers(options.shards, towers, calibration, options.calibration, options.seed)
    print(json.dumps(found.to_dict(), ensure_ascii=False, indent=1))
    return 0


def _report(options: argparse.Namespace) -> int:
    from train.comparison.comparison import compare
    from train.comparison.estimators import OffsetEstimator, ZeroEstimator
    from train.comparison.load_estimators import estimator_of_bundle, estimator_of_run
    from train.comparison.mouth_opening import VOICES, MouthOpeningEstimator
    from train.comparison.tables import as_markdown, as_text, save, update_page
    from train.data.shards import load_split
    from train.evaluation.tracks import sure_tracks, track
    from train.models.load import towers_of_bundle
    from train.offsets.table import read_offsets

    if options.out is not None:
        make_folder(options.out)
    estimators: list[OffsetEstimator] = [estimator_of_bundle(folder) for folder in options.bundle or [DEFAULT_BUNDLE]]
    estimators += [estimator_of_run(run) for run in options.run]
    estimators += [*(MouthOpeningEstimator(voice) for voice in VOICES), ZeroEstimator()]
    clips = load_split(options.shards, options.split)
    if options.offsets:
        truth_ms, truth = read_offsets(options.offsets), str(options.offsets)
    else:
        towers, calibration, label = towers_of_bundle(options.reference)
        sure = sure_tracks((track(clip, towers) for clip in clips), calibration, _SURE_TRUTH)
        truth_ms = {t.clip.name: offset_ms for t, offset_ms in sure}
        truth = f"each clip's own offset over its whole length by {label}, where that is sure"
    found = compare(clips, estimators, truth_ms, truth=truth, seed=options.seed)
    as_json = json.dumps(found.to_dict(), allow_nan=False, ensure_ascii=False)
    print(as_json if options.json else as_text(found))
    if options.out is not None:
        write_all(options.out / "report", json=as_json, md=as_markdown(found), txt=as_text(found))
        save(found, options.out)
    if options.page is not None:
        update_page(options.page, found)
    return 0


def _trust(options: argparse.Namespace) -> int:
    from train.data.shards import load_split
    from train.evaluation.report_precision import report
    from train.evaluation.tracks import sure_tracks, track

    if not (0.4 <= options.window <= 60 and options.rounds >= 1):
        raise UsageError(
            "a value is out of range", where="avdrift-train trust", remedy="Give 0.4 to 60 s and at least one round"
        )
    towers, calibration, model = _calibrated_towers(options)
    clips = load_split(options.shards, options.split)
    sure = sure_tracks((track(clip, towers) for clip in clips), calibration, _SURE_TRUTH)
    found = report(sure, calibration, window_s=options.window, rounds=options.rounds, seed=options.seed)
    print(json.dumps({"model": model, "clips": len(sure), "left_out": len(clips) - len(sure)} | found, indent=1))
    return 0


def _sliced(options: argparse.Namespace) -> int:
    from train.scenes.sliced_files import check

    require_face_model()
    load_bundle(options.bundle, MEASURING)  # here, so that a failure is reported once and not per clip
    if not (0.2 <= options.window <= 60 and 0 < options.max_shift_ms <= 950 and options.copies >= 1):
        raise UsageError(
            "a value is out of range", where="avdrift-train sliced",
            remedy="Give a window of 0.2 to 60 s, a shift of up to 950 ms and at least one copy",
        )  # fmt: skip
    print(json.dumps(check(
        options.clips, options.bundle, split=options.split, window_s=options.window, max_shift_ms=options.max_shift_ms,
        copies=options.copies, seed=options.seed, jobs=options.jobs,
    ), indent=1))  # fmt: skip
    return 0
