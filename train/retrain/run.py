"""`avdrift-train retrain FILE.toml`: from a folder of recordings to a bundle, one public command after another.

prepare      decode the clips                        clean        how far each is off by itself
synth        render synthetic faces                  zero-clips   all of them onto one physical zero
fit, fit-2 … train pairs, each of another seed       student      one pair learns what they think on average
calibrate    its confidence, on clips it never saw   trust        when a report has a number
zero-towers  its zero                                evaluate     how good it is
bundle       TFLite, parity, manifest and model card
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from device.errors import InputFormatError
from train.data.clips import read_rows
from train.files import make_folder, write_whole
from train.model_card import read_card
from train.retrain.recipe import MAX_SEED, Recipe, read_recipe
from train.retrain.stages import Stage, read_mark, run_stages

RECIPE = "recipe.json"
_TRAIN, _CONVERT = "train.cli", "convert.cli"


def retrain(file: Path) -> Path:
    """Everything that a configuration file asks for; the folder with the finished int8 bundle. Raises AvdriftError."""
    recipe = read_recipe(file)
    inputs = _inputs(recipe.path("folders", "clips"))
    if recipe.values["bundle"]["card"]:
        read_card(recipe.path("bundle", "card"))  # before hours of work, and with a message
    work = recipe.path("folders", "work")
    make_folder(work)
    run_stages(list(stages_of(recipe, work, inputs)), work, report)
    return work / "bundle" / "int8"


def report(words: str) -> None:
    print(words, end="", flush=True)


def _inputs(clips: Path) -> list[Path]:
    """clips.csv and the recordings. Raises InputMissingError, InputFormatError."""
    rows = read_rows(clips)
    missing = [split for split in ("train", "valid") if split not in {row.split for row in rows}]
    if missing:
        raise InputFormatError(
            f"no clip of the split {missing[0]!r}", where=str(clips / "clips.csv"),
            remedy="Put some speakers into `train` and others into `valid`",
        )  # fmt: skip
    return [clips / "clips.csv", *(clips / row.file for row in rows)]


def stages_of(recipe: Recipe, work: Path, inputs: list[Path]) -> Iterator[Stage]:
    """The stages of a recipe, in order."""
    values, clips, jobs = recipe.values, inputs[0].parent, recipe.values["folders"]["jobs"]
    table, sources = inputs[0], [recipe.file, inputs[0]]
    shards, after = [work / "prepare"], ["prepare"]
    yield Stage("prepare", _of(_TRAIN, "prepare", clips, work / "prepare", jobs=jobs), {}, inputs, resumes=True)
    if values["synth"]["clips"]:
        made = work / "synth"
        some = {"jobs": jobs or os.cpu_count()}
        yield Stage("synth", _of(_TRAIN, "synth", made, **values["synth"], **some), values["synth"])
        command = _of(_TRAIN, "prepare", made, work / "prepare-synth", jobs=jobs)
        yield Stage("prepare-synth", command, {}, after=["synth"], resumes=True)
        shards.append(work / "prepare-synth")
        after.append("prepare-synth")
        sources.append(made / "clips.csv")
    real, offsets = work / "prepare", None
    if values["clean"]["use"]:
        settings = {key: value for key, value in values["clean"].items() if key != "use"}
        offsets = work / "clean" / "offsets.json"
        command = _of(_TRAIN, "clean", real, out=offsets, work=work / "clean", **settings)
        yield Stage("clean", command, settings, after=["prepare"], resumes=True)
        after.append("clean")
    if offsets and values["zero"]["use"]:
        moved = work / "zero-clips" / "offsets.json"
        command = _of(_TRAIN, "zero", real, offsets=offsets, out=moved, seed=values["zero"]["seed"])
        yield Stage("zero-clips", command, values["zero"], after=["prepare", "clean"])
        after.append("zero-clips")
        offsets = moved
    common = _of(_TRAIN, "fit", *shards, source=sources, **({"offsets": offsets} if offsets else {}))

    def trained(name: str, settings: Mapping[str, Any], teachers: Sequence[str] = ()) -> Stage:
        options = {"out": work / name, "teacher": [work / teacher for teacher in teachers], **settings}
        return Stage(name, [*common, *_of(**options)], settings, [table], [*after, *teachers], resumes=True)

    count = values["student"]["teachers"]
    runs = ["fit", *(f"fit-{n}" for n in range(2, count + 1))]
    for n, name in enumerate(runs):
        yield trained(name, {**values["fit"], "seed": (values["fit"]["seed"] + n) % (MAX_SEED + 1)})
    if count:
        yield trained("student", {key: value for key, value in values["student"].items() if key != "teachers"}, runs)
    yield from _judged(recipe, work, real, "student" if count else "fit")


def _judged(recipe: Recipe, work: Path, real: Path, last: str) -> Iterator[Stage]:
    """What comes after the training, whose last run is named."""
    values, run = recipe.values, work / last
    calibration, after = work / "calibrate" / "calibration.json", ["prepare", last, "calibrate"]
    yield Stage("calibrate", _of(_TRAIN, "calibrate", real, run=run, out=calibration), {}, after=["prepare", last])
    if values["zero"]["use"]:
        unmoved, calibration = calibration, work / "zero-towers" / "calibration.json"
        command = _of(_TRAIN, "zero", real, run=run, calibration=calibration, seed=values["zero"]["seed"])

        def begin() -> None:
            shutil.copyfile(unmoved, calibration)

        yield Stage("zero-towers", command, values["zero"], after=after, begin=begin)
        after = [*after, "zero-towers"]
    seed = values["evaluate"]["seed"]
    command = _of(_TRAIN, "evaluate", real, run=run, calibration=calibration, out=work / "evaluate", seed=seed)
    yield Stage("evaluate", command, values["evaluate"], after=after)
    yield _bundle(recipe, work, after, _of(_CONVERT, "build", run, shards=real, calibration=calibration))


def _bundle(recipe: Recipe, work: Path, after: list[str], command: list[str]) -> Stage:
    settings, out = recipe.values["bundle"], work / "bundle"
    card = recipe.path("bundle", "card") if settings["card"] else None
    command += _of("--out", str(out), evaluation=work / "evaluate" / "evaluation.json", recipe=out / RECIPE,
                   name=settings["name"], model_version=settings["version"], examples=settings["examples"],
                   max_loss=settings["max_loss"], **({"card": card} if card else {}))  # fmt: skip

    def begin() -> None:
        folders = sorted(path for path in work.iterdir() if read_mark(path).get("done"))
        seconds = {path.name: read_mark(path)["seconds"] for path in folders}
        write_whole(out / RECIPE, {"config": recipe.to_dict(), "stage_seconds": seconds})

    return Stage("bundle", command, dict(recipe.to_dict()), [card] if card else [], [*after, "evaluate"], begin=begin)


def _of(*words_and_places: object, **options: Any) -> list[str]:
    """A command line; options with several values come several times."""
    words = [*map(str, words_and_places)]
    for name, value in options.items():
        for one in value if isinstance(value, list) else [value]:
            words += [f"--{name.replace('_', '-')}", str(one)]
    return words
