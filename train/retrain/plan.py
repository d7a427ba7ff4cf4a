"""The stages of a retraining, one public command after another, for each recipe.

prepare      decode the clips                        clean        find each clip's own offset
synth        render synthetic faces                  zero-clips   all of them onto one physical zero
fit, fit-2 … train models, each with another seed    student      one model learns their mean output
rooms        its audio encoder learns rooms and noise
adapt        instead of these: start as a bundle's models, and train their last layers
calibrate    its confidence, on clips it never saw   zero-towers  its zero
evaluate     its quality                             gate         the new models beside the old ones
bundle       TFLite, parity, manifest and model card
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from device.bundles.bundle import DEFAULT_BUNDLE
from train.check.minimum import ADAPT, CORPUS
from train.data.shards import SHARD_FORMAT
from train.files import write_atomically
from train.retrain.recipe import MAX_SEED, Recipe
from train.retrain.stages import Stage

RECIPE = "recipe.json"
_TRAIN, _CONVERT = "train.cli", "convert.cli"


def stages_of(recipe: Recipe, kind: str, work: Path, inputs: list[Path]) -> Iterator[Stage]:
    """The stages of a recipe of some kind, in order. `inputs`: clips.csv and the recordings."""
    values, clips, jobs = recipe.values, inputs[0].parent, recipe.values["folders"]["jobs"]
    form = {"shards": SHARD_FORMAT}
    shards, after, sources = [work / "prepare"], ["prepare"], [recipe.file, inputs[0]]
    command = _of(_TRAIN, "prepare", clips, work / "prepare")
    if kind == CORPUS:
        command += ["--beam", *shlex.split(values["corpus"]["beam"])]
    else:
        command += [*_of(jobs=jobs), "--prune"]
    yield Stage("prepare", command, form, inputs, resumes=True, incremental=kind != CORPUS)
    if values["synth"]["clips"]:
        made = work / "synth"
        some = {"jobs": jobs or os.cpu_count()}
        yield Stage("synth", _of(_TRAIN, "synth", made, **values["synth"], **some), values["synth"])
        command = _of(_TRAIN, "prepare", made, work / "prepare-synth", jobs=jobs)
        yield Stage("prepare-synth", command, form, after=["synth"], resumes=True)
        shards.append(work / "prepare-synth")
        after.append("prepare-synth")
        sources.append(made / "clips.csv")
    data = [*shards, *_of(source=sources)]
    if kind == ADAPT:
        yield from _adapted(recipe, work, data, after, inputs[0])
    else:
        yield from _from_scratch(recipe, kind, work, data, after, inputs[0])


def _adapted(recipe: Recipe, work: Path, data: Sequence[object], after: Sequence[str], table: Path) -> Iterator[Stage]:
    """Keeps what the old models know: the clips' offsets, the zero and the confidence. The gate tests it."""
    values, real = recipe.values, work / "prepare"
    start = recipe.path("adapt", "start") if values["adapt"]["start"] else DEFAULT_BUNDLE
    manifest, options = start / "manifest.json", {}
    if values["clean"]["use"]:
        offsets = work / "clean" / "offsets.json"
        command = [*_of(_TRAIN, "clean", real, bundle=start, out=offsets), "--absolute"]
        yield Stage("clean", command, {}, [manifest], ["prepare"])
        after, options = [*after, "clean"], {"offsets": offsets}
    settings = {key: value for key, value in values["adapt"].items() if key != "start"}
    command = _of(_TRAIN, "fit", *data, out=work / "adapt", from_bundle=start, **options, **settings)
    yield Stage("adapt", command, settings, [table, manifest], after, resumes=True)
    calibration = work / "calibrate" / "calibration.json"
    command = _of(_TRAIN, "calibrate", real, run=work / "adapt", keep=start, out=calibration)
    yield Stage("calibrate", command, {}, [manifest], ["prepare", "adapt"])
    yield from _judged(recipe, work, "adapt", calibration, start, ["prepare", "adapt", "calibrate"])


def _from_scratch(
    recipe: Recipe, kind: str, work: Path, data: Sequence[object], after: Sequence[str], table: Path
) -> Iterator[Stage]:
    values, real, after = recipe.values, work / "prepare", list(after)
    options: dict[str, Any] = {"strategy": values["corpus"]["strategy"]} if kind == CORPUS else {}
    if values["clean"]["use"]:
        settings = {key: value for key, value in values["clean"].items() if key != "use"}
        options["offsets"] = work / "clean" / "offsets.json"
        command = _of(_TRAIN, "clean", real, out=options["offsets"], work=work / "clean", **settings)
        yield Stage("clean", command, settings, after=["prepare"], resumes=True)
        after.append("clean")
        if values["zero"]["use"]:
            moved = work / "zero-clips" / "offsets.json"
            command = _of(_TRAIN, "zero", real, offsets=options["offsets"], out=moved, seed=values["zero"]["seed"])
            yield Stage("zero-clips", command, values["zero"], after=["prepare", "clean"])
            after.append("zero-clips")
            options["offsets"] = moved

    def trained(name: str, settings: Mapping[str, Any], teachers: Sequence[str] = ()) -> Stage:
        to_dict = {"out": work / name, "teacher": [work / teacher for teacher in teachers], **options, **settings}
        command = [*_of(_TRAIN, "fit", *data), *_of(**to_dict)]
        return Stage(name, command, settings, [table], [*after, *teachers], resumes=True)

    count = values["student"]["teachers"]
    runs = ["fit", *(f"fit-{n}" for n in range(2, count + 1))]
    for n, name in enumerate(runs):
        yield trained(name, {**values["fit"], "seed": (values["fit"]["seed"] + n) % (MAX_SEED + 1)})
    if count:
        yield trained("student", {key: value for key, value in values["student"].items() if key != "teachers"}, runs)
    last = "student" if count else "fit"
    if values["rooms"]["use"]:
        settings = {key: value for key, value in values["rooms"].items() if key != "use"}
        command = _of(_TRAIN, "rooms", *data, start=work / last, out=work / "rooms", **settings)
        yield Stage("rooms", command, settings, [table], [*after, last], resumes=True)
        last = "rooms"
    yield from _calibrated(recipe, work, last)


def _calibrated(recipe: Recipe, work: Path, last: str) -> Iterator[Stage]:
    """The stages after the training whose last run is given."""
    values, run, real = recipe.values, work / last, work / "prepare"
    calibration, after = work / "calibrate" / "calibration.json", ["prepare", last, "calibrate"]
    yield Stage("calibrate", _of(_TRAIN, "calibrate", real, run=run, out=calibration), {}, after=["prepare", last])
    if values["zero"]["use"]:
        unmoved, calibration = calibration, work / "zero-towers" / "calibration.json"
        command = _of(_TRAIN, "zero", real, run=run, calibration=calibration, seed=values["zero"]["seed"])

        def begin() -> None:
            shutil.copyfile(unmoved, calibration)

        yield Stage("zero-towers", command, values["zero"], after=after, begin=begin)
        after = [*after, "zero-towers"]
    yield from _judged(recipe, work, last, calibration, DEFAULT_BUNDLE, after)


def _judged(
    recipe: Recipe, work: Path, last: str, calibration: Path, against: Path, after: list[str]
) -> Iterator[Stage]:
    values, run, real = recipe.values["evaluate"], work / last, work / "prepare"
    common = _of(run=run, calibration=calibration, seed=values["seed"])
    yield Stage("evaluate", [*_of(_TRAIN, "evaluate", real, out=work / "evaluate"), *common], values, after=after)
    command = [*_of(_TRAIN, "gate", real, out=work / "gate", against=against), *common]
    yield Stage("gate", command, values, [against / "manifest.json"], after)
    yield _bundle(recipe, work, after, _of(_CONVERT, "build", run, shards=real, calibration=calibration))


def _bundle(recipe: Recipe, work: Path, after: list[str], command: list[str]) -> Stage:
    settings, out = recipe.values["bundle"], work / "bundle"
    card = recipe.path("bundle", "card") if settings["card"] else None
    command += _of("--out", str(out), evaluation=work / "evaluate" / "evaluation.json",
                   gate=work / "gate" / "gate.json", recipe=out / RECIPE,
                   name=settings["name"], model_version=settings["version"], examples=settings["examples"],
                   max_loss=settings["max_loss"], **({"card": card} if card else {}))  # fmt: skip

    def begin() -> None:
        write_atomically(out / RECIPE, {"config": recipe.to_dict()})

    inputs, after = [card] if card else [], [*after, "evaluate", "gate"]
    return Stage("bundle", command, dict(recipe.to_dict()), inputs, after, begin=begin)


def _of(*words_and_places: object, **options: Any) -> list[str]:
    """A command line; options with several values are repeated."""
    words = [*map(str, words_and_places)]
    for name, value in options.items():
        for one in value if isinstance(value, list) else [value]:
            words += [f"--{name.replace('_', '-')}", str(one)]
    return words
