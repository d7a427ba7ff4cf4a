"""Files of another format than the daemon's: whole numbers stay whole, sections keep their types."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from device.config.constraints import Range, WholeNumber
from device.config.section import Section, annotated, flag, number
from device.config.toml_reader import Form, read_form, require_correct
from device.errors import UsageError


@dataclass(frozen=True, slots=True)
class Oven(Section):
    about = "The oven."

    heat_c: float = number(180, Range(50, 300), "How hot.")
    trays: int = number(1, WholeNumber(1, 4), "How many.")
    fan: bool = flag(True, "Whether it blows.")


FORM = Form(3, {"oven": Oven})


def read(folder: Path, text: str) -> tuple[dict[str, Any], list[str]]:
    file = folder / "oven.toml"
    file.write_text(text)
    sections, problems = read_form(file, FORM)
    return sections, [problem.text(file).removeprefix(str(file)) for problem in problems]


def test_numbers_become_what_the_section_says_they_are(tmp_path: Path) -> None:
    sections, problems = read(tmp_path, "config_version = 3\n[oven]\nheat_c = 200\ntrays = 2.0\nfan = false\n")
    assert not problems
    oven = sections["oven"]
    assert oven == Oven(200.0, 2, False)
    assert (type(oven.heat_c), type(oven.trays), type(oven.fan)) == (float, int, bool)


def test_what_is_left_out_keeps_its_default(tmp_path: Path) -> None:
    assert read(tmp_path, "config_version = 3\n") == ({"oven": Oven()}, [])


def test_all_problems_come_at_once_with_their_lines(tmp_path: Path) -> None:
    sections, problems = read(tmp_path, "config_version = 3\n[oven]\nheat_c = 500\nheat = 2\n[grill]\n")
    assert sections == {"oven": Oven()}
    assert problems == [
        ":3: oven.heat_c: found 500; allowed: 50 to 300",
        ":4: oven.heat: found an unknown name; allowed: heat_c, trays, fan (did you mean heat_c?)",
        ":5: grill: found an unknown name; allowed: config_version, oven",
    ]


def test_another_version_is_named(tmp_path: Path) -> None:
    _, problems = read(tmp_path, "config_version = 1\n")
    assert problems == [":1: config_version: found 1; allowed: 3"]


def test_a_document_may_be_made_newer_before_it_is_judged(tmp_path: Path) -> None:
    file = tmp_path / "oven.toml"
    file.write_text("config_version = 2\n[stove]\nheat_c = 90\n")
    sections, problems = read_form(file, FORM, lambda old: {"config_version": 3, "oven": old["stove"]})
    assert (sections["oven"], problems) == (Oven(heat_c=90.0), [])


def test_correct_files_pass_and_others_say_everything(tmp_path: Path) -> None:
    file = tmp_path / "oven.toml"
    require_correct(file, [])
    file.write_text("[oven]\nheat_c = 5\ntrays = 9\n")
    with pytest.raises(UsageError) as caught:
        require_correct(file, read_form(file, FORM)[1])
    for part in ("config_version", "oven.heat_c: found 5", "oven.trays: found 9", "oven.toml:3"):
        assert part in str(caught.value)


def test_the_annotated_form_reads_back(tmp_path: Path) -> None:
    oven = Oven(72.5, 3, False)
    text = "\n".join(["config_version = 3", *annotated({"oven": oven})])
    assert "# How hot.\n# Allowed: 50 to 300.\nheat_c = 72.5" in text
    assert read(tmp_path, text) == ({"oven": oven}, [])


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("name = stove", 'text needs quotes: name = "stove"'),
        ("name = 10.0.0.2", 'text needs quotes: name = "10.0.0.2"'),
        ('name = "stove', "the value of name lacks a quote"),
        ('name = stove"', "the value of name lacks a quote"),
        ("name = 'stove\ntrays = 2", "the value of name lacks a quote"),
        ("fan = yes", "true or false"),
    ],
)
def test_a_quote_that_is_likely_missing_is_named(line: str, hint: str, tmp_path: Path) -> None:
    _, (problem,) = read(tmp_path, f"config_version = 3\n[oven]\n{line}\n")
    assert hint in problem


@pytest.mark.parametrize("line", ["trays = 1 2", "[oven", "trays", "trays = [", "= 3", 'name = "a" "b"'])
def test_nothing_is_said_of_quotes_where_they_are_not_the_matter(line: str, tmp_path: Path) -> None:
    _, (problem,) = read(tmp_path, f"config_version = 3\n[oven]\n{line}\n")
    assert "quote" not in problem
