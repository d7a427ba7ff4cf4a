"""A live source from an address or a pipe: video and audio from one sender, on one clock.

Conventions
    Times are the stream's own stamps, shifted to CLOCK_MONOTONIC by the same amount for video and audio
    (`device.capture.streams.timeline`). Nothing is ever placed by its arrival time.
    Items are delivered when they are due, never earlier: data that a sender stores, or an HLS segment holds, waits.

Method
    A session starts when both tracks are present and related. Video from before that is decoded, as later frames refer
    to it, but never delivered. A session ends when the relation becomes doubtful: at a jump of the stamps, or when an
    encoder restarts with another size or rate. It then ends by StreamError, and the next session continues with the
    same connection. All other errors (nothing arrives, the sender ends, nothing can be decoded) end the connection too.
    When decoding is late, frames up to the next key frame are dropped and counted.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import replace

import av

from device.capture.bounds import sound_fits
from device.capture.file import DEFAULT_MAX_HEIGHT, TELLING_RATE_ERROR
from device.capture.source import Closing
from device.capture.streams.beginning import Beginning
from device.capture.streams.connection import Arrived, Connection
from device.capture.streams.inputs import StreamInput
from device.capture.streams.replays import Replays
from device.capture.streams.timeline import LATE_NS, StampWatch, Timeline
from device.capture.tracks import AudioTrack, VideoTrack, time_ns
from device.errors import StreamError
from device.records import NS_PER_S, Chunk, Frame

AUDIO_RATE_HZ = 16_000  # the rate of the analysis
BEGIN_WITHIN_NS = 3 * NS_PER_S
SILENT_AFTER_NS = 3 * NS_PER_S  # of one track
FIRST_ITEM_WITHIN_NS = 10 * NS_PER_S  # a decoder may have to wait for a key frame
_STRAY_NS = 2 * NS_PER_S  # between a frame and the packet that it came from
_AWAY_S = 3600  # from any stamp that may come
_POLL_S = 0.25
_REST_OF_BEFORE = 2  # packets that a demuxer still held when nothing came any more
_FAILING_WEIGHT, _FAILING_SHARE = 0.05, 0.8  # per packet; reached within 1.3 s at 25 a second

_REMEDY = "Measuring restarts by itself"
# The connection is, or may be, still good after these.
_RESUMABLE_FAULTS = frozenset({"jumped", "changed", "unsynced", "slow", "stalled"})

_log = logging.getLogger(__name__)


class Stream:
    """An input that can be opened repeatedly: each `open` starts its next session."""

    def __init__(self, source: StreamInput) -> None:
        self._source = source
        self._connection: Connection | None = None
        self._replays = Replays()

    def open(self) -> StreamSource:
        """Raises StreamError, InputMissingError."""
        before, self._connection = self._connection, None
        if before is not None and before.ended:
            before.close()
            before = None
            self._replays.reopened(time.monotonic_ns())
        self._connection = before or Connection(self._source, self._replays)
        return StreamSource(self._connection)


class StreamSource(Closing):
    """A session of a connection, read once. Raises StreamError for whatever ends it.

    Video and audio each have rising times, in any order relative to each other.
    """

    def __init__(self, connection: Connection) -> None:
        self.device: str | None = connection.name
        self.dropped = 0
        self.rate_ppm: float | None = None
        self.delay_ns = 0  # the delay from waiting until items are due
        self._connection = connection
        self._trouble: Counter[str] = Counter()
        video = connection.video
        rate = video.average_rate or video.guessed_rate
        self._frames = VideoTrack(
            float(rate) if rate else None, connection.pixel_aspect, DEFAULT_MAX_HEIGHT, self._trouble
        )
        self._chunks = AudioTrack(AUDIO_RATE_HZ, self._trouble)
        self._stamps = {connection.video.index: StampWatch(), connection.audio.index: StampWatch()}
        self._delivered_ns: dict[type, int] = {}  # when each kind was last delivered
        self._reached_ns: dict[type, int] = {}  # the time stamp of the last one of each kind
        self._arrived_ns = time.monotonic_ns()  # the last packet that could be decoded
        self._failing: dict[str, float] = {}  # for each kind, the share of packets that cannot be decoded
        self._skipping = False  # frames, up to the next key frame
        self._left_out = 0  # frames since the last delivered one
        self._resumable = False

    def close(self) -> None:
        if not self._resumable:
            self._connection.close()

    def __iter__(self) -> Iterator[Frame | Chunk]:
        with self._connection.in_use():
            try:
                yield from self._play()
            except StreamError as error:
                if self._connection.closing:
                    return
                self._resumable = error.word in _RESUMABLE_FAULTS
                raise

    def _play(self) -> Iterator[Frame | Chunk]:
        waiting, connection = self._gathered(), self._connection
        self._arrived_ns = waiting[-1].at_ns
        first = [(one.stamp_ns, one.at_ns) for one in waiting if one.stamp_ns is not None]
        timeline, connection.transit_ns = Timeline(first, connection.transit_ns), None
        begun_ns = time.monotonic_ns()
        while True:
            now_ns = time.monotonic_ns()
            self._watch_tracks(begun_ns, now_ns)
            arrived = waiting.popleft() if waiting else self._followed(timeline)
            if arrived is None:
                continue
            due_ns = arrived.at_ns if arrived.stamp_ns is None else timeline.due_ns(arrived.stamp_ns)
            if not connection.wait_until(due_ns):
                return
            if self._should_decode(arrived, late_ns=now_ns - due_ns):
                for item in self._decoded(arrived):
                    self._delivered_ns[type(item)], self._reached_ns[type(item)] = time.monotonic_ns(), item.t_ns
                    self.behind_ns = max(self._delivered_ns[type(item)] - due_ns, 0)
                    if isinstance(item, Frame):
                        self.dropped, self._left_out = self.dropped + self._left_out, 0
                    yield replace(item, t_ns=item.t_ns + timeline.base_ns)
            self.delay_ns = timeline.delay_ns

    # The start

    def _gathered(self) -> deque[Arrived]:
        """The first packets, from where both tracks are present and related."""
        connection, tracks = self._connection, (self._connection.video.index, self._connection.audio.index)
        beginning, begun_ns = Beginning(tracks, max_stored_ns=connection.max_stored_ns), time.monotonic_ns()
        while not beginning.enough:
            arrived = connection.receive(_POLL_S)
            now_ns = time.monotonic_ns()
            if arrived is not None:
                self._arrived_ns = arrived.at_ns
            if arrived is not None and not arrived.live:
                begun_ns = now_ns
            elif arrived is not None and arrived.related:
                for left_out in beginning.add(arrived, jumped=self._jumped(arrived) is not None):
                    self._prime(left_out)
            elif arrived is not None:
                self._prime(arrived)
            if now_ns - begun_ns > BEGIN_WITHIN_NS and not beginning.together:
                raise self._unrelated(beginning)
        return beginning.packets

    def _prime(self, arrived: Arrived) -> None:
        """Decode a frame without delivering it: later ones refer to it, and the next key frame may be seconds away."""
        packet = arrived.packet
        if packet.stream is self._connection.video and packet.time_base:
            away = round(_AWAY_S / packet.time_base)  # makes it stale, even if the decoder gives it later
            packet.pts, packet.dts = (packet.pts or 0) - away, (packet.dts or 0) - away
            for _ in self._decoded(arrived):
                continue

    def _unrelated(self, beginning: Beginning) -> StreamError:
        if beginning.complete:
            return self._ended("jumped", "the time stamps of video and audio are far apart")
        if len(beginning.packets) > _REST_OF_BEFORE:
            return self._ended("incomplete", "its video or its audio is missing")
        if beginning.packets or time.monotonic_ns() - self._arrived_ns > BEGIN_WITHIN_NS:
            return self._stalled()
        what = "no RTCP sender reports yet, without which video and audio cannot be aligned"
        return self._ended("unsynced", what, "Wait; if none ever come, let the camera send them (RTCP, or NTP)")

    # The session

    def _followed(self, timeline: Timeline) -> Arrived | None:
        """The next packet, if one comes soon and continues the previous ones."""
        arrived = self._connection.receive(_POLL_S)
        if arrived is None or arrived.stamp_ns is None:
            return arrived
        if (step_ns := self._jumped(arrived)) is not None:
            raise self._ended("jumped", f"its time stamps jump by {step_ns / NS_PER_S:+.1f} s")
        timeline.observe(arrived.stamp_ns, arrived.at_ns)
        if timeline.slow:
            self._connection.transit_ns = timeline.needed_delay_ns
            raise self._ended("slow", "video and audio arrive later and later: its network or its sender is too slow")
        return arrived

    def _jumped(self, arrived: Arrived) -> int | None:
        if arrived.stamp_ns is None:
            return None
        return self._stamps[arrived.packet.stream.index].jumped_ns(arrived.stamp_ns, arrived.at_ns)

    def _should_decode(self, arrived: Arrived, *, late_ns: int) -> bool:
        if arrived.packet.stream is not self._connection.video:
            return True
        self._skipping = (self._skipping or late_ns > LATE_NS) and not arrived.packet.is_keyframe
        self._left_out += self._skipping
        return not self._skipping

    def _decoded(self, arrived: Arrived) -> Iterator[Frame | Chunk]:
        try:
            decoded = arrived.packet.decode()
            self._arrived_ns = arrived.at_ns
            self._watch_decoder(arrived, 0.0)
        except (av.FFmpegError, ValueError):
            self._trouble[f"{arrived.packet.stream.type} packet that cannot be decoded"] += 1
            self._watch_decoder(arrived, 1.0)
            return
        for frame in decoded:
            yield from self._converted(frame, arrived)

    def _watch_decoder(self, arrived: Arrived, failed: float) -> None:
        """With another codec on the same connection, the decoder fails on everything except by chance."""
        kind = arrived.packet.stream.type
        if kind in self._connection.form:  # before the first key frame, all packets may fail
            share = self._failing[kind] = (
                self._failing.get(kind, 0.0) * (1 - _FAILING_WEIGHT) + failed * _FAILING_WEIGHT
            )
            if share > _FAILING_SHARE:
                raise self._ended("incomplete", f"its {kind} cannot be decoded any more")

    def _converted(self, frame: object, arrived: Arrived) -> Iterator[Frame | Chunk]:
        try:
            if isinstance(frame, av.VideoFrame):
                self._watch_form("video", (frame.width, frame.height, self._connection.pixel_aspect))
                if not _is_stale(frame, arrived):
                    yield from self._frames.feed(frame)
            elif isinstance(frame, av.AudioFrame) and sound_fits(frame):
                self._watch_form("audio", (frame.sample_rate, frame.layout.name))
                if not _is_stale(frame, arrived):
                    yield from self._chunks.feed(frame)
                self._log_clock_rate()
        except (av.FFmpegError, ValueError):
            self._trouble["frame that cannot be converted"] += 1

    def _watch_form(self, kind: str, form: object) -> None:
        """A restarted encoder need not keep the offset between video and audio."""
        before = self._connection.form.setdefault(kind, form)
        if form != before:
            self._connection.form[kind] = form
            raise self._ended("changed", f"its {kind} has changed from {before} to {form}")

    def _watch_tracks(self, begun_ns: int, now_ns: int) -> None:
        silent_ns = now_ns - max(self._delivered_ns.values(), default=begun_ns)
        if silent_ns > LATE_NS and now_ns - self._arrived_ns > SILENT_AFTER_NS:
            raise self._stalled()
        for kind, name in ((Frame, "video"), (Chunk, "audio")):
            delivered_ns = self._delivered_ns.get(kind)
            silent_ns = now_ns - (begun_ns if delivered_ns is None else delivered_ns)
            if silent_ns > (FIRST_ITEM_WITHIN_NS if delivered_ns is None else SILENT_AFTER_NS):
                if self._stopped_together:
                    raise self._stalled()
                undecodable = ", and cannot be decoded" if self._trouble else ""
                raise self._ended("incomplete", f"its {name} is missing{undecodable}")

    @property
    def _stopped_together(self) -> bool:
        """Whether both tracks end at one moment: after that, a demuxer may still give a rest of one."""
        reached_ns = self._reached_ns.values()
        return len(reached_ns) == 2 and max(reached_ns) - min(reached_ns) < LATE_NS

    def _stalled(self) -> StreamError:
        return self._ended("stalled", "sends nothing usable any more", "Measuring goes on when it sends again")

    def _log_clock_rate(self) -> None:
        pace = self._chunks.rate_error
        if abs(pace) > TELLING_RATE_ERROR and not self._trouble["pace"]:
            self._trouble["pace"] += 1
            share = f"{abs(pace):.1%} {'less' if pace < 0 else 'more'}"
            _log.warning("%s: the audio's time stamps take %s time than its samples", self.device, share)

    def _ended(self, word: str, what: str, remedy: str = _REMEDY) -> StreamError:
        return StreamError(what, where=self._connection.name, remedy=remedy, word=word)


def _is_stale(frame: av.VideoFrame | av.AudioFrame, arrived: Arrived) -> bool:
    """Whether it is left over in the decoder from before a jump."""
    t_ns = time_ns(frame)
    return t_ns is not None and arrived.stamp_ns is not None and abs(t_ns - arrived.stamp_ns) > _STRAY_NS
