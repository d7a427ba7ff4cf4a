"""An open stream, with a thread that takes packets as they arrive: the only way to know each one's arrival time."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import TypeAlias

import av
from av.stream import Discard, Stream

from device.capture.container import AS_PLAYED, choose_tracks, demuxed
from device.capture.file import OBJECT_BYTES
from device.capture.streams.inputs import StreamInput
from device.capture.streams.replays import Replays
from device.capture.streams.sender_reports import SenderReports, stamp_ns
from device.errors import InputFormatError, InputTrackError, StreamError

MAX_WAITING_BYTES = 24_000_000
_SILENT = "sends nothing any more"
_MAX_PACKET_BYTES = 8_000_000  # a 4K key frame has 2 MB

Packet: TypeAlias = "av.Packet[Stream]"


@dataclass(frozen=True, slots=True)
class Arrived:
    """A packet, its stamp, and its arrival time on the monotonic clock."""

    packet: Packet
    stamp_ns: int | None
    at_ns: int
    live: bool  # whether it was new when it arrived
    related: bool  # whether its stamp is on the same clock as the other track's


class Connection:
    """Opens `source`; raises its errors, and StreamError if it lacks video or audio that can be used.

    Nothing is lost while packets are not taken, until MAX_WAITING_BYTES wait. Then the sender must wait, if it can.
    """

    def __init__(self, source: StreamInput, replays: Replays | None = None) -> None:
        """replays: what earlier connections to the same server gave."""
        self.name = source.name
        begun_ns = time.monotonic_ns()
        self._opened = source.open()
        self.max_stored_ns = source.max_stored_ns(time.monotonic_ns() - begun_ns)
        container = self._opened.container
        self._replays = (replays or Replays()) if container.format.name == "hls" else None
        try:
            self.video, self.audio = _tracks(container, self.name)
            for track in (self.video, self.audio):
                track.codec_context.thread_count = 1
                track.codec_context.thread_type = "NONE"
            for other in container.streams:
                if other.index not in (self.video.index, self.audio.index):
                    other.discard = Discard.all  # otherwise unused renditions would be downloaded as well
        except BaseException:
            self._opened.close()
            container.close()
            raise
        self._reports = SenderReports(container, (self.video, self.audio))
        self.form: dict[str, object] = {}  # size and rate of the last decoded frames, by kind
        self.transit_ns: int | None = None  # the delay to allow for packets, which one session finds out for the next
        self._changed = threading.Condition()
        self._waiting: deque[Arrived] = deque()
        self._waiting_bytes = 0
        self._end: Callable[[], StreamError] | None = None  # a factory: a stored error would keep its traceback alive
        self.closing = False  # whether an end was requested
        self._users, self._freed = 1, False  # the thread
        threading.Thread(target=self._read, name="stream", daemon=True).start()

    @property
    def pixel_aspect(self) -> Fraction | None:
        """Width by height of a pixel in the last decoded frame, or as the container says before there is one."""
        return self.video.codec_context.sample_aspect_ratio or self.video.sample_aspect_ratio

    @property
    def ended(self) -> bool:
        """Whether nothing more will come, except for the waiting packets."""
        return self._end is not None or self.closing

    @property
    def _gives(self) -> bool:
        """Whether a waiting packet counts. Live, a loss must not be known only after the delay."""
        return bool(self._waiting) and not self.closing and (self._end is None or self._opened.plays_out)

    def receive(self, within_s: float) -> Arrived | None:
        """The next packet; None if none comes in time. Raises the error that ended the stream."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self.ended, within_s)
            if self._gives:
                arrived = self._waiting.popleft()
                self._waiting_bytes -= arrived.packet.size + OBJECT_BYTES
                self._changed.notify_all()
                return arrived
            if self.ended:
                raise self._end() if self._end else _ended(self.name, "closed")
            return None

    def wait_until(self, until_ns: int) -> bool:
        """Wait until a time on the monotonic clock; False if the connection is being closed."""
        with self._changed:
            self._changed.wait_for(lambda: self.closing, max(until_ns - time.monotonic_ns(), 0) / 1e9)
            return not self.closing

    def close(self) -> None:
        """End it soon, at the latest when a read times out; safe from any thread."""
        with self._changed:
            self.closing = True
            self._waiting.clear()
            self._changed.notify_all()
        self._opened.close()
        self._free()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """For decoding its packets, which need the container."""
        with self._changed:
            self._users += 1
        try:
            yield
        finally:
            self._release()

    def _release(self) -> None:
        with self._changed:
            self._users -= 1
        self._free()

    def _free(self) -> None:
        """Close the container once nobody uses it: what FFmpeg frees then must not be touched any more."""
        with self._changed:
            free = self.closing and not self._users and not self._freed
            self._freed = self._freed or free
        if free:
            self._opened.container.close()

    def _read(self) -> None:
        how, word = "ended", "lost"
        try:
            for packet in demuxed(self._opened.container, self.video, self.audio):
                if packet.size and not self._deliver(packet):
                    return
            if self._opened.over():
                word = "ended"
            elif self._replays is not None:
                how, word = _SILENT, "stalled"  # FFmpeg calls it the end when a playlist does not grow in time
        except (av.ExitError, TimeoutError):
            how, word = _SILENT, "stalled"
        except (av.FFmpegError, OSError, ValueError) as error:
            how = f"broke off ({getattr(error, 'strerror', None) or type(error).__name__})"
        finally:
            with self._changed:
                self._end = partial(_ended, self.name, how, word)
                self._changed.notify_all()
            self._release()

    def _deliver(self, packet: Packet) -> bool:
        if packet.size > _MAX_PACKET_BYTES:
            return True
        now_ns = time.monotonic_ns()
        if self._replays and self._replays.is_replayed(
            (packet.stream.index, packet.dts, packet.pts, packet.size), now_ns
        ):
            return True
        self._reports.observe(packet)
        arrived = Arrived(packet, stamp_ns(packet), now_ns, self._opened.is_live(), self._reports.related)
        with self._changed:
            self._changed.wait_for(lambda: self._waiting_bytes < MAX_WAITING_BYTES or self.closing)
            if self.closing:
                return False
            self._waiting.append(arrived)
            self._waiting_bytes += packet.size + OBJECT_BYTES
            self._changed.notify_all()
            return True


def _tracks(container: av.container.InputContainer, name: str) -> tuple[av.VideoStream, av.AudioStream]:
    try:
        return choose_tracks(container, name, AS_PLAYED)
    except InputTrackError as error:
        remedy = "It is opened again by itself; check what its sender sends"
        raise StreamError(error.what, where=name, remedy=remedy, word="incomplete") from None
    except InputFormatError as error:
        remedy = "Let its sender use another form"
        raise StreamError(error.what, where=name, remedy=remedy, word="refused") from None


def _ended(name: str, how: str, word: str = "lost") -> StreamError:
    return StreamError(how, where=name, remedy="It is opened again by itself; check the log of its sender", word=word)
