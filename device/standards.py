"""What an offset means to a viewer: limits of the standards, direction, verdict.

Sources: ITU-R BT.1359-1 (1998), ATSC IS-191 (2003), EBU R37 (2007).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from device.records import Direction, Verdict

_IN_SYNC_MS = 20.0  # half of a 25 Hz frame: neither early nor late to any eye


@dataclass(frozen=True, slots=True)
class Profile:
    """Limits in ms for early (positive) and late (negative) audio: from where it shows, and from where it is wrong."""

    detectable_early_ms: float
    detectable_late_ms: float
    acceptable_early_ms: float
    acceptable_late_ms: float


PROFILES = {
    "itu-r-bt1359": Profile(45, -125, 90, -185),
    "atsc-is191": Profile(15, -45, 15, -45),
    "ebu-r37": Profile(40, -60, 40, -60),
}
DEFAULT_PROFILE = "itu-r-bt1359"


def direction(offset_ms: float) -> Direction:
    """Which of the two is ahead."""
    if abs(offset_ms) <= _IN_SYNC_MS:
        return Direction.IN_SYNC
    return Direction.AUDIO_EARLY if offset_ms > 0 else Direction.AUDIO_LATE


def verdict(offset_ms: float | None, profile: Profile) -> Verdict:
    """How a viewer takes it; `unknown` without an offset."""
    if offset_ms is None:
        return Verdict.UNKNOWN
    if not profile.acceptable_late_ms <= offset_ms <= profile.acceptable_early_ms:
        return Verdict.UNACCEPTABLE
    if not profile.detectable_late_ms <= offset_ms <= profile.detectable_early_ms:
        return Verdict.DETECTABLE
    return Verdict.IN_SYNC


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """The one that a viewer would remember; `unknown` where nothing else was said."""
    order = (Verdict.UNKNOWN, Verdict.IN_SYNC, Verdict.DETECTABLE, Verdict.UNACCEPTABLE)
    return max(verdicts, key=order.index, default=Verdict.UNKNOWN)
