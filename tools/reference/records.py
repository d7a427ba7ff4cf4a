"""docs/reference/json.md, from the records: each key with its type, its unit, and the comment behind it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import fields
from enum import StrEnum

import avdrift
from device.records import Direction, DriftClass, Event, EventKind, Fault, Health, Info, Reason, Report, State, Verdict
from tools.reference.markdown import page, sentence, table

_INTRODUCTION = """One JSON object on one line. Unknown is `null`, never 0. New keys may be added; none is renamed
without a new `schema`. [Reports](../reports.md) and [Recordings](../quickstart-recordings.md#measure) explain more."""
_RECORDS: tuple[tuple[str, type, str], ...] = (
    ("Report", Report, "`avdrift run` and `avdrift replay --json`, a line each; the MQTT topic `state`."),
    ("Event", Event, "The MQTT topic `event`."),
    ("Health", Health, "The MQTT topic `health`, once a minute."),
    ("Info", Info, "The MQTT topic `info`, at the start and after each change."),
    (
        "Measurement",
        avdrift.Measurement,
        "`avdrift measure --json`, one for each recording; in Python, `avdrift.measure`.",
    ),
    ("Piece", avdrift.Piece, "In `pieces` of a measurement."),
    ("Step", avdrift.Step, "In `steps` of a measurement."),
    ("Window", avdrift.Window, "In `windows` of a measurement."),
)
_WORDS: tuple[type[StrEnum], ...] = (State, Reason, Direction, DriftClass, Verdict, Fault, EventKind)
_UNITS = {
    "ms": "ms", "s": "s", "ppm": "ppm", "hz": "Hz", "mb": "MB", "c": "°C", "ratio": "0 to 1",
}  # fmt: skip
_TYPES = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false", "None": "null"}
_MEMBER = re.compile(r"^    (\w+)(?:: [^#=]+?)?(?: = [^#]*?)?(?:  # (.+))?$")


def json_page() -> str:
    parts = [part for name, record, where in _RECORDS for part in _record(name, record, where)]
    words = [part for kind in _WORDS for part in _word_list(kind)]
    return page("JSON", _INTRODUCTION, *parts, "## Words", *words)


def _comments(kind: type) -> dict[str, str]:
    """Of each member, what stands behind it in the source."""
    matches = (_MEMBER.match(line) for line in inspect.getsource(kind).splitlines())
    return {match[1]: re.sub(r"\bNone\b", "`null`", match[2] or "") for match in matches if match}


def _record(name: str, record: type, where: str) -> Iterator[str]:
    yield f"## {name}"
    yield where
    comments = {name: text for kind in (Report, record) for name, text in _comments(kind).items() if text}
    rows = [
        (f"`{key.name}`", _type(str(key.type)), _unit(key.name), sentence(comments.get(key.name, "")))
        for key in fields(record)
    ]
    yield table(("key", "type", "unit", "meaning"), rows)


def _type(annotation: str) -> str:
    """In words, with a link to what it may be."""
    if match := re.match(r"tuple\[(\w+), \1\](.*)", annotation):
        return f"two of {_type(match[1] + match[2])}"
    if match := re.match(r"tuple\[(\w+), \.\.\.\]", annotation):
        return f"list of {_type(match[1])}"
    return ", ".join(_TYPES.get(part, f"[{part}](#{part.lower()})") for part in annotation.split(" | "))


def _unit(name: str) -> str:
    return _UNITS.get(name.rpartition("_")[2], "") if "_" in name else ""


def _word_list(kind: type[StrEnum]) -> Iterator[str]:
    yield f"### {kind.__name__}"
    if about := kind.__dict__.get("__doc__"):
        yield inspect.cleandoc(about)
    comments = _comments(kind)
    yield "\n".join(
        f"- `{word.value}`" + (f": {comments[word.name].rstrip('.')}" if comments.get(word.name) else "")
        for word in kind
    )
