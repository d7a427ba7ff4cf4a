"""From reports to events: each real change once, with the values before and after it.

Pure: a state and a report in, a state and events out; no clock but the reports' own.

Conventions: everything with levels (verdict, face, speech, fault) keeps its level until reports have shown another one
for long enough. So each event's `before` is the `after` of the previous one of its kind, and the two always differ.
Time counts from one known report to the next, at most as far as a report looks back. Unknown reports (`uncertain` for a
verdict, anything for a face while the camera is broken) neither advance nor reset it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from device.config.settings import EventSettings
from device.records import NO_FAULT, EventKind, Report, State, Verdict
from device.standards import DEFAULT_PROFILE, PROFILES, Profile, direction, limits_of, verdict

PRESENT, ABSENT = "present", "absent"

_MAX_HYSTERESIS = 0.4  # of the in-sync range, so that narrow custom limits leave some of it
_RANKS = (Verdict.IN_SYNC, Verdict.DETECTABLE, Verdict.UNACCEPTABLE)


@dataclass(frozen=True, slots=True)
class Happening:
    """An event without its number and time."""

    kind: EventKind
    before: str | float | None
    after: str | float | None
    about: str


@dataclass(frozen=True, slots=True)
class Level:
    """The current level, and the one that reports have been showing instead."""

    held: str | None = None  # None until enough reports agree
    coming: str | None = None
    for_s: float = 0.0
    heard_s: float | None = None  # time of the last known report


@dataclass(frozen=True, slots=True)
class EventState:
    """Everything that is kept between reports."""

    verdict: Level = field(default_factory=Level)
    face: Level = field(default_factory=Level)
    speech: Level = field(default_factory=Level)
    fault: Level = field(default_factory=lambda: Level(NO_FAULT))
    model: str | None = None
    profile: str | None = None


def update(
    state: EventState, report: Report, settings: EventSettings, own_limits: Profile = PROFILES[DEFAULT_PROFILE]
) -> tuple[EventState, tuple[Happening, ...]]:
    """Take the next report and return the events that it triggers, in the order in which a person would tell them.

    own_limits: the limits of the profile `own`.
    """
    limits = limits_of(report.profile, own_limits)
    new = EventState(
        verdict=_verdict(state.verdict, report, settings, limits),
        face=_presence(state.face, _face(report), report, settings),
        speech=_presence(state.speech, _speech(report), report, settings),
        fault=_fault(state.fault, report, settings),
        model=report.model,
        profile=report.profile,
    )
    events = (
        _changed(EventKind.MODEL, state.model, new.model, "The models changed from {0} to {1}"),
        _changed(EventKind.PROFILE, state.profile, new.profile, "The limits changed from {0} to {1}"),
        _fault_event(state.fault.held, new.fault.held),
        _changed(EventKind.FACE, state.face.held, new.face.held, _FACE[new.face.held]),
        _changed(EventKind.SPEECH, state.speech.held, new.speech.held, _SPEECH[new.speech.held]),
        _step_event(report),
        _verdict_event(state.verdict.held, new.verdict.held, report, limits),
    )
    return new, tuple(event for event in events if event)


def settled(level: Level, observed: str | None, report: Report, needed_s: float) -> Level:
    """The level after a report that shows `observed`, or None for unknown. A new level needs `needed_s`."""
    if observed is None:
        return level
    t_s = report.uptime_s
    if observed == level.held:
        return Level(observed, heard_s=t_s)
    for_s = 0.0
    if observed == level.coming and level.heard_s is not None:
        for_s = level.for_s + min(max(t_s - level.heard_s, 0.0), report.window_s)
    if for_s >= needed_s:
        return Level(observed, heard_s=t_s)
    return Level(level.held, observed, for_s, t_s)


# The verdict


def _verdict(level: Level, report: Report, settings: EventSettings, limits: Profile | None) -> Level:
    if report.offset_ms is None or report.state is not State.MEASURING or limits is None:
        return level
    held = _rank(level.held or Verdict.IN_SYNC)
    rank = _beyond_doubt(held, report.offset_ms, report.verdict_range, limits, settings.hysteresis_ms)
    if level.coming is not None and (_rank(level.coming) - held) * (rank - held) > 0:
        # Both lie on one side of the current level: the nearer one has held all the time.
        rank = min(rank, _rank(level.coming), key=lambda other: abs(other - held))
        level = replace(level, coming=_RANKS[rank].value)
    return settled(level, _RANKS[rank].value, report, settings.min_s)


def _rank(name: str) -> int:
    return _RANKS.index(Verdict(name))


def _beyond_doubt(
    held: int, offset_ms: float, within: tuple[Verdict, Verdict] | None, limits: Profile, hysteresis_ms: float
) -> int:
    """The rank of the verdict, changed only where the offset passes a limit by the hysteresis or the error bar."""
    hysteresis_ms = min(hysteresis_ms, _MAX_HYSTERESIS * (limits.detectable_early_ms - limits.detectable_late_ms))
    at_least = _rank(verdict(offset_ms, _widened(limits, hysteresis_ms)))
    at_most = _rank(verdict(offset_ms, _widened(limits, -hysteresis_ms)))
    if within is not None:
        at_least, at_most = min(at_least, _rank(within[0])), max(at_most, _rank(within[1]))
    return min(max(held, at_least), at_most)


def _widened(profile: Profile, by_ms: float) -> Profile:
    return Profile(
        profile.detectable_early_ms + by_ms, profile.detectable_late_ms - by_ms,
        profile.acceptable_early_ms + by_ms, profile.acceptable_late_ms - by_ms,
    )  # fmt: skip


def _verdict_event(before: str | None, after: str | None, report: Report, limits: Profile | None) -> Happening | None:
    before = before or Verdict.UNKNOWN.value
    if after is None or report.offset_ms is None or after == before:
        return None
    if (before, after) == (Verdict.UNKNOWN, Verdict.IN_SYNC):
        return None  # in sync from the start: no event
    way = direction(report.offset_ms, limits).value
    about = f"The verdict went from {before} to {after} at {report.offset_ms:+.0f} ms, {way} ({report.profile})"
    return Happening(EventKind.VERDICT, before, after, _words(about))


# Face and speech


_FACE = {None: "", PRESENT: "A face is there again", ABSENT: "The face is gone"}
_SPEECH = {None: "", PRESENT: "Speech is heard again", ABSENT: "The speech is gone"}


def _face(report: Report) -> str | None:
    if report.fault or report.state in (State.STARTING, State.STALLED):
        return None
    return ABSENT if report.state is State.NO_FACE else PRESENT


def _speech(report: Report) -> str | None:
    if _face(report) != PRESENT:  # speech is only looked for where there is a face
        return None
    return ABSENT if report.state is State.NO_SPEECH else PRESENT


def _presence(level: Level, observed: str | None, report: Report, settings: EventSettings) -> Level:
    return settled(level, observed, report, settings.absent_s if observed == ABSENT else settings.min_s)


# Faults, steps and configuration changes


def _fault(level: Level, report: Report, settings: EventSettings) -> Level:
    """A fault starts at once; it ends, or turns into another, only after a while."""
    return settled(level, report.fault or NO_FAULT, report, 0.0 if level.held == NO_FAULT else settings.min_s)


def _fault_event(before: str | None, after: str | None) -> Happening | None:
    about = "{0} became {1}"
    if before == NO_FAULT:
        about = "{1} began"
    elif after == NO_FAULT:
        about = "{0} ended"
    return _changed(EventKind.FAULT, before, after, f"The fault {about}")


def _step_event(report: Report) -> Happening | None:
    if report.step_ms is None:
        return None
    after = report.offset_ms
    before = round(after - report.step_ms, 1) if after is not None else None
    levels = f" from {before:+.0f} to {after:+.0f} ms" if after is not None else ""
    return Happening(EventKind.STEP, before, after, f"The offset stepped by {report.step_ms:+.0f} ms{levels}")


def _changed(kind: EventKind, before: str | None, after: str | None, about: str) -> Happening | None:
    """None for the first value: there was no change."""
    if before is None or after is None or before == after:
        return None
    return Happening(kind, before, after, about.format(before, after))


def _words(text: str) -> str:
    return text.replace("_", " ")
