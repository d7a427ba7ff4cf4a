"""train/model_card.py: the texts of a model card, and the messages for invalid files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from device.bundles.bundle import DEFAULT_BUNDLE, MANIFEST
from device.errors import UsageError
from train.model_card import DEFAULT_CARD, read_card

WHOLE = DEFAULT_CARD.read_text(encoding="utf-8")


def refused(folder: Path, text: str) -> list[str]:
    file = folder / "card.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        read_card(file)
    return caught.value.remedy.splitlines()[1:]


def test_the_shipped_texts_know_the_terms_of_every_corpus_of_the_built_in_bundle() -> None:
    manifest = json.loads((DEFAULT_BUNDLE / MANIFEST).read_text(encoding="utf-8"))
    texts = read_card()
    assert set(manifest["training"]["data"]) <= set(texts.terms)
    assert texts.must_not and texts.purpose
    assert not texts.may_fail and not texts.measured_on, "a shipped sentence would claim what nobody measured"


def test_every_problem_is_named_at_once(tmp_path: Path) -> None:
    said = refused(
        tmp_path, 'purpos = "x"\nmust_not = "watching"\nmay_fail = [1]\nmeasured_on = " "\n[terms]\nGRID = 4\n'
    )
    assert len(said) == 6
    for line, words in zip(
        said,
        [
            ("'purpos'", "did you mean purpose?"),
            ("purpose", "found nothing"),
            ("measured_on", "text of 1 to"),
            ("must_not", "a list"),
            ("may_fail", "an array", "a list"),
            ("terms", "a table [terms]"),
        ],
        strict=True,
    ):
        assert all(word in line for word in words), line


@pytest.mark.parametrize(
    "text", ["", "purpose = ", WHOLE.replace("purpose", "\x01"), WHOLE.replace("[terms]", "[teams]"), "x" * 70_000]
)
def test_files_that_are_no_card(text: str, tmp_path: Path) -> None:
    assert refused(tmp_path, text)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to read"):
        read_card(tmp_path / "nowhere.toml")
