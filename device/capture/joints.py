"""Recordings joined end to end, whose time stamps begin again: puts their packets on one continuous clock.

Method: a joint is where both video and audio jump, back by more than a second or, in MPEG streams, ahead by more than
ten. The packets after it are moved, all streams alike, to begin where the previous recording ends, without overlap. If
33-bit stamps only wrapped, they are moved by exactly one period. Packets wait until both tracks have jumped. If only
one does, or if it continues as before after a stray stamp, this is damage, not a joint, and nothing is moved.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import av
from av.stream import Stream

_BACK_S = 1.0
_AHEAD_S = 10.0  # as in FFmpeg; in other containers such a pause is genuine
_WRAP_S = 2**33 / 90_000
_WAIT_S = 10.0  # of one stream, until the other jumps too
_WAIT_BYTES = 32_000_000
_SURE_COUNT = 2  # packets after a jump: a single one may be stray
_MPEG = {"mpegts", "mpeg"}
_EDITED = "mov"  # an edit list lets video stamps go back, which is not a joint

Packet: TypeAlias = "av.Packet[Stream]"


@dataclass(slots=True)
class _Track:
    """The state of the video or audio track. Stamps are the file's, except for `end_s`."""

    last_s: float | None = None
    end_s: float = 0.0  # of the packets passed on, on the continuous clock
    new_s: float | None = None  # the last one since it jumped
    new_count: int = 0
    begin_s: float = 0.0  # where video or audio begins after the jump


@dataclass(slots=True)
class _Times:
    """The times of one packet, in s. Plain floats, because PyAV makes a fraction on each access to the time base."""

    stamp_s: float | None
    shown_s: float
    length_s: float


@dataclass(slots=True)
class _Buffered:
    packet: Packet
    times: _Times
    new: bool  # belongs to the next recording


class Joints:
    """Moves packets in file order. `main` are the indexes of the video and the audio stream."""

    def __init__(self, container_format: str, main: Collection[int]) -> None:
        self.at_s: list[float] = []  # where one recording ends and the next begins, on the continuous clock
        self._ahead_s = _AHEAD_S if container_format in _MPEG else float("inf")
        self._tracks = {index: _Track() for index in main if _EDITED not in container_format}
        self._moved_s = 0.0
        self._buffer: list[_Buffered] = []  # since the first jump
        self._buffer_bytes = 0

    def follow(self, packets: Iterable[Packet]) -> Iterator[Packet]:
        """Yield all packets, in order, with their stamps on the continuous clock."""
        for packet in packets:
            times = _times(packet)
            new = self._is_new(packet, times)
            jumped = [track for track in self._tracks.values() if track.new_count]
            if jumped:
                self._buffer.append(_Buffered(packet, times, new))
                self._buffer_bytes += packet.size
                if len(jumped) == len(self._tracks) and min(track.new_count for track in jumped) >= _SURE_COUNT:
                    yield from self._join()
                elif self._buffer_bytes > _WAIT_BYTES or any((t.new_s or 0) - t.begin_s > _WAIT_S for t in jumped):
                    yield from self._keep_times()
            else:
                if self._buffer:
                    yield from self._release(self._moved_s)  # held because of a stray stamp
                yield self._emit(packet, times, self._moved_s)
        yield from self._join() if all(track.new_count for track in self._tracks.values()) else self._keep_times()

    def _is_new(self, packet: Packet, times: _Times) -> bool:
        stamp_s, track = times.stamp_s, self._tracks.get(packet.stream_index)
        if stamp_s is None:
            return any(other.new_count for other in self._tracks.values())
        if track is None:  # captions etc.: moved with the recording that they are nearer to
            return any(
                t.new_s is not None and t.last_s is not None and abs(stamp_s - t.new_s) < abs(stamp_s - t.last_s)
                for t in self._tracks.values()
            )
        if track.new_s is not None and not self._jumps(track.new_s, stamp_s):
            track.new_s, track.new_count = stamp_s, track.new_count + 1
            track.begin_s = min(track.begin_s, times.shown_s)
            return True
        if track.new_s is not None:  # only a stray stamp
            track.new_s, track.new_count = None, 0
            for buffered in self._buffer:
                buffered.new = buffered.new and buffered.packet.stream_index != packet.stream_index
        elif track.last_s is not None and self._jumps(track.last_s, stamp_s):
            track.new_s, track.new_count, track.begin_s = stamp_s, 1, times.shown_s
            return True
        track.last_s = stamp_s
        return False

    def _jumps(self, last_s: float, stamp_s: float) -> bool:
        return not -_BACK_S <= stamp_s - last_s <= self._ahead_s

    def _join(self) -> Iterator[Packet]:
        """Both have jumped: append the new recording to the end of the previous one."""
        if not self._buffer:
            return
        tracks = self._tracks.values()
        if all(abs((track.last_s or 0) - track.begin_s - _WRAP_S) < _AHEAD_S for track in tracks):
            moved_s = self._moved_s + _WRAP_S
        else:
            for buffered in self._buffer:  # the rest of the previous recording, to find its end
                self._extend(buffered.packet, buffered.times, self._moved_s, count=not buffered.new)
            moved_s = max(track.end_s - track.begin_s for track in tracks)
            self.at_s.append(moved_s + min(track.begin_s for track in tracks))
        before_s, self._moved_s = self._moved_s, moved_s
        yield from self._release(before_s)

    def _keep_times(self) -> Iterator[Packet]:
        for buffered in self._buffer:
            buffered.new = True
        yield from self._release(self._moved_s)

    def _release(self, before_s: float) -> Iterator[Packet]:
        buffered, self._buffer, self._buffer_bytes = self._buffer, [], 0
        for track in self._tracks.values():
            track.last_s = track.last_s if track.new_s is None else track.new_s
            track.new_s, track.new_count = None, 0
        for one in buffered:
            yield self._emit(one.packet, one.times, self._moved_s if one.new else before_s)

    def _emit(self, packet: Packet, times: _Times, moved_s: float) -> Packet:
        self._extend(packet, times, moved_s)
        if moved_s and packet.time_base:
            ticks = round(moved_s / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks
        return packet

    def _extend(self, packet: Packet, times: _Times, moved_s: float, *, count: bool = True) -> None:
        track = self._tracks.get(packet.stream_index)
        if count and track is not None and times.stamp_s is not None:
            track.end_s = max(track.end_s, times.shown_s + times.length_s + moved_s)


def _times(packet: Packet) -> _Times:
    base = packet.time_base
    if not base:
        return _Times(None, 0.0, 0.0)
    shown, decoded, (ticks, per_s) = packet.pts, packet.dts, base.as_integer_ratio()
    stamp = shown if decoded is None else decoded
    shown = decoded if shown is None else shown
    return _Times(
        None if stamp is None else stamp * ticks / per_s, (shown or 0) * ticks / per_s,
        (packet.duration or 0) * ticks / per_s,
    )  # fmt: skip
