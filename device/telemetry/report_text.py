"""Reports for people and for programs that read a log: one JSON object per line, and a summary at the end of a run."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from statistics import median

from device.printable import minutes
from device.records import Direction, Report, State

_WORDS = {
    Direction.AUDIO_EARLY: "audio early",
    Direction.AUDIO_LATE: "audio late",
    Direction.IN_SYNC: "in sync",
}


def as_json(report: Report, t_s: float | None = None) -> str:
    """One line, without its end; for a recording with the position in it, `t_s`."""
    place = {} if t_s is None else {"t_s": round(t_s, 3)}
    return json.dumps(report.to_dict() | place, separators=(",", ":"), allow_nan=False)


def as_text(report: Report, t_s: float | None) -> str:
    """One line for a person."""
    at = f"{minutes(t_s, 1):>10}  " if t_s is not None else ""
    if report.offset_ms is None or report.direction is None:
        state = report.state.value.replace("_", " ")
        why = report.reason.value.replace("_", " ") if report.reason else state
        return f"{at}{state}" + (f": {why}" if why != state else "")
    return (
        f"{at}{report.offset_ms:+7.0f} ms  {_WORDS[report.direction]:<11}  ±{report.offset_std_ms:.0f} ms  "
        f"confidence {report.confidence:.2f}  {report.verdict.value.replace('_', ' ')}"
        f"{f'  step of {report.step_ms:+.0f} ms' if report.step_ms is not None else ''}"
    )


def short_text(report: Report) -> str:
    """One short line without a time: commas instead of columns, and the fault if there is one."""
    columns = re.split(r"\s{2,}", as_text(report, None).strip())
    words = ", ".join(dict.fromkeys(columns))  # "in sync" is both a direction and a verdict
    faults = report.faults or ((report.fault,) if report.fault else ())
    return f"{words} ({', '.join(faults).replace('_', ' ')})" if faults else words


@dataclass(frozen=True, slots=True)
class _Run:
    """Consecutive measurements that agree."""

    from_s: float | None
    to_s: float | None
    offsets_ms: list[float]
    direction: Direction  # of the newest measurement


class Summary:
    """Collects reports and summarizes them in a few lines."""

    _SAME_MS = 40.0

    def __init__(self) -> None:
        self._states: Counter[State] = Counter()
        self._runs: list[_Run] = []
        self._steps: list[str] = []
        self._drift_ppm: tuple[float, float] | None = None
        self._dropped = (0, 0)

    def add(self, report: Report, t_s: float | None) -> None:
        self._states[report.state] += 1
        self._dropped = (report.video_dropped, report.audio_dropped)
        if report.drift_ppm is not None and report.drift_std_ppm is not None:
            self._drift_ppm = report.drift_ppm, report.drift_std_ppm
        if report.step_ms is not None:
            seen = f", seen at {minutes(t_s, 1)}" if t_s is not None else ""
            self._steps = [*self._steps[-20:], f"step of {report.step_ms:+.0f} ms{seen}"]
        if report.offset_ms is None or report.direction is None:
            return
        last = self._runs[-1] if self._runs else None
        if last and abs(report.offset_ms - median(last.offsets_ms)) <= self._SAME_MS:
            # The median of a long steady run needs only its recent past.
            self._runs[-1] = _Run(last.from_s, t_s, [*last.offsets_ms[-600:], report.offset_ms], report.direction)
        else:
            self._runs = [*self._runs[-20:], _Run(t_s, t_s, [report.offset_ms], report.direction)]

    def lines(self) -> list[str]:
        total = sum(self._states.values())
        states = ", ".join(f"{count} {state.value}" for state, count in self._states.most_common())
        lines = ["", f"{total} reports: {states or 'none'}"]
        for run in self._runs:
            offset_ms = median(run.offsets_ms)
            word = _WORDS[run.direction]
            when = ""
            if run.from_s is not None and run.to_s is not None:
                when = f"{minutes(run.from_s, 1):>8} to {minutes(run.to_s, 1):>8}"
            lines.append(f"  {when}  {offset_ms:+6.0f} ms ({word}), {len(run.offsets_ms)} reports")
        lines += self._steps
        if self._drift_ppm is not None:
            lines.append(f"drift: {self._drift_ppm[0]:+.1f} ±{self._drift_ppm[1]:.1f} ppm")
        if any(self._dropped):
            lines.append(f"dropped: {self._dropped[0]} frames, {self._dropped[1]} blocks of audio")
        return lines
