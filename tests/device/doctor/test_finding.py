"""Running checks: nothing raises, nothing waits for ever, the exit code is that of what failed."""

from __future__ import annotations

import threading

import pytest

from device.doctor.finding import (
    CAPTURE,
    CONFIG,
    MODEL,
    TRANSPORT,
    Check,
    CheckResult,
    Level,
    examine,
    exit_code,
    failed,
    ok,
)
from device.doctor.finding import warning as warn
from device.errors import DeviceMissingError


def fails() -> CheckResult:
    return failed("broken", "Mend it")


def only(check: Check) -> tuple[Level, str, str]:
    (finding,) = examine([check])
    assert finding.check == check.name
    return finding.level, finding.found, finding.remedy


def test_what_a_check_says_is_what_is_found() -> None:
    assert only(Check("x", 3, lambda: ok("fine"))) == (Level.OK, "fine", "")
    assert only(Check("x", 3, lambda: warn("hm", "look"))) == (Level.WARNING, "hm", "look")
    assert only(Check("x", 3, fails)) == (Level.FAILED, "broken", "Mend it")


def test_an_error_of_ours_keeps_its_place_and_its_remedy() -> None:
    def run() -> CheckResult:
        raise DeviceMissingError("no camera", where="camera", remedy="Plug it in")

    assert only(Check("x", 3, run)) == (Level.FAILED, "camera: no camera", "Plug it in")


@pytest.mark.parametrize("error", [KeyError("k"), OSError(5, "Input/output error"), RecursionError(), ValueError("")])
def test_a_check_that_breaks_has_failed_in_one_line(error: Exception) -> None:
    def run() -> CheckResult:
        raise error

    level, found, remedy = only(Check("x", 3, run))
    assert level is Level.FAILED and type(error).__name__ in found and "report" in remedy
    assert "\n" not in found and "Traceback" not in found


def test_a_check_that_hangs_has_failed_and_the_next_one_runs() -> None:
    never = threading.Event()

    def run() -> CheckResult:
        never.wait(60)
        return ok("late")

    findings = list(examine([Check("slow", 5, run, limit_s=0.05), Check("next", 3, lambda: ok("fine"))]))
    never.set()
    assert findings[0].level is Level.FAILED and "0.05 s" in findings[0].found
    assert findings[1].level is Level.OK


def test_control_characters_do_not_reach_the_terminal() -> None:
    _, found, remedy = only(Check("x", 3, lambda: warn("evil \x1b[2J\nname", "do\rthis")))
    assert found == r"evil \x1b[2J\nname" and remedy == r"do\rthis"


@pytest.mark.parametrize(
    ("broken", "code"),
    [((), 0), ((CONFIG,), 2), ((CAPTURE,), 3), ((MODEL,), 4), ((TRANSPORT,), 5), ((MODEL, CAPTURE), 3),
     ((TRANSPORT, CONFIG), 2)],
)  # fmt: skip
def test_exit_codes(broken: tuple[int, ...], code: int) -> None:
    checks = [Check(str(k), k, fails if k in broken else lambda: warn("hm", "")) for k in (2, 3, 4, 5)]
    assert exit_code(checks, list(examine(checks))) == code
