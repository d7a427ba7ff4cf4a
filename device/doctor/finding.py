"""The result of a check, and running checks: each within a time limit, none with a traceback."""

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
)  # the consequence of a failed check


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check and its remedy; the remedy is empty if all is well."""

    check: str
    level: Level
    found: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """A check; `exit_code` is the command's if it fails."""

    name: str
    exit_code: int
    run: Callable[[], tuple[Level, str, str]]
    limit_s: float = LIMIT_S


CheckResult = tuple[Level, str, str]


def ok(found: str) -> CheckResult:
    return Level.OK, found, ""


def warning(found: str, remedy: str) -> CheckResult:
    return Level.WARNING, found, remedy


def failed(found: str, remedy: str) -> CheckResult:
    return Level.FAILED, found, remedy


def examine(checks: Iterable[Check]) -> Iterator[Finding]:
    """Run checks one after the other. Never raises: a check that breaks has failed."""
    for check in checks:
        level, found, remedy = _run_in_time(check)
        yield Finding(check.name, level, printable(found), printable(remedy))


def exit_code(checks: Iterable[Check], findings: Iterable[Finding]) -> int:
    """0 if nothing failed, otherwise the lowest code of a failure: a wrong configuration explains a missing camera."""
    wrong = {finding.check for finding in findings if finding.level is Level.FAILED}
    return min((check.exit_code for check in checks if check.name in wrong), default=0)


def _run_in_time(check: Check) -> CheckResult:
    seen: list[CheckResult] = []
    thread = threading.Thread(target=lambda: seen.append(_run_check(check)), name=f"check {check.name}", daemon=True)
    thread.start()
    thread.join(check.limit_s)
    if not seen:
        return failed(f"no answer within {check.limit_s:g} s", "A driver or a network hangs: check it")
    return seen[0]


def _run_check(check: Check) -> CheckResult:
    try:
        return check.run()
    except AvdriftError as error:
        return failed(f"{error.where}: {error.what}", error.remedy)
    except Exception as error:  # a check that breaks is a finding, too
        return failed(f"this check itself failed: {type(error).__name__}: {error}", "Please report this")
