"""`avdrift-train retrain FILE.toml`: from a folder of recordings to a bundle, and its comparison with the old one."""

from __future__ import annotations

import sys
from pathlib import Path

from train.check.minimum import CORPUS
from train.check.run import Checked
from train.data.clip_table import TABLE
from train.files import make_folder
from train.model_card import read_card
from train.retrain.check import print_estimate, require_corpus, require_enough
from train.retrain.plan import stages_of
from train.retrain.recipe import Recipe, read_recipe
from train.retrain.report import REPORT
from train.retrain.stages import run_stages
from train.retrain.watch import Watcher


def retrain(file: Path) -> Path:
    """Do everything that a configuration file asks for; return the finished int8 bundle's folder.

    Raises AvdriftError.
    """
    recipe = read_recipe(file)
    found, kind = _checked(recipe)
    clips, work = recipe.path("folders", "clips"), recipe.path("folders", "work")
    new = not work.exists()
    make_folder(work)
    if new:  # an earlier call has reported it
        print_estimate(found, kind, recipe.values, work, log_line)
    watcher = Watcher(work, clips, report, terminal=sys.stdout.isatty())
    log_line(f"what is learnt meanwhile: {work / REPORT}")
    try:
        run_stages(list(stages_of(recipe, kind, work, inputs_of(clips, found))), work, report, watcher)
    except (KeyboardInterrupt, SystemExit):
        log_line(f"What is done is kept. To go on: avdrift-train retrain {file}")
        raise
    finally:
        watcher.report()
    report((work / "gate" / "gate.txt").read_text(encoding="utf-8"))
    return work / "bundle" / "int8"


def dry_run(file: Path) -> None:
    """Run all checks that come before the work. Raises AvdriftError."""
    recipe = read_recipe(file)
    found, kind = _checked(recipe)
    print_estimate(found, kind, recipe.values, recipe.path("folders", "work"), log_line)


def _checked(recipe: Recipe) -> tuple[Checked, str]:
    if recipe.values["bundle"]["card"]:
        read_card(recipe.path("bundle", "card"))  # fail now, with a message, not after hours of work
    found, kind = require_enough(recipe.path("folders", "clips"), recipe.values, log_line)
    if kind == CORPUS:
        require_corpus(recipe.values["corpus"])
    return found, kind


def inputs_of(clips: Path, found: Checked) -> list[Path]:
    """clips.csv and the recordings."""
    return [clips / TABLE, *(clips / row.file for row in found.rows)]


def report(words: str) -> None:
    print(words, end="", flush=True)


def log_line(words: str) -> None:
    report(f"{words}\n")
