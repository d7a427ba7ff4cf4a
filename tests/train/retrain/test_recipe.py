"""The configuration of retrain: the shipped file, its ranges, and the messages for invalid files."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from device.bundles.bundle import DEFAULT_BUNDLE, MANIFEST
from device.config.constraints import Range, WholeNumber
from device.config.section import allowed_of
from device.errors import UsageError
from tests.scenes import ROOT
from train.fit.config import FitConfig, RoomConfig
from train.fit.options import RANGES
from train.retrain.recipe import RECIPE_VERSION, SECTIONS, read_recipe, recipe_text

DEFAULT_FILE = ROOT / "train" / "default.toml"


def written(folder: Path, text: str) -> Path:
    file = folder / "retrain.toml"
    file.write_text(f"config_version = {RECIPE_VERSION}\n{text}", encoding="utf-8")
    return file


def refused(folder: Path, text: str) -> list[str]:
    """The problems that reading names, a line each."""
    with pytest.raises(UsageError) as caught:
        read_recipe(written(folder, text))
    return caught.value.remedy.splitlines()[1:]


@pytest.mark.parametrize(("kind", "file"), [("auto", "default"), ("adapt", "adapt"), ("corpus", "corpus")])
def test_the_shipped_files_are_the_generated_ones_byte_for_byte(kind: str, file: str) -> None:
    path = ROOT / "train" / f"{file}.toml"
    assert path.read_bytes() == recipe_text(kind).encode(), f"python -m train.retrain.recipe {kind} > {path}"
    recipe = read_recipe(path)
    assert recipe.values["recipe"]["kind"] == kind


def test_the_shipped_file_is_what_the_command_prints() -> None:
    command = [sys.executable, "-m", "train.retrain.recipe"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=True)
    assert done.stdout == DEFAULT_FILE.read_bytes() and done.stderr == b""


def test_the_shipped_file_says_every_default_and_explains_every_key() -> None:
    document = tomllib.loads(recipe_text("auto"))
    del document["config_version"]
    assert document == {
        name: {key.name: getattr(section(), key.name) for key in fields(section)} for name, section in SECTIONS.items()
    }
    lines = recipe_text("auto").splitlines()
    for number, line in enumerate(lines):
        assert len(line) <= 120 and line.isascii()
        if " = " in line and not line.startswith(("#", "config_version")):
            assert lines[number - 1].startswith("# Allowed: ") and lines[number - 2].startswith("# "), line


def test_the_defaults_are_what_the_built_in_bundle_was_made_with(tmp_path: Path) -> None:
    manifest = json.loads((DEFAULT_BUNDLE / MANIFEST).read_text(encoding="utf-8"))
    values = read_recipe(written(tmp_path, "")).values
    rooms = manifest["training"]["provenance"]
    made, teachers = rooms["start"]["config"], rooms["start"]["teachers"]
    assert {key: value for key, value in values["rooms"].items() if key != "use"} == rooms["config"]
    student = {key: value for key, value in values["student"].items() if key != "teachers"}
    assert student == {key: made[key] for key in student}
    assert values["student"]["teachers"] == len(teachers)
    for number, teacher in enumerate(teachers):
        expected = {**values["fit"], "seed": values["fit"]["seed"] + number}
        assert expected == {key: teacher["config"][key] for key in expected}
    assert values["synth"]["clips"] == manifest["training"]["data"]["avdrift synthetic"]["clips"]
    assert (values["bundle"]["name"], values["bundle"]["version"]) == (manifest["name"], manifest["version"])


@pytest.mark.parametrize(
    ("section", "config", "left_out"),
    [
        ("clean", FitConfig, {"teacher_share"}),
        ("fit", FitConfig, {"teacher_share"}),
        ("student", FitConfig, {"phone_steps", "phone_voices", "shape_steps"}),
        ("rooms", RoomConfig, set()),
    ],
)
def test_training_sections_have_the_keys_and_ranges_of_a_training_run(
    section: str, config: Any, left_out: set[str]
) -> None:
    keys = {key.name: key for key in fields(SECTIONS[section]) if key.name not in ("use", "teachers")}
    expected = [key for key in fields(config) if key.name not in left_out]
    assert list(keys) == [key.name for key in expected]
    for key in expected:
        allowed = allowed_of(keys[key.name])
        assert isinstance(allowed, WholeNumber if isinstance(key.default, int) else Range)
        assert (allowed.low, allowed.high) == RANGES[key.name]


def test_values_are_read_and_all_others_keep_their_defaults(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path, '[folders]\nclips = "a/b"\n[fit]\nepochs = 3\nlearning_rate = 0\n'))
    assert recipe.path("folders", "clips") == tmp_path / "a" / "b"
    fit = recipe.values["fit"]
    assert (fit["epochs"], fit["learning_rate"], fit["steps_per_epoch"]) == (3, 0.0, 100)
    assert isinstance(fit["epochs"], int) and isinstance(fit["learning_rate"], float)


def test_what_is_reported_of_a_recipe_has_all_seeds_and_no_path(tmp_path: Path) -> None:
    to_dict = read_recipe(
        written(tmp_path, '[bundle]\ncard = "of/somebody.toml"\n[folders]\nwork = "else"\n')
    ).to_dict()
    assert [to_dict[name]["seed"] for name in ("synth", "clean", "zero", "fit", "evaluate")] == [1, 1, 0, 1, 0]
    assert "folders" not in to_dict
    assert "somebody" not in json.dumps(to_dict) and "else" not in json.dumps(to_dict)


def test_every_problem_is_named_at_once_with_its_line(tmp_path: Path) -> None:
    said = refused(tmp_path, '[fit]\nepoch = 3\nepochs = 0\ndropout = "much"\nseed = 1.5\n[sinth]\n[zero]\nuse = 1\n')
    assert [line.split(": ")[0].rpartition(":")[2] for line in said] == ["3", "4", "5", "6", "7", "9"]
    for line, words in zip(
        said,
        [
            ("fit.epoch", "unknown", "did you mean epochs?"),
            ("fit.epochs", "found 0", "from 1 to 10000"),
            ("fit.dropout", "'much'", "0 to 0.9"),
            ("fit.seed", "1.5", "a whole number"),
            ("sinth", "did you mean synth?"),
            ("zero.use", "found 1", "true, false"),
        ],
        strict=True,
    ):
        assert all(word in line for word in words), line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[fit]\nepochs = 2\nsteps_per_epoch = 5\nwarmup_steps = 10\n", ("fit.warmup_steps", "less than all steps")),
        ("[clean]\nwarmup_steps = 640\n", ("clean.warmup_steps", "which are 640")),
        ('[folders]\nwork = ""\n', ("folders.work", "the name of a folder")),
        ('[bundle]\nname = ""\n', ("bundle.name", "some text")),
        ("fit = 3\n", ("fit", "one section")),
        ("epochs = 3\n", ("epochs", "it belongs under [clean]")),
    ],
)
def test_values_that_do_not_go_together(text: str, words: tuple[str, ...], tmp_path: Path) -> None:
    (line,) = refused(tmp_path, text)
    assert all(word in line for word in words), line


@pytest.mark.parametrize("content", ["", "config_version = 2\n", "[fit\n", "\x00"])
def test_files_that_are_no_recipe(content: str, tmp_path: Path) -> None:
    file = tmp_path / "retrain.toml"
    file.write_text(content)
    with pytest.raises(UsageError, match=r"retrain\.toml"):
        read_recipe(file)
    with pytest.raises(UsageError, match="nothing to read"):
        read_recipe(tmp_path / "nowhere.toml")
