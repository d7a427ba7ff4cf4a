"""Rows as JUnit XML for build servers: one test case per file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from device.check.row import Result, Row, Rules, offset_text
from device.check.tables import cannot_write
from device.errors import UsageError
from device.printable import printable, shown_name

if TYPE_CHECKING:
    from junitparser import TestCase

_SUITE = "avdrift check"


def require_junit() -> None:
    """Raises UsageError if it is not installed."""
    try:
        import junitparser  # noqa: F401 - the optional group `check`
    except ImportError as error:
        remedy = "Install it: pip install junitparser (or the extra `check`)"
        raise UsageError("needs junitparser, which is not installed", where="--junit", remedy=remedy) from error


def write_junit(rows: Sequence[Row], rules: Rules, path: Path) -> None:
    """Failed: a failure; unreadable: an error; unknown: skipped. Raises UsageError if it cannot be written."""
    from junitparser import TestSuite

    suite = TestSuite(_SUITE)
    limits = rules.limits
    suite.add_property("profile", rules.profile)
    suite.add_property("limits_ms", f"{limits.acceptable_late_ms:g} to {limits.acceptable_early_ms:g}")
    suite.add_property("fail_on", " ".join(rules.fail_on))
    suite.add_property("model", rules.model)
    suite.add_testcases([_case(row) for row in rows])  # all at once, because each single addition recounts all of them
    try:
        # The suite itself is the root, which Jenkins' schema allows; it does not allow junitparser's `testsuites`.
        suite.write(str(path), pretty=True)
    except OSError as error:
        raise cannot_write(path, error) from error


def _case(row: Row) -> TestCase:
    from junitparser import Error, Failure, Skipped, TestCase

    kinds = {Result.FAILED: Failure, Result.UNREADABLE: Error, Result.UNKNOWN: Skipped}
    case = TestCase(shown_name(row.file), classname=_SUITE.replace(" ", "."), time=row.took_s)
    if row.result in kinds:
        offset = f"{offset_text(row.measured)}: " if row.measured and row.result is Result.FAILED else ""
        case.result = [kinds[row.result](printable(offset + (row.problem or "")), row.result.value)]
    if row.measured:
        damaged = f", damaged: {row.measured['damaged']}" if row.measured["damaged"] else ""
        case.system_out = printable(f"{offset_text(row.measured)}, {row.measured['verdict']}{damaged}")
    return case
