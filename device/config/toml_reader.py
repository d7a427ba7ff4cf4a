"""Reads a TOML file of a known form and reports every problem at once: its line, the value and what is allowed.

Nothing in such a file raises: it becomes a Problem. Missing keys keep their defaults. Unknown keys and sections are
problems, because a misspelt key would otherwise silently keep its default.
"""

from __future__ import annotations

import re
import stat
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from device.config.constraints import formatted
from device.config.section import Section, allowed_of
from device.errors import UsageError

VERSION_KEY = "config_version"
MAX_BYTES = 65_536  # fifty times the annotated default
MAX_LINE_BYTES = 5_000  # enough for the longest path; tomllib takes minutes for a line of 65,000 with `a.a.a…`
_MAX_STATEMENT_LINES = 50  # for finding lines only
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]{1,60}")
_ASSIGNED = re.compile(r"\s*(?P<key>[A-Za-z0-9_-]{1,60})\s*=\s*(?P<value>[^#\s\[{][^#]*)")
_UNQUOTED = re.compile(r"([A-Za-z/~.]|[0-9]+(\.[0-9]+){2,})[ !#-&(-~]{0,60}")  # printable ASCII without quotes
_FLAG_WORDS = ("yes", "no", "on", "off", "true", "false")
_AT_LINE = re.compile(r" \(at line (\d+), column \d+\)$| \(at end of document\)$")

KeyPath = tuple[str, ...]
Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem at one place; `line` counts from 1, None if it is not in a line; `key` is None for the file."""

    line: int | None
    key: str | None
    found: str
    allowed: str
    hint: str = ""

    def text(self, file: Path) -> str:
        place = f"{file}:{self.line}" if self.line else str(file)
        key = f"{self.key}: " if self.key else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{place}: {key}found {self.found}; allowed: {self.allowed}{hint}"


@dataclass(frozen=True, slots=True)
class Form:
    """The form of a kind of file: sections by name, and the version that it must declare."""

    version: int
    sections: Mapping[str, type[Section]]

    def defaults(self) -> dict[str, Any]:
        return {name: section() for name, section in self.sections.items()}

    def filled(self, document: Document) -> dict[str, Any]:
        """The sections of a valid document."""
        made = {}
        for name, section in self.sections.items():
            kinds = {key.name: key.type for key in fields(section)}
            values = document.get(name, {})
            # TOML distinguishes 5 from 5.0; users should not have to.
            made[name] = section(**{key: _number(value, kinds[key]) for key, value in values.items()})
        return made


def _number(value: Any, kind: Any) -> Any:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return value
    return int(value) if kind in (int, "int") else float(value)


def read_form(
    file: Path, form: Form, migrate: Callable[[Document], Document] = lambda document: document
) -> tuple[dict[str, Any], list[Problem]]:
    """The sections of a file and its problems by line; with any problem, the sections are the defaults.

    `migrate` converts an older document to today's version before validation.
    """
    text = read_text(file)
    document = parse(text) if isinstance(text, str) else text
    if isinstance(document, Problem):
        return form.defaults(), [document]
    document = migrate(document)
    problems = list(_problems(document, form))
    if problems:
        lines = _lines(str(text))
        located = [replace(problem, line=lines.get(path)) for path, problem in problems]
        return form.defaults(), sorted(located, key=lambda problem: problem.line or 0)
    return form.filled(document), []


def require_correct(file: Path, problems: list[Problem]) -> None:
    """Raises UsageError with all of the problems, if there are any."""
    if problems:
        listed = "\n  ".join(["Correct this:", *(problem.text(file) for problem in problems)])
        raise UsageError("not a correct configuration", where=str(file), remedy=listed)


def read_text(file: Path) -> str | Problem:
    """The text of a plain file of at most MAX_BYTES."""
    try:
        # Reading a pipe could block, and a device might never end.
        if not stat.S_ISREG(file.stat().st_mode):
            return Problem(None, None, "a folder or a device", "a plain file")
        with file.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        return Problem(None, None, f"nothing to read ({error.strerror})", "a file that this user may read")
    if len(content) > MAX_BYTES:
        return Problem(None, None, "a larger file", f"at most {MAX_BYTES} bytes")
    for number, row in enumerate(content.split(b"\n"), start=1):
        if len(row) > MAX_LINE_BYTES:
            return Problem(number, None, "a longer line", f"at most {MAX_LINE_BYTES} bytes in a line")
    content = content.removeprefix(b"\xef\xbb\xbf")  # some editors' UTF-8 mark
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return Problem(line, None, f"the byte 0x{content[error.start]:02x}, which is not UTF-8", "text in UTF-8")


def parse(text: str) -> Document | Problem:
    """The tables of a TOML text."""
    allowed = "TOML, with each section and each key once"
    try:
        return tomllib.loads(text)
    except RecursionError:
        return Problem(None, None, "brackets nested too deeply", allowed)
    except tomllib.TOMLDecodeError as error:
        match = _AT_LINE.search(str(error))
        line = int(match[1]) if match and match[1] else text.rstrip().count("\n") + 1
        found = f"something else than TOML ({_AT_LINE.sub('', str(error))[:200]})"
        return Problem(line, None, found, allowed, _missing_quote(text.split("\n"), line))
    except ValueError:  # an integer with thousands of digits
        return Problem(None, None, "a number too long to read", allowed)


def _missing_quote(lines: list[str], line: int) -> str:
    """A hint at the likely cause of invalid TOML: a missing quote. `line` counts from 1."""
    matches = [_ASSIGNED.match(text) for text in reversed(lines[max(line - 2, 0) : line])]
    for key, value in ((match["key"], match["value"].strip()) for match in matches if match):
        # Without a closing quote, the error may be reported for the next line.
        if any(value.count(quote) % 2 for quote in "\"'"):
            return f"the value of {key} lacks a quote, at its beginning or its end"
    if matches and (first := matches[0]) and _UNQUOTED.fullmatch(value := first["value"].strip()):
        return "true or false" if value.lower() in _FLAG_WORDS else f'text needs quotes: {first["key"]} = "{value}"'
    return ""


def _problems(document: Document, form: Form) -> Iterator[tuple[KeyPath, Problem]]:
    """The problems, each with the path of its key."""
    version = document.get(VERSION_KEY)
    if version is None:
        hint = f"write {VERSION_KEY} = {form.version} above all sections"
        yield (), Problem(None, VERSION_KEY, "nothing", str(form.version), hint)
    elif not isinstance(version, int) or isinstance(version, bool) or version != form.version:
        newer = isinstance(version, int) and version > form.version
        hint = "the file is for a newer avdrift: update avdrift" if newer else ""
        yield (VERSION_KEY,), Problem(None, VERSION_KEY, formatted(version), str(form.version), hint)
        if newer:
            return  # its keys may well be valid
    for name, values in document.items():
        if name == VERSION_KEY:
            continue
        if name not in form.sections:
            yield (name,), _unknown((name,), [VERSION_KEY, *form.sections], form)
        elif not isinstance(values, dict):
            yield (name,), Problem(None, name, formatted(values), f"one section [{name}]")
        else:
            yield from _section_problems(name, values, form)


def _section_problems(name: str, values: Document, form: Form) -> Iterator[tuple[KeyPath, Problem]]:
    section = form.sections[name]
    known = {key.name: key for key in fields(section)}
    wrong = False
    for key, value in values.items():
        path = (name, key)
        if key not in known:
            yield path, _unknown(path, list(known), form)
        elif not allowed_of(known[key]).allows(value):
            wrong = True
            yield path, Problem(None, f"{name}.{key}", formatted(value), str(allowed_of(known[key])))
    if not wrong:
        together = {key: values.get(key, field.default) for key, field in known.items()}
        for key, allowed in section.clashes(together):
            yield (name, key), Problem(None, f"{name}.{key}", formatted(together[key]), allowed)


def _unknown(path: KeyPath, known: list[str], form: Form) -> Problem:
    key = path[-1]
    homes = [name for name, section in form.sections.items() if key in {field.name for field in fields(section)}]
    near = get_close_matches(key.lower()[:60], known, n=1)
    hint = f"it belongs under [{homes[0]}]" if homes else f"did you mean {near[0]}?" if near else ""
    where = ".".join(part if _BARE_KEY.fullmatch(part) else formatted(part) for part in path)
    return Problem(None, where, "an unknown name", ", ".join(known), hint)


def _lines(text: str) -> dict[KeyPath, int]:
    """The line of the first mention of each key and section of a valid TOML text, counted from 1.

    tomllib has no line numbers, but it knows where a statement ends: lines are added until it can parse them alone.
    """
    found: dict[KeyPath, int] = {}
    section: KeyPath = ()
    statement: list[str] = []
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        statement.append(line)
        try:
            content = tomllib.loads("\n".join(statement))
        except (tomllib.TOMLDecodeError, RecursionError):
            if len(statement) >= _MAX_STATEMENT_LINES:
                return found
            continue
        header = line.lstrip(" \t").startswith("[") and len(statement) == 1
        section = () if header else section
        paths = [section + path for path in _paths(content)]
        for path in paths:
            found.setdefault(path, number - len(statement) + 1)
        section = paths[-1] if header else section
        statement = []
    return found


def _paths(content: Document) -> Iterator[KeyPath]:
    """The path of each key, outer ones first, down to the second level, because problems are never deeper."""
    for key, value in content.items():
        yield (key,)
        if isinstance(value, dict):
            yield from ((key, inner) for inner in value)
