"""Checks before a retraining: the data, whether they are enough, and how long it will take."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from device.errors import InputFormatError
from train.check.estimate import estimate, line, seconds_a_batch
from train.check.minimum import AUTO, NEEDS, advice, chosen_recipe, shortages
from train.check.run import Checked, Log, check_clips
from train.data.clip_table import TABLE, TRAIN
from train.models.backend import require_beam
from train.retrain.recipe import FORM


def check(clips: Path, report: Log) -> bool:
    """Check a folder alone, for the recipe that fits it; return whether it is enough. Raises CaptureError."""
    values = {name: vars_of(section) for name, section in FORM.defaults().items()}
    found = check_clips(clips, report)
    recipe, missing = enough_for(found, AUTO, report)
    print_estimate(found, recipe, values, clips, report)
    return not missing


def require_enough(clips: Path, values: Mapping[str, Mapping[str, Any]], report: Log) -> tuple[Checked, str]:
    """Return the data and the recipe. Raises InputFormatError listing what is missing, unless the settings allow it."""
    found = check_clips(clips, report)
    recipe, missing = enough_for(found, values["recipe"]["kind"], report)
    if missing and not values["recipe"]["ignore_minimum"]:
        remedy = "\n  ".join(["What is missing, by stage (or set [recipe] ignore_minimum = true):", *missing])
        raise InputFormatError(f"too little for the recipe {recipe!r}", where=str(clips / TABLE), remedy=remedy)
    return found, recipe


def require_corpus(settings: Mapping[str, Any]) -> None:
    """Raises UsageError if the recipe corpus cannot begin: no Apache Beam, wrong options of it, or no cluster."""
    require_beam()
    from device.check.beam import beam_options

    beam_options(shlex.split(settings["beam"]))
    if settings["strategy"] != "none":
        from train.fit.strategies import require_strategy  # loads Keras

        require_strategy(settings["strategy"])


def enough_for(found: Checked, kind: str, report: Log) -> tuple[str, list[str]]:
    """Return the recipe that `kind` means here, and what it lacks; report both."""
    minutes = found.survey.minutes(TRAIN)
    recipe = chosen_recipe(kind, minutes)
    missing = shortages(found.survey, recipe)
    need = NEEDS[recipe]
    report(f"recipe: {recipe}, which needs at least {need.minutes:g} training minutes of {need.speakers} speakers")
    for each in missing:
        report(f"too little for {each}")
    if not missing and (more := advice(found.survey, recipe)):
        report(more)
    return recipe, missing


def print_estimate(
    found: Checked, recipe: str, values: Mapping[str, Mapping[str, Any]], work: Path, report: Log
) -> None:
    """Time and space, as far as they can be known."""
    batch_s = seconds_a_batch()
    if batch_s is None:
        report("estimate: not possible, no batch could be trained on here (is avdrift[train] installed?)")
    else:
        report(line(estimate(found.survey, recipe, values, work, batch_s)))


def vars_of(section: Any) -> dict[str, Any]:
    return {name: getattr(section, name) for name in section.__dataclass_fields__}
