"""Older configuration files: there is only one format yet, so a made-up older one proves the migration."""

from __future__ import annotations

import json
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device.cli import main
from device.config import file as config_file
from device.config.file import FORM, load_config, older_version, read_config, write_migrated
from device.config.migrations import STEPS, migrated, moved, version_of
from device.config.settings import CONFIG_VERSION, Config, EventSettings, MeasureSettings, SourceSettings, default_text
from device.config.toml_reader import VERSION_KEY, Document
from device.errors import UsageError

# Form 0 called the window `span_s`, under [run]; form -1 called the section [daemon].
OLD = 'config_version = 0\n# mine\n[run]\nspan_s = 7 # longer\n[source]\nfile = "größe 🎥.mkv"\n'


def from_0(document: Document) -> Document:
    document = moved(document, ("run", "span_s"), ("measure", "window_s"))
    return {name: values for name, values in document.items() if name != "run" or values}


def from_minus_1(document: Document) -> Document:
    return {("run" if name == "daemon" else name): values for name, values in document.items()}


INVENTED = {0: from_0, -1: from_minus_1}


@pytest.fixture
def _older_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_file, "migrated", lambda document: migrated(document, INVENTED))


def written(folder: Path, text: str = OLD) -> Path:
    file = folder / "avdrift.toml"
    file.write_text(text)
    return file


# Documents


def test_no_form_is_older_than_the_first_and_every_step_leads_on() -> None:
    assert set(STEPS) == set(range(1, CONFIG_VERSION))


def test_steps_are_taken_one_after_the_other() -> None:
    oldest: Document = {"config_version": -1, "daemon": {"span_s": 7}}
    assert migrated(oldest, INVENTED) == {"config_version": CONFIG_VERSION, "measure": {"window_s": 7}}
    assert oldest == {"config_version": -1, "daemon": {"span_s": 7}}, "what was given is left alone"


@pytest.mark.parametrize(
    "document",
    [{}, {"config_version": 1, "run": {"span_s": 7}}, {"config_version": 2}, {"config_version": -2},
     {"config_version": "0"}, {"config_version": False}, {"config_version": 0.0}, {"config_version": -(10**18)}],
)  # fmt: skip
def test_where_no_steps_lead_on_a_document_stays_as_it_is(document: Document) -> None:
    assert migrated(document, INVENTED) is document


@pytest.mark.parametrize(
    ("document", "after"),
    [
        ({"a": {"x": 1, "y": 2}}, {"a": {"y": 2}, "b": {"z": 1}}),
        ({"a": {"x": 1}, "b": {"w": 3}}, {"a": {}, "b": {"w": 3, "z": 1}}),
        ({"a": {"x": 1}, "b": {"z": 3}}, {"a": {"x": 1}, "b": {"z": 3}}),
        ({"a": {"x": 1}, "b": 3}, {"a": {"x": 1}, "b": 3}),
        ({"a": [{"x": 1}]}, {"a": [{"x": 1}]}),
        ({}, {}),
    ],
)
def test_a_key_is_moved_unless_that_would_lose_something(document: Document, after: Document) -> None:
    assert moved(document, ("a", "x"), ("b", "z")) == after


def test_a_key_is_moved_within_its_section() -> None:
    assert moved({"a": {"x": 1, "y": 2}}, ("a", "x"), ("a", "z")) == {"a": {"y": 2, "z": 1}}


VALUES = st.recursive(
    st.integers() | st.text(max_size=3) | st.booleans() | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["run", "span_s", "measure", "window_s", "config_version"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@settings(max_examples=300, derandomize=True)
@given(st.dictionaries(st.sampled_from(["config_version", "run", "measure", "daemon", "x"]), VALUES))
def test_no_document_is_too_strange(document: dict[str, Any]) -> None:
    for steps in (INVENTED, STEPS):
        found = migrated(document, steps)
        assert found is document or version_of(found) == CONFIG_VERSION


# Files


@pytest.mark.usefixtures("_older_forms")
def test_an_older_file_is_read_as_it_was_meant(tmp_path: Path) -> None:
    assert load_config(written(tmp_path)) == Config(
        MeasureSettings(window_s=7.0), source=SourceSettings("größe 🎥.mkv")
    )
    assert older_version(written(tmp_path)) == 0


@pytest.mark.usefixtures("_older_forms")
def test_what_is_wrong_in_an_older_file_is_reported_in_todays_words(tmp_path: Path) -> None:
    file = written(tmp_path, "config_version = 0\n[run]\nspan_s = 0\n[measure]\nsearch_ms = 1\n")
    problems = [(problem.line, problem.key) for problem in read_config(file)[1]]
    assert problems == [(None, "measure.window_s"), (5, "measure.search_ms")]
    assert older_version(file) is None


@pytest.mark.usefixtures("_older_forms")
def test_the_migrated_file_says_the_same_and_the_old_one_stays(tmp_path: Path) -> None:
    file = written(tmp_path)
    file.chmod(0o640)
    new = write_migrated(file)
    assert new == tmp_path / "avdrift.toml.new" and stat.S_IMODE(new.stat().st_mode) == 0o640
    assert file.read_text() == OLD
    document = tomllib.loads(new.read_text())
    assert (document["config_version"], document["measure"]["window_s"]) == (CONFIG_VERSION, 7.0)
    assert load_config(new) == load_config(file) and older_version(new) is None
    assert "# Allowed: 0.4 to 60." in new.read_text()


@pytest.mark.usefixtures("_older_forms")
def test_nothing_of_anybodys_is_overwritten(tmp_path: Path) -> None:
    file = written(tmp_path)
    (tmp_path / "avdrift.toml.new").write_text("mine")
    with pytest.raises(UsageError, match="exists"):
        write_migrated(file)
    assert (tmp_path / "avdrift.toml.new").read_text() == "mine"
    (tmp_path / "avdrift.toml.new").unlink()
    (tmp_path / "avdrift.toml.new").symlink_to("victim")
    with pytest.raises(UsageError):
        write_migrated(file)
    assert not (tmp_path / "victim").exists()


@pytest.mark.usefixtures("_older_forms")
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path)
    assert main(["check-config", str(file)]) == 0
    assert "older format 0; --migrate" in capsys.readouterr().out
    assert main(["check-config", str(file), "--migrate", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {"file": str(file), "correct": True, "problems": [], "migrated": f"{file}.new"}
    assert main(["check-config", str(file), "--migrate"]) == 2
    assert "remove an older avdrift.toml.new" in capsys.readouterr().err
    (tmp_path / "avdrift.toml.new").replace(file)
    assert main(["check-config", str(file), "--migrate"]) == 0
    assert "nothing was written" in capsys.readouterr().out
    assert main(["check-config", str(file), "--migrate", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["migrated"] is None
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.usefixtures("_older_forms")
def test_a_file_with_problems_is_not_migrated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, "config_version = 0\n[run]\nspan_s = 0\n")
    assert main(["check-config", str(file), "--migrate"]) == 2
    assert "measure.window_s" in capsys.readouterr().out and list(tmp_path.iterdir()) == [file]


TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40)


@settings(max_examples=200, derandomize=True)
@given(TEXTS, st.floats(0.4, 60), st.floats(0, 25))
def test_every_configuration_survives_being_written(file: str, window_s: float, hysteresis_ms: float) -> None:
    config = Config(
        MeasureSettings(window_s=window_s), source=SourceSettings(file),
        events=EventSettings(hysteresis_ms=hysteresis_ms),
    )  # fmt: skip
    assert Config(**FORM.filled(tomllib.loads(default_text(config)))) == config


def test_the_name_of_the_key_is_one(tmp_path: Path) -> None:
    assert VERSION_KEY in default_text()
