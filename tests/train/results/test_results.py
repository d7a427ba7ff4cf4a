"""The page of results: every figure comes from its part, and an interrupted run resumes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from device.bundles.bundle import DEFAULT_BUNDLE
from device.bundles.calibration import Calibration
from device.errors import InputFormatError, InputMissingError
from tests.train.made import make_clip, perfect_towers
from train.cli import main
from train.commands.results import _PARTS, _titled
from train.comparison.comparison import compare
from train.comparison.estimators import ZeroEstimator
from train.evaluation.protocol import evaluate
from train.results import parts, run
from train.results.page import page
from train.results.parts import PARTS, Part, Settings
from train.results.run import OWN_OFFSETS, clip_set, measured
from train.scenes.daily import Talk, summary

TABLE = "file,speaker,split,corpus,duration_s,language,kind\na.mkv,anna,valid,web,6,English,phone\n"
CALIBRATION = Calibration(logit_scale=8.0, temperature=2.0, null_log_odds=2.0)
OWN_MS = {"a.mkv": 30.0, "b.mkv": -60.0}


def windows_and_models() -> tuple[dict[str, Any], dict[str, Any]]:
    clips = [make_clip(f"{name}.mkv", seed=k, offset_ticks=round(OWN_MS[f"{name}.mkv"] / 10), speaker=name)
             for k, name in enumerate("ab")]  # fmt: skip
    groupings = {"language": {"a.mkv": "English", "b.mkv": "Welsh"}, "kind": dict.fromkeys(OWN_MS, "phone")}
    windows = evaluate(clips, perfect_towers(), CALIBRATION, model="m", offsets_ms=OWN_MS, groupings=groupings)
    return windows.to_dict(), compare(clips, [ZeroEstimator()], OWN_MS, truth="built in").to_dict()


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    windows, models = windows_and_models()
    talks = [Talk("a.mkv", 2.2, 10, 9, 8, 1.5), Talk("b.mkv", 4.2, 7, 7, 7, 1.0)]
    daily = {"clips": 2, "left_out": 3, "each": [asdict(talk) for talk in talks]} | summary(talks, [(40, 1)])
    sliced = {"copies": 2, "clips": 2, "left_out": 1, "windows": 12, "right": 0.75, "always_zero": 0.067,
              "median_error_ms": 6.25, "measuring": 0.5, "measuring_right": 1.0}  # fmt: skip
    spoken = {"reports": 9, "measuring": 8, "right_of_measuring": 0.875, "right_of_all": 7 / 9}
    trusted = {"reports": 50, "measuring": 20, "right_of_measuring": 0.95, "right_of_settled": 1.0, "stretches": 1,
               "stretches_measured": 1.0, "median_first_s": 2.64}  # fmt: skip
    long_parts = {
        "two-speakers": {"scenes": 2, "unsure": 0, "alone": spoken, "both": spoken},
        "trust": {"clips": 2, "rounds": 5} | dict.fromkeys(
            ("speakers", "strangers_voices", "still_mouths", "by_turns"), trusted),
        "models": models,
        "sliced": sliced,
        "degraded": {"clips": 2, "unsure": 0, "ways": {"fog": {"reports": 33, "measuring": 22, "right": 21}}},
        "unmeasurable": {"hours": 0.5, "reports": 1234, "measuring": 1, "scenes": {"fog horn": {"measuring": 1}}},
    }  # fmt: skip
    row = {"duration_s": 6.0, "corpus": "c"}
    rows = [row | {"file": "a.mkv", "speaker": "anna", "language": "English", "kind": "phone"},
            row | {"file": "b.mkv", "speaker": "bert", "language": "", "kind": ""}]  # fmt: skip
    every = {"windows": windows, "daily": daily}
    sets = [
        {"title": "mine", "rows": rows, "own_ms": OWN_MS, "parts": every | long_parts},
        {"title": "yours", "rows": rows, "own_ms": OWN_MS, "parts": every},
    ]
    for clips in sets:
        for part in clips["parts"].values():  # type: ignore[attr-defined]
            part["on"] = "2026-11-29"
    manifest = {"files": {"lips.tflite": {"size": 740_000}}, "number_format": "int8",
                "parity": {"parity": {"accuracy": {"2": 0.981}, "reference_accuracy": {"2": 0.982}}}}  # fmt: skip
    return json.loads(json.dumps({"model": "m 1", "macs_per_s": 141e6, "manifest": manifest, "sets": sets}))


def test_the_page_has_the_figures_of_every_part_and_the_speakers_of_every_row(found: dict[str, Any]) -> None:
    text = page(found)
    for line in (
        "| reports that have a number | 16 of 17 | 16 of 17 |", "| of these, right | 15 of 16 | 15 of 16 |",
        "| another speaker's voice: reports that have a number | 1 of 40 | 1 of 40 |",
        "| clips, speakers | 2, 2 | 2, 2 |", "| mine | English | 1 | 1 | 9 of 10 | 8 of 9 | 2.2 s |",
        "| mine | not stated | 1 | 1 | 7 of 7 | 7 of 7 | 4.2 s |",
        "| yours | c | 1 | 1 | 7 of 7 | 7 of 7 | 4.2 s |", "| mine | Welsh | 1 |", "| fog | 22 of 33 | 21 of 22 |",
        "| fog horn | 1 of 1 |", "30 minutes through the whole chain, in scenes of a minute: 1 of 1,234 reports",
        "| both | 8 of 9 | 7 of 8 |", "| their own voices | 50 | 40.0 | 95.0 | 100.0 | 2.6 s |",
        "| median error in ms | 6.2 |", "| always 0 | ", "| ratio | 1/320 |", "98.1 % at 2 s",
        "| mine | 2 | 2 | 0.2 | 2 | English, not stated |",
    ):  # fmt: skip
        assert line in text, line
    assert not re.search(r"\b(nan|None|inf)\b", text)


def test_a_part_that_was_not_run_has_no_section(found: dict[str, Any]) -> None:
    parts_of = [{name: part for name, part in each["parts"].items() if name != "windows"} for each in found["sets"]]
    sets = [each | {"parts": some} for each, some in zip(found["sets"], parts_of, strict=True)]
    text = page(found | {"sets": sets})
    assert "## Windows by themselves" not in text and "## Beside published" not in text
    assert "## Languages and kinds" in text and "| mine | English | 1 | 1 | 9 of 10 |" in text


def test_published_figures_stand_beside_windows_that_are_cut_out(found: dict[str, Any]) -> None:
    section = page(found).partition("## Beside published figures")[2].partition("\n## ")[0]
    assert "cut out of their clip" in section
    published = next(line for line in section.splitlines() if line.startswith("| SyncNet"))
    assert published.startswith("| SyncNet, LRS2, as published | 75.8 | 96.1 | - |")


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    (folder / "clips.csv").write_text(TABLE)
    return folder


def test_an_interrupted_run_goes_on_and_runs_again_what_has_changed(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def part(name: str) -> Part:
        def work(one: parts.ClipSet, settings: Settings, own_ms: Mapping[str, float]) -> dict[str, Any]:
            assert own_ms == {"a.mkv": 12.5}
            calls.append(f"{one.title} {name}")
            if broken == name:
                raise InputFormatError("power cut", where="here", remedy="wait")
            return {"count": len(calls)}

        return Part(work, amounts=("hours",) if name == "long" else (), first_only=name == "long")

    def own_offsets(one: parts.ClipSet, settings: Settings) -> dict[str, float | None]:
        calls.append(f"{one.title} own")
        return {"a.mkv": 12.5, "b.mkv": None}

    broken = "long"
    monkeypatch.setattr(run, "own_offsets", own_offsets)
    monkeypatch.setattr(run, "PARTS", {name: part(name) for name in ("short", "long")})
    sets = [clip_set(title, clips, tmp_path / "work") for title in ("mine", "yours")]
    settings = Settings(DEFAULT_BUNDLE)
    with pytest.raises(InputFormatError, match="power cut"):
        measured(sets, settings)
    assert calls == ["mine own", "yours own", "mine short", "yours short", "mine long"]
    calls.clear()
    broken = ""
    first = measured(sets, settings)
    assert calls == ["mine long"]
    assert [set(each["parts"]) for each in first["sets"]] == [{"short", "long"}, {"short"}]
    calls.clear()
    assert measured(sets, settings) == first and not calls
    measured(sets, Settings(DEFAULT_BUNDLE, hours=1.0))
    measured(sets, Settings(DEFAULT_BUNDLE, hours=1.0), ["short", "long"], ["long"])
    assert calls == ["mine long", "mine short", "yours short"]
    calls.clear()
    (clips / "clips.csv").write_text(TABLE.replace("anna", "berta"))
    measured(sets[1:], settings)
    assert calls == ["yours own", "yours short", "yours long"]


def test_the_command_names_the_parts_there_are() -> None:
    assert set(_PARTS) == {OWN_OFFSETS, *PARTS}


@pytest.mark.parametrize(
    ("given", "title", "folder"),
    [("a=b/c", "a", "b/c"), ("x = y of z=b", "x = y of z", "b"), ("b/clips/", "clips", "b/clips")],
)
def test_a_set_has_a_title_or_that_of_its_folder(given: str, title: str, folder: str) -> None:
    assert _titled(given) == (title, Path(folder))


def test_what_cannot_work_is_said_before_anything_is_measured(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.md"
    command = ["results", str(clips), "--work", str(tmp_path / "work"), "--out", str(out)]
    assert main(command) == InputMissingError.exit_code
    out.write_text("# Results\n")
    assert main(command) == InputFormatError.exit_code
    out.write_text("<!-- results -->\n<!-- end of results -->\n")
    assert main([*command, "--hours", "0"]) == 2
    assert main([*command[:2], str(clips), *command[2:]]) == 2
    said = capsys.readouterr().err
    assert "two sets have the same title" in said and "<!-- results -->" in said
    assert not (tmp_path / "work").exists()
