"""Recognizes what a server sends again because it has nothing new. Pure.

An HLS page names its last segments, even when its encoder has died. Whoever opens it again is given them again, and
would measure them once more for as long as they last, each time.
"""

from __future__ import annotations

from device.records import NS_PER_S

MAX_PACKETS = 6_000  # more than three segments of 10 s
WITHIN_NS = 5 * NS_PER_S  # of opening: old segments come all at once, while a film that is sent again comes as it did
Key = tuple[int | None, ...]


class Replays:
    """Remembers packets by their keys, across connections."""

    def __init__(self) -> None:
        self._known: dict[Key, None] = {}  # in the order in which they came
        self._until_ns = 0

    def reopened(self, now_ns: int) -> None:
        """What comes next may have come before."""
        self._until_ns = now_ns + WITHIN_NS

    def is_replayed(self, key: Key, now_ns: int) -> bool:
        """Take the next packet. Whether it came before, and comes too soon after opening to be new."""
        if key in self._known:
            return now_ns < self._until_ns
        self._known[key] = None
        if len(self._known) > MAX_PACKETS:
            del self._known[next(iter(self._known))]
        return False
