"""The configuration of `avdrift-train retrain`: one TOML file, its sections, its constraints, and the defaults.

With as many clips, the defaults make the built-in bundle. `train/default.toml` lists them all and is printed by `python
-m train.retrain.recipe`. `train/adapt.toml` and `train/corpus.toml` are those of the two other recipes.
Keys of [clean], [fit], [student] and [rooms] are those of a training run, and so are their ranges.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import Any, ClassVar

from device.config.constraints import Names, PathText, Range, Text, WholeNumber
from device.config.section import Section, allowed_of, annotated, flag, number, text
from device.config.toml_reader import Form, read_form, require_correct
from train.check.minimum import ADAPT, AUTO, CORPUS, FROM_SCRATCH
from train.fit.config import FitConfig, RoomConfig
from train.fit.options import RANGES

RECIPE_VERSION = 1
_ADAPT_SYNTH = 16  # faces, in addition to minutes of clips
MAX_SEED = int(RANGES["seed"][1])
_SEED = WholeNumber(int(RANGES["seed"][0]), MAX_SEED)


@dataclass(frozen=True, slots=True)
class FolderSettings(Section):
    about = "Folders. Paths are relative to this file."

    clips: str = text("clips", PathText(), "Folder with recordings and clips.csv: file, speaker, split, corpus.")
    work: str = text("work", PathText(), "Folder for all output, with a subfolder for each stage.")
    jobs: int = number(0, WholeNumber(0, 1024), "Recordings to decode or render at once. 0: one per core.")

    @classmethod
    def clashes(cls, values: Mapping[str, object]) -> Iterator[tuple[str, str]]:
        for key in ("clips", "work"):
            if not values[key]:
                yield key, "the name of a folder"


@dataclass(frozen=True, slots=True)
class RecipeSettings(Section):
    about = "The recipe: adapt the built-in models, train from scratch, or train on a corpus with several machines."

    kind: str = text("auto", Names((AUTO, ADAPT, FROM_SCRATCH, CORPUS)),
                     "auto: adapt with less than 30 minutes of training clips, otherwise train.")  # fmt: skip
    ignore_minimum: bool = flag(False, "true: continue with fewer clips than avdrift-train check requires.")


@dataclass(frozen=True, slots=True)
class SynthSettings(Section):
    about = "Synthetic talking faces, whose offset is exactly zero."

    clips: int = number(40, WholeNumber(0, 100_000), "How many. 0: none.")
    seed: int = number(1, _SEED, "Random seed of faces, voices and words.")
    duration_s: float = number(8.0, Range(2, 600), "Length of each clip.")


_PRETRAINING = ("phone_steps", "phone_voices", "shape_steps")  # not for a student
_TEACHING = ("teacher_share",)


def _training_section(
    name: str, about: str, *first: tuple[str, Any, Any], config: type[Any] = FitConfig,
    without: Sequence[str] = _TEACHING, **defaults: float
) -> type[Section]:  # fmt: skip
    """A section with keys of its own and those of a training's configuration, except for some."""

    def clashes(cls: type[Section], values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        steps = values["epochs"] * values["steps_per_epoch"]
        if values["warmup_steps"] >= steps:
            yield "warmup_steps", f"less than all steps together, which are {steps}"

    keys = list(first)
    for key in fields(config):
        if key.name in without:
            continue
        low, high = RANGES[key.name]
        default = defaults.get(key.name, key.default)
        whole = isinstance(key.default, int)
        allowed = WholeNumber(int(low), int(high)) if whole else Range(low, high)
        kind = int if whole else float
        keys.append((key.name, kind, number(kind(default), allowed, str(key.metadata["about"]))))  # type: ignore[arg-type]
    namespace = {"about": about, "clashes": classmethod(clashes), "__annotations__": {"about": ClassVar[str]}}
    return make_dataclass(name, keys, bases=(Section,), namespace=namespace, frozen=True, slots=True)


AdaptSettings = _training_section(
    "AdaptSettings",
    "Recipe adapt: start from a bundle's models, train their last layers, and keep their zero and their confidence.",
    ("start", str, text("", PathText(), "Folder of that bundle. Empty: the built-in one.")),
    without=_PRETRAINING, epochs=6, steps_per_epoch=25, learning_rate=3e-4, warmup_steps=15, frames_per_batch=480,
)  # fmt: skip
CleanSettings = _training_section(
    "CleanSettings",
    "The original offset of each training clip. Two models, each trained on half of the clips, measure the other half.",
    ("use", bool, flag(True, "false: use the clips as they are, and skip [zero] for training too.")),
    epochs=8, steps_per_epoch=80, warmup_steps=60, dropout=0.1,
)  # fmt: skip
FitSettings = _training_section(
    "FitSettings",
    "The training itself.",
    epochs=26, warmup_steps=150, phone_steps=600, phone_voices=400, shape_steps=600,
)  # fmt: skip
StudentSettings = _training_section(
    "StudentSettings",
    "The final model: it starts from the first of several trainings, and is distilled from the mean of all.",
    ("teachers", int, number(2, WholeNumber(0, 20), "Trainings as in [fit], each with the next seed. 0: only one.")),
    without=_PRETRAINING, epochs=6, learning_rate=7e-4, warmup_steps=100,
)  # fmt: skip
RoomSettings = _training_section(
    "RoomSettings",
    "After the training: the audio encoder learns to hear in rooms and noise as it hears clean audio.",
    ("use", bool, flag(True, "false: leave it as it is.")), config=RoomConfig,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ZeroSettings(Section):
    about = "The zero: the offset at which the lips open at /p b m/ as the burst sounds."

    use: bool = flag(True, "false: use the mean of the clips. true needs some dozens of such plosives.")
    seed: int = number(0, _SEED, "Random seed of the bootstrap.")


@dataclass(frozen=True, slots=True)
class EvaluateSettings(Section):
    about = "Evaluation on the split `valid`, where the confidence is fitted too."

    seed: int = number(0, _SEED, "Random seed of the shifts.")


@dataclass(frozen=True, slots=True)
class BundleSettings(Section):
    about = "The bundle, and its model card."

    name: str = text("avdrift-towers", Text(100), "Name of the models.")
    version: str = text("0.5.0", Text(40), "Version of the models. Must increase, otherwise devices refuse them.")
    examples: int = number(300, WholeNumber(1, 100_000), "Number of clip segments that set the scales of int8.")
    max_loss: float = number(
        0.005, Range(0, 1), "Share of windows that a number format may lose against float32; one may always be lost."
    )
    card: str = text("", PathText(), "File with texts for the model card, such as terms. Empty: the built-in one.")

    @classmethod
    def clashes(cls, values: Mapping[str, object]) -> Iterator[tuple[str, str]]:
        for key in ("name", "version"):
            if not values[key]:
                yield key, "some text"


@dataclass(frozen=True, slots=True)
class CorpusSettings(Section):
    about = "Recipe corpus: clips are prepared on Apache Beam, and several devices may train."

    beam: str = text("", Text(2000), "Options of Beam, such as --runner FlinkRunner. Empty: its local runner.")
    strategy: str = text("none", Names(("none", "mirrored", "multiworker")), "As avdrift-train fit --strategy.")

    @classmethod
    def clashes(cls, values: Mapping[str, object]) -> Iterator[tuple[str, str]]:
        try:
            shlex.split(str(values["beam"]))
        except ValueError:
            yield "beam", "options as on a command line, with closed quotation marks"


SECTIONS: dict[str, type[Section]] = {
    "recipe": RecipeSettings,
    "folders": FolderSettings,
    "synth": SynthSettings,
    "clean": CleanSettings,
    "zero": ZeroSettings,
    "fit": FitSettings,
    "student": StudentSettings,
    "rooms": RoomSettings,
    "adapt": AdaptSettings,
    "evaluate": EvaluateSettings,
    "bundle": BundleSettings,
    "corpus": CorpusSettings,
}
FORM = Form(RECIPE_VERSION, SECTIONS)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A whole configuration: its file, and the values of each section by name."""

    file: Path
    values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def path(self, section: str, key: str) -> Path:
        """A path in the configuration, relative to its file."""
        return self.file.parent / str(self.values[section][key])

    def to_dict(self) -> dict[str, Any]:
        """Everything that determines the result, without the locations on this machine."""
        keys = {name: [key for key in fields(section) if not isinstance(allowed_of(key), PathText)]
                for name, section in SECTIONS.items() if name != "folders"}  # fmt: skip
        return {name: {key.name: self.values[name][key.name] for key in known} for name, known in keys.items()}


def read_recipe(file: Path) -> Recipe:
    """Raises UsageError with all problems of the file, each with its line."""
    sections, problems = read_form(file, FORM)
    require_correct(file, problems)
    return Recipe(file, {name: {key.name: getattr(made, key.name) for key in fields(made)}
                         for name, made in sections.items()})  # fmt: skip


_ABOUT = {
    AUTO: ["These defaults make the built-in bundle, given as many clips."],
    ADAPT: ["Recipe adapt, for minutes of clips of one room, camera or language: the built-in models learn them."],
    CORPUS: ["Recipe corpus, for many hours of clips: prepared and trained on by several machines."],
}
_LEFT_OUT = {AUTO: (), ADAPT: ("fit", "student", "rooms", "zero", "corpus"), CORPUS: ("adapt",)}


def recipe_text(kind: str) -> str:
    """The annotated file of a recipe: its sections, with the defaults."""
    return "\n".join(_lines(kind)) + "\n"


def _lines(kind: str) -> Iterator[str]:
    command = "python -m train.retrain.recipe" + ("" if kind == AUTO else f" {kind}")
    yield "# avdrift-train retrain FILE.toml: from a folder of recordings to a bundle. A key that is left out"
    yield f"# keeps its default. Printed by: {command}"
    yield from (f"# {line}" for line in _ABOUT[kind])
    yield ""
    yield "# Version of this format. Always required, so that a truncated file is noticed."
    yield f"config_version = {RECIPE_VERSION}"
    shown = {name: section for name, section in FORM.defaults().items() if name not in _LEFT_OUT[kind]}
    shown["recipe"] = RecipeSettings(kind=kind)
    if kind == ADAPT:
        shown["synth"] = SynthSettings(clips=_ADAPT_SYNTH)
    yield from annotated(shown)


if __name__ == "__main__":
    sys.stdout.write(recipe_text(sys.argv[1] if len(sys.argv) > 1 else AUTO))
