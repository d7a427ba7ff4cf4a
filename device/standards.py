"""What an offset means to a viewer: limits of the standards, direction, verdict.

A verdict accounts for the error bar: if a limit lies within it, the verdict is `borderline`, and a range gives the
verdicts at its ends. So noise of a millisecond never turns `in_sync` into `unacceptable`.

Sources: ITU-R BT.1359-1 (1998), ATSC IS-191 (2003), EBU R37 (2007), ITU-T J.100 (1990), ETSI EN 301 549 V3.2.1 (2021),
clause 6.5.4.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from device.records import Direction, Verdict

_IN_SYNC_MS = 20.0  # half of a 25 Hz frame: nobody perceives it as early or late
_SEVERITY = (Verdict.UNKNOWN, Verdict.IN_SYNC, Verdict.DETECTABLE, Verdict.UNACCEPTABLE)


@dataclass(frozen=True, slots=True)
class Profile:
    """Limits in ms for early (positive) and late (negative) audio: where it is detectable, and where unacceptable."""

    detectable_early_ms: float
    detectable_late_ms: float
    acceptable_early_ms: float
    acceptable_late_ms: float


PROFILES = {
    "itu-r-bt1359": Profile(45, -125, 90, -185),
    "atsc-is191": Profile(15, -45, 15, -45),
    "ebu-r37": Profile(40, -60, 40, -60),
    "itu-t-j100": Profile(20, -40, 20, -40),
    "en-301549": Profile(100, -100, 100, -100),
}
DEFAULT_PROFILE = "itu-r-bt1359"
OWN_PROFILE = "own"  # the user's own limits
PROFILE_NAMES = (*PROFILES, OWN_PROFILE)


def own_profile(early_ms: float, late_ms: float) -> Profile:
    """A profile of the user's own limits, beyond which an offset is unacceptable; positive is early."""
    return Profile(early_ms, late_ms, early_ms, late_ms)


def limits_of(name: str, own: Profile) -> Profile | None:
    """The limits of a profile name; None for an unknown name."""
    return own if name == OWN_PROFILE else PROFILES.get(name)


@dataclass(frozen=True, slots=True)
class VerdictRange:
    """The mildest and the severest verdict within the error bar of an offset."""

    mildest: Verdict
    severest: Verdict

    @property
    def verdict(self) -> Verdict:
        """The verdict; `borderline` if the two differ."""
        return self.mildest if self.mildest is self.severest else Verdict.BORDERLINE

    @property
    def ends(self) -> tuple[Verdict, Verdict] | None:
        """Both, for a report; None if unknown."""
        return None if self.severest is Verdict.UNKNOWN else (self.mildest, self.severest)


_UNKNOWN = VerdictRange(Verdict.UNKNOWN, Verdict.UNKNOWN)


def direction(offset_ms: float, profile: Profile | None = None) -> Direction:
    """Whether audio is early or late; never `in_sync` beyond the limits of a profile that is stricter than 20 ms."""
    if abs(offset_ms) <= _IN_SYNC_MS and (profile is None or verdict(offset_ms, profile) is Verdict.IN_SYNC):
        return Direction.IN_SYNC
    return Direction.AUDIO_EARLY if offset_ms > 0 else Direction.AUDIO_LATE


def verdict(offset_ms: float | None, profile: Profile) -> Verdict:
    """A viewer's verdict on exactly this offset; `unknown` without one."""
    if offset_ms is None:
        return Verdict.UNKNOWN
    if not profile.acceptable_late_ms <= offset_ms <= profile.acceptable_early_ms:
        return Verdict.UNACCEPTABLE
    if not profile.detectable_late_ms <= offset_ms <= profile.detectable_early_ms:
        return Verdict.DETECTABLE
    return Verdict.IN_SYNC


def verdict_range(offset_ms: float | None, std_ms: float, profile: Profile) -> VerdictRange:
    """The verdicts of all offsets within one standard error of this one; `unknown` without one."""
    if offset_ms is None:
        return _UNKNOWN
    low_ms, high_ms = offset_ms - std_ms, offset_ms + std_ms
    nearest_ms = min(max(0.0, low_ms), high_ms)
    farthest = (verdict(low_ms, profile), verdict(high_ms, profile))
    return VerdictRange(verdict(nearest_ms, profile), max(farthest, key=severity))


def worst(ranges: Iterable[VerdictRange]) -> VerdictRange:
    """The worst of several ranges; `unknown` if nothing else is known."""
    mildest, severest = Verdict.UNKNOWN, Verdict.UNKNOWN
    for one in ranges:
        mildest, severest = max(mildest, one.mildest, key=severity), max(severest, one.severest, key=severity)
    return VerdictRange(mildest, severest)


def severity(verdict: Verdict) -> int:
    """Its rank, from unknown to unacceptable. Raises ValueError for borderline, which has none."""
    return _SEVERITY.index(verdict)
