"""What a check finds, and carrying checks out: each within its time, none with a traceback."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from device.errors import AvdriftError, CaptureError, ModelError, TransportError, UsageError
from device.printable import printable

LIMIT_S = 15.0
CONFIG, CAPTURE, MODEL, TRANSPORT = (
    error.exit_code for error in (UsageError, CaptureError, ModelError, TransportError)
)  # what fails when a check does


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, and what to do about it: nothing where all is well."""

    check: str
    level: Level
    found: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look at; `exit_code` says what it spoils when it fails."""

    name: str
    exit_code: int
    look: Callable[[], tuple[Level, str, str]]
    limit_s: float = LIMIT_S


Look = tuple[Level, str, str]


def ok(found: str) -> Look:
    return Level.OK, found, ""


def warning(found: str, remedy: str) -> Look:
    return Level.WARNING, found, remedy


def failed(found: str, remedy: str) -> Look:
    return Level.FAILED, found, remedy


def examine(checks: Iterable[Check]) -> Iterator[Finding]:
    """Carry checks out, one after the other. Never raises: what breaks has failed."""
    for check in checks:
        level, found, remedy = _within(check)
        yield Finding(check.name, level, printable(found), printable(remedy))


def exit_code(checks: Iterable[Check], findings: Iterable[Finding]) -> int:
    """0 when nothing has failed, else the lowest code of what has: a wrong configuration explains a missing camera."""
    wrong = {finding.check for finding in findings if finding.level is Level.FAILED}
    return min((check.exit_code for check in checks if check.name in wrong), default=0)


def _within(check: Check) -> Look:
    seen: list[Look] = []
    thread = threading.Thread(target=lambda: seen.append(_look(check)), name=f"check {check.name}", daemon=True)
    thread.start()
    thread.join(check.limit_s)
    if not seen:
        return failed(f"no answer within {check.limit_s:g} s", "Something hangs in a driver or a network: look there")
    return seen[0]


def _look(check: Check) -> Look:
    try:
        return check.look()
    except AvdriftError as error:
        return failed(f"{error.where}: {error.what}", error.remedy)
    except Exception as error:  # a check that breaks is a finding, too
        return failed(f"this check itself broke: {type(error).__name__}: {error}", "Please report this")
