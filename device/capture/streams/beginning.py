"""The start of a session: the first packets, from where video and audio are both present and related. Pure."""

from __future__ import annotations

from collections import deque

from device.capture.streams.connection import Arrived
from device.records import NS_PER_S

GATHER_NS = NS_PER_S // 2  # span of the first packets, to place the stamps on the clock
MAX_APART_NS = 10 * NS_PER_S  # of the two tracks
MAX_BYTES = 12_000_000  # a pipe or a server may deliver faster than real time
_STORED_NS = NS_PER_S // 2


class Beginning:
    """Gathers packets in order of arrival. tracks: the indexes of video and audio.

    max_stored_ns: how much data may have been stored before the session; the rest of what comes at once is new.
    """

    def __init__(self, tracks: tuple[int, int], *, max_stored_ns: int) -> None:
        self.packets: deque[Arrived] = deque()
        self._video, self._tracks, self._max_stored_ns = tracks[0], tracks, max_stored_ns
        self._first: tuple[int, int] | None = None  # stamp and arrival of the first packet on this clock
        self._newest_ns: dict[int, int] = {}
        self._bytes = 0

    def add(self, arrived: Arrived, *, jumped: bool) -> list[Arrived]:
        """Take the next packet; return those that the session will start after.

        Packets before a jump of the stamps are on another clock.
        """
        if jumped:
            self._newest_ns.clear()
            self._first = None
            self._clear()
        if arrived.stamp_ns is not None:
            self._newest_ns[arrived.packet.stream.index] = arrived.stamp_ns
        if self._is_new_after_stored(arrived):
            self._clear()
        self.packets.append(arrived)
        self._bytes += arrived.packet.size
        left_out = []
        while not self.together and (self._bytes > MAX_BYTES or self._gathered_ns > GATHER_NS):
            left_out.append(self.packets.popleft())
            self._bytes -= left_out[-1].packet.size
        return left_out

    @property
    def complete(self) -> bool:
        """Whether both tracks are present."""
        return len(self._newest_ns) == len(self._tracks)

    @property
    def together(self) -> bool:
        """Whether both tracks are present, with stamps that can be on one clock."""
        newest_ns = self._newest_ns.values()
        return self.complete and max(newest_ns) - min(newest_ns) <= MAX_APART_NS

    @property
    def enough(self) -> bool:
        """Whether a session can start."""
        return self.together and (self._gathered_ns >= GATHER_NS or self._bytes > MAX_BYTES)

    @property
    def _gathered_ns(self) -> int:
        return self.packets[-1].at_ns - self.packets[0].at_ns if self.packets else 0

    def _is_new_after_stored(self, arrived: Arrived) -> bool:
        """A session may start with stored data, all at once: only the last key frame of that is needed."""
        if arrived.stamp_ns is None:
            return False
        self._first = self._first or (arrived.stamp_ns, arrived.at_ns)
        oldest_ns = next((one.stamp_ns for one in self.packets if one.stamp_ns is not None), None)
        if oldest_ns is None or not arrived.packet.is_keyframe or arrived.packet.stream.index != self._video:
            return False
        ahead_ns = arrived.stamp_ns - oldest_ns - (arrived.at_ns - self.packets[0].at_ns)
        in_all_ns = arrived.stamp_ns - self._first[0] - (arrived.at_ns - self._first[1])
        return ahead_ns > _STORED_NS and in_all_ns <= self._max_stored_ns

    def _clear(self) -> None:
        self.packets.clear()
        self._bytes = 0
