"""The model card: in the manifest of a build, as a page, and regenerated in an existing bundle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from convert.card import page
from convert.cli import main
from device.bundles.bundle import DEFAULT_BUNDLE, MANIFEST, load_bundle
from tests.convert.conftest import SECRET
from tests.scenes import ROOT
from train.evaluation.tables import markdown_of
from train.model_card import DEFAULT_CARD, read_card

FIGURES = {
    "windows": 9, "within_frame": 0.875, "low": None, "high": None, "rmse_frames": 0.5, "median_error_ms": 6.4,
    "reported": 0.5, "right_of_reported": 1.0,
}  # fmt: skip
EVALUATION: dict[str, Any] = {
    "model": "a run", "truth": f"each clip's own offset, as /{SECRET}.json has it", "clips": 2, "speakers": 1,
    "left_out": [SECRET], "unsure_truth": [SECRET],
    "rows": [{"window_s": 2.0, "search_frames": 25, "speech": FIGURES},
             {"window_s": 10.0, "search_frames": 25, "speech": {"windows": 0}}],
    "corpora": {"made up": FIGURES}, "hopeless": [{"kind": "music", "window_s": 1.0, "windows": 7, "numbered": 0.0}],
}  # fmt: skip


@pytest.fixture
def bundle(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built / "int8", tmp_path / "bundle"))


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    file = tmp_path / "evaluation.json"
    file.write_text(json.dumps(EVALUATION))
    return file


def card(bundle: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))["card"]
    return found


def test_a_build_without_figures_says_so(bundle: Path) -> None:
    found = card(bundle)
    assert found["measured"] is None and found["taught_by"] == []
    assert found["corpora"] == {"made up": {"terms": "not stated", "clips": 2, "speakers": 2, "minutes": 0.1}}
    assert "Not measured.\n" in page(load_bundle(bundle).manifest)
    assert "Not recorded.\n" in page(load_bundle(bundle).manifest)


def test_a_regenerated_card_has_the_figures_and_names_nobody(
    bundle: Path, evaluation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = load_bundle(bundle)
    texts = tmp_path / "texts.toml"
    texts.write_text(DEFAULT_CARD.read_text() + '"made up" = "ours"\n')
    spoken = {"run": "fit", "seed": 1, "sha256": "ab12", "config": {"phone_steps": 5}}
    start = {"run": "student", "sha256": "ef56", "teachers": [spoken]}
    taught = [{"run": "fit-2", "sha256": "cd34"}]
    told = {"note": "Made before it was recorded.", "teachers": taught, "start": start}
    (tmp_path / "provenance.json").write_text(json.dumps(told))
    options = ["--texts", str(texts), "--evaluation", str(evaluation), "--provenance", f"{tmp_path}/provenance.json"]
    (bundle / f"{MANIFEST}.sig").write_text("for the manifest before")
    assert main(["card", str(bundle), *options]) == 0
    shown = capsys.readouterr().out
    after = load_bundle(bundle)
    assert after.digest != before.digest and not (bundle / f"{MANIFEST}.sig").exists()
    unchanged = {key: value for key, value in after.manifest.items() if key not in ("card", "training")}
    assert unchanged == {key: before.manifest[key] for key in unchanged}
    assert SECRET not in json.dumps(after.manifest)
    assert after.manifest["card"]["measured"]["truth"] == "a table of offsets that another model made"
    for words in (
        "# Model card: tiny 7", "| made up | 2 | 2 | 0.1 | ours |", "| music | 1 | 7 | 0.0 |", "Made before it was",
        "fit-2, seed unknown, weights `cd34`.",
        "started with the weights of another training: run student, weights `ef56`",
        "It was also trained with espeak-ng's voices, for phonemes",
        "| 1000 | 2 | 9 | 87.5 | one speaker | 6 | 50.0 | 100.0 |", *read_card().must_not,
    ):  # fmt: skip
        assert words in shown
    assert "| 1000 | 10 |" not in shown, "no windows of that length"


def test_new_texts_keep_the_figures(bundle: Path, evaluation: Path) -> None:
    assert main(["card", str(bundle), "--evaluation", str(evaluation)]) == 0
    measured = card(bundle)["measured"]
    assert main(["card", str(bundle), "--texts", str(DEFAULT_CARD)]) == 0
    assert card(bundle)["measured"] == measured


def test_a_page_is_written_and_the_bundle_left_as_it_is(bundle: Path, tmp_path: Path) -> None:
    before = (bundle / MANIFEST).read_bytes()
    assert main(["card", str(bundle), "--page", str(tmp_path / "card.md")]) == 0
    assert (tmp_path / "card.md").read_text(encoding="utf-8") == page(load_bundle(bundle).manifest)
    assert (bundle / MANIFEST).read_bytes() == before
    assert main(["card", str(bundle), "--page", str(tmp_path / "no" / "card.md")]) == 2


@pytest.mark.parametrize(
    ("option", "content", "code"),
    [
        ("--evaluation", "{}", 3),
        ("--evaluation", "[1]", 3),
        ("--evaluation", None, 3),
        ("--provenance", "{", 3),
        ("--texts", "x = 1", 2),
    ],
)
def test_files_that_are_none_change_nothing(
    option: str, content: str | None, code: int, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, before = tmp_path / "given", (bundle / MANIFEST).read_bytes()
    if content is not None:
        file.write_text(content)
    assert main(["card", str(bundle), option, str(file)]) == code
    assert "given" in capsys.readouterr().err
    assert (bundle / MANIFEST).read_bytes() == before


@pytest.mark.parametrize("odd", [None, 3, {}, {"schema": 99, "measured": "much"}])
def test_a_device_takes_bundles_without_a_card_or_with_one_it_does_not_know(
    odd: object, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    manifest["card"] = odd
    if odd is None:
        del manifest["card"], manifest["training"]
    (bundle / MANIFEST).write_text(json.dumps(manifest))
    assert load_bundle(bundle).name == "tiny"
    assert main(["card", str(bundle)]) == 3
    assert "no usable model card" in capsys.readouterr().err


def test_the_page_of_the_built_in_bundle_is_the_documented_one() -> None:
    shown = page(load_bundle(DEFAULT_BUNDLE).manifest)
    made = "avdrift-convert card device/models/default --page docs/model-card.md"
    assert (ROOT / "docs" / "model-card.md").read_text(encoding="utf-8") == shown, made


def test_tables() -> None:
    assert markdown_of(["a", "b"], [["1", "2"]]) == ["| a | b |", "| ---: | ---: |", "| 1 | 2 |"]
