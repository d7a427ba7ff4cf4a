"""A section of a configuration file: a frozen dataclass whose keys have a default, a constraint, and a description."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import ClassVar, TypeVar

from device.config.constraints import Allowed, Choice, Flag, Range, TextKind, WholeNumber, formatted
from device.errors import UsageError

Number = TypeVar("Number", int, float)


def number(default: Number, allowed: Range | Choice | WholeNumber, about: str, *, live: bool = False) -> Number:
    """A numeric key: its default, constraint and description, and whether a reload changes it."""
    return field(default=default, metadata={"allowed": allowed, "about": about, "live": live})


def flag(default: bool, about: str, *, live: bool = False) -> bool:
    """A yes/no key."""
    return field(default=default, metadata={"allowed": Flag(), "about": about, "live": live})


def text(default: str, allowed: TextKind, about: str, *, live: bool = False) -> str:
    """A text key."""
    return field(default=default, metadata={"allowed": allowed, "about": about, "live": live})


def allowed_of(key: Field[object]) -> Allowed:
    """The constraint of a key."""
    allowed: Allowed = key.metadata["allowed"]
    return allowed


def is_live(key: Field[object]) -> bool:
    """Whether a reload changes this key in a running daemon."""
    live: bool = key.metadata["live"]
    return live


@dataclass(frozen=True, slots=True)
class Section:
    """Base of all sections. Raises UsageError naming every value that is not allowed."""

    about: ClassVar[str]

    @classmethod
    def clashes(cls, values: Mapping[str, object]) -> Iterator[tuple[str, str]]:
        """Keys that contradict others, and what is allowed; `values` has all keys, each valid by itself."""
        yield from ()

    def __post_init__(self) -> None:
        wrong = [
            f"{key.name} is {formatted(value)}, allowed is {allowed_of(key)}"
            for key in fields(self)
            if not allowed_of(key).allows(value := getattr(self, key.name))
        ]
        values = {key.name: getattr(self, key.name) for key in fields(self)}
        if not wrong:
            clashes = self.clashes(values)
            wrong = [f"{name} is {formatted(values[name])}, allowed is {allowed}" for name, allowed in clashes]
        if wrong:
            raise UsageError("; ".join(wrong), where="settings", remedy="Correct these values")


def annotated(sections: Mapping[str, Section]) -> Iterator[str]:
    """The lines of a configuration file with these values, each key below its description and constraint."""
    for name, section in sections.items():
        yield from ("", f"# {section.about}", f"[{name}]")
        for key in fields(section):
            reload = " Applied on reload." if is_live(key) else ""
            yield from ("", f"# {key.metadata['about']}", f"# Allowed: {allowed_of(key)}.{reload}")
            # A JSON string or number is also a TOML one, unless it has characters written as surrogate pairs.
            yield f"{key.name} = {json.dumps(getattr(section, key.name), ensure_ascii=False)}"
