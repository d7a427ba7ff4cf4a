"""The result for one file: passed, failed, unknown or unreadable."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from device.capture.container import AS_PLAYED, TrackChoice
from device.records import DriftClass, Verdict
from device.standards import Profile, severity


class Result(StrEnum):
    """From good to bad."""

    PASSED = "passed"
    UNKNOWN = "unknown"  # there is no offset, and --fail-on does not require one
    FAILED = "failed"
    UNREADABLE = "unreadable"


class FailOn(StrEnum):
    """What makes a file fail, besides an unacceptable offset."""

    DETECTABLE = "detectable"
    UNACCEPTABLE = "unacceptable"
    UNKNOWN = "unknown"
    DRIFT = "drift"
    STEP = "step"


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules for all files of a run; a journal is only continued with the same."""

    profile: str
    limits: Profile
    fail_on: tuple[FailOn, ...]
    search_ms: float
    model: str
    tracks: TrackChoice = AS_PLAYED

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"fail_on": list(self.fail_on)}


@dataclass(frozen=True, slots=True)
class Row:
    """The result for one file; as JSON, one line of the journal."""

    file: str  # its path as found
    result: Result
    problem: str | None  # why it did not pass
    measured: dict[str, Any] | None  # the output of `avdrift measure --json`
    curve: list[tuple[float, float, float]]  # for each sure 5 s: time in s, offset and standard error in ms
    took_s: float
    identity: dict[str, Any]  # of the file at that time

    def to_dict(self, rules: Rules) -> dict[str, Any]:
        return asdict(self) | {"rules": rules.to_dict()}


def row_from(entry: dict[str, Any]) -> Row:
    """The inverse of `to_dict`. Raises KeyError, TypeError or ValueError for invalid content."""
    values = {name: entry[name] for name in Row.__dataclass_fields__}
    curve = [(float(t_s), float(offset_ms), float(std_ms)) for t_s, offset_ms, std_ms in values["curve"]]
    return Row(**values | {"result": Result(values["result"]), "curve": curve})


def unreadable(file: str, problem: str, took_s: float = 0.0) -> Row:
    return Row(file, Result.UNREADABLE, problem, None, [], round(took_s, 3), identity_of(file))


def judged(measured: dict[str, Any], fail_on: Sequence[FailOn]) -> tuple[Result, str | None]:
    """The result of a measurement, and why it did not pass. A borderline verdict fails only if its mildest end does."""
    found = measured["verdict_range"]
    mildest = Verdict(found[0]) if found else Verdict.UNKNOWN
    limit = Verdict.DETECTABLE if FailOn.DETECTABLE in fail_on else Verdict.UNACCEPTABLE
    problems = []
    if severity(mildest) >= severity(limit):
        problems.append(f"{measured['verdict']} by {measured['profile']}")
    if FailOn.STEP in fail_on and measured["steps"]:
        problems.append(f"{len(measured['steps'])} step{'s' if len(measured['steps']) > 1 else ''}")
    if FailOn.DRIFT in fail_on and measured["drift_class"] == DriftClass.DRIFTING:
        problems.append(f"drift of {measured['drift_ppm']:+.1f} ±{measured['drift_std_ppm']:.1f} ppm")
    if mildest is Verdict.UNKNOWN:
        why = f"no offset ({str(measured['reason'] or measured['state']).replace('_', ' ')})"
        if FailOn.UNKNOWN not in fail_on and not problems:
            return Result.UNKNOWN, why
        problems += [why] if FailOn.UNKNOWN in fail_on else []
    return (Result.FAILED, "; ".join(problems)) if problems else (Result.PASSED, None)


def offset_text(measured: dict[str, Any]) -> str:
    """The offset of a recording, or the range of its pieces, such as `-162 to +239 ms`."""
    if measured["offset_ms"] is not None:
        return f"{measured['offset_ms']:+.0f} ±{measured['offset_std_ms']:.0f} ms"
    ends = ends_ms(measured)
    return f"{min(ends):+.0f} to {max(ends):+.0f} ms" if ends else "-"


def ends_ms(measured: dict[str, Any]) -> list[float]:
    """The offsets at both ends of each sure piece."""
    keys = ("from_offset_ms", "to_offset_ms")
    return [piece[key] for piece in measured.get("pieces", ()) for key in keys if piece[key] is not None]


def identity_of(file: str) -> dict[str, Any]:
    """The identity of a file, to detect changes: its real path, size and modification time."""
    identity: dict[str, Any] = {"path": os.path.realpath(file), "size": None, "changed_ns": None}
    with suppress(OSError, ValueError):
        status = os.stat(file)  # noqa: PTH116 - text, which keeps bytes that are no UTF-8
        identity |= {"size": status.st_size, "changed_ns": status.st_mtime_ns}
    return identity
