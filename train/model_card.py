"""The part of a model card that cannot be measured: intended use, limits of use, and the corpora's terms.

`train/card.toml` is that of the built-in bundle. For other clips, write a file of the same form.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from device.config.constraints import formatted
from device.config.toml_reader import Problem, parse, read_text, require_correct

DEFAULT_CARD = Path(__file__).with_name("card.toml")
_LONGEST = 2000
_TEXT = f"text of 1 to {_LONGEST} characters"
_TEXTS, _LISTS = ("purpose",), ("must_not",)
_OWN_TEXTS, _OWN_LISTS = ("measured_on",), ("may_fail",)  # instead of, and in addition to, the figures of the run


@dataclass(frozen=True, slots=True)
class CardTexts:
    """Sentences for people; `terms` by corpus, as named in clips.csv. Empty entries are left to the figures."""

    purpose: str
    must_not: tuple[str, ...]
    terms: Mapping[str, str]
    measured_on: str = ""
    may_fail: tuple[str, ...] = ()


def read_card(file: Path = DEFAULT_CARD) -> CardTexts:
    """Raises UsageError with all problems of the file."""
    text = read_text(file)
    document = parse(text) if isinstance(text, str) else text
    require_correct(file, [document] if isinstance(document, Problem) else list(_problems(document)))
    assert isinstance(document, dict)
    texts: dict[str, Any] = {key: document[key] for key in (*_TEXTS, *_OWN_TEXTS) if key in document}
    texts |= {key: tuple(document[key]) for key in (*_LISTS, *_OWN_LISTS) if key in document}
    return CardTexts(**texts, terms=document["terms"])


def _problems(document: Mapping[str, Any]) -> Iterator[Problem]:
    optional = {*_OWN_TEXTS, *_OWN_LISTS}
    known = [*_TEXTS, *_OWN_TEXTS, *_LISTS, *_OWN_LISTS, "terms"]
    for key in document:
        if key not in known:
            near = get_close_matches(key[:60], known, n=1)
            hint = f"did you mean {near[0]}?" if near else ""
            yield Problem(None, formatted(key), "an unknown name", ", ".join(known), hint)
    for key in known:
        value = document.get(key)
        if value is None and key in optional:
            continue
        if key in (*_TEXTS, *_OWN_TEXTS) and not _is_text(value):
            yield Problem(None, key, _found(value), _TEXT)
        elif key in (*_LISTS, *_OWN_LISTS) and not (isinstance(value, list) and all(map(_is_text, value))):
            yield Problem(None, key, _found(value), f"a list, each {_TEXT}")
        elif key == "terms" and not (isinstance(value, dict) and all(map(_is_text, value.values()))):
            yield Problem(None, key, _found(value), f"a table [terms], each corpus with {_TEXT}")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value.strip()) <= len(value) <= _LONGEST


def _found(value: object) -> str:
    return "nothing" if value is None else formatted(value)
