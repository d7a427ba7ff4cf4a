"""Every word of the daemon and every text of the page is in the table, in both languages."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

import pytest

import device.page
from device.records import Direction, EventKind, Fault, Reason, State, Verb, Verdict
from device.reporting.events import ABSENT, PRESENT

STATIC = Path(device.page.__path__[0]) / "static"
CODE = {file.name: file.read_text(encoding="utf-8") for file in sorted(STATIC.glob("*.js"))}
TABLE = dict(re.findall(r"^  (\"[\w-]+\"|\w+): (\[.*?\]),$", CODE["texts.js"], re.MULTILINE | re.DOTALL))
KEYS = {key.strip('"') for key in TABLE}


def missing(keys: Iterable[str]) -> set[str]:
    return set(keys) - KEYS


@pytest.mark.parametrize("words", [State, Reason, Fault, Verdict])
def test_what_the_daemon_says_has_words(words: type[StrEnum]) -> None:
    assert not missing(word.value for word in words)


def test_every_kind_of_event_and_what_becomes_of_faces_has_words() -> None:
    assert not [kind.value for kind in EventKind if not {kind.value, f"{kind.value}Event"} & KEYS]
    assert not missing([ABSENT, PRESENT, Direction.AUDIO_EARLY, Direction.AUDIO_LATE])


def test_every_button_says_what_it_does_asks_and_says_what_came_of_it() -> None:
    (listed,) = re.findall(r"const VERBS = (\[.*?\])", CODE["controls.js"])
    verbs = re.findall(r'"([\w-]+)"', listed)
    assert set(verbs) == {verb.value for verb in Verb} - {Verb.DIAGNOSTICS, Verb.SET_PROFILE}
    assert not missing(verb + part for verb in verbs for part in ("", "Ask", "Done"))


def test_every_text_that_the_page_asks_for_is_there() -> None:
    asked = re.findall(r'data-(?:text|label)="(\w+)"', (STATIC / "index.html").read_text(encoding="utf-8"))
    for code in CODE.values():
        asked += re.findall(r'\b(?:text|say)\("([\w-]+)"', code)
    assert len(asked) > 30 and not missing(asked)


def test_every_text_is_there_twice_with_the_same_values() -> None:
    for key, pair in TABLE.items():
        texts = re.findall(r'"((?:[^"\\\\]|\\\\.)*)"', pair)
        assert len(texts) == 2 and all(texts), key
        assert len({frozenset(re.findall(r"\{(\w+)\}", one)) for one in texts}) == 1, key
