"""A recording as a source: any container and codec that FFmpeg reads, placed in time by its own time stamps.

Conventions
    All times are presentation time stamps of the file in integer ns. The file's own origin is kept (an MPEG transport
    stream may begin at 1.4 s, a track may begin below zero): only the relation of the two tracks matters.
    A frame's time is its time stamp, because no file says where in it the exposure lay.
    Frames keep their order and spacing, at a constant rate or not. Audio comes in chunks, of 20 ms by default.

Known residuals (measured with a simultaneous flash and click)
    0.0 ms in Matroska, MP4, MOV and AVI with FLAC, PCM, AAC or MP3; 0.5 ms for Opus in Matroska, whose pre-skip of
    6.5 ms is rounded; 0.4 ms in MPEG streams and FLV; 1 ms if an MP4 track begins late (edit lists count in ms).
    AVI cannot say when a frame is shown: with B-frames the video comes out one frame late, as FFmpeg reads it.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import av
from av.stream import Stream

from device.capture.bounds import sound_fits
from device.capture.container import (
    AS_PLAYED,
    RECORD_AGAIN,
    TrackChoice,
    choose_tracks,
    declared_length_s,
    demuxed,
    open_recording,
)
from device.capture.joints import Joints
from device.capture.memory import has_room_for, too_much
from device.capture.source import Closing
from device.capture.tracks import CHUNK_MS, GAP, AudioTrack, VideoTrack
from device.errors import CaptureError, InputFormatError
from device.records import NS_PER_S, Chunk, Frame

LONG_CHUNK_MS = 100  # where nobody waits for it: a chunk costs as much however short it is
DEFAULT_MAX_HEIGHT = 1080  # high enough to read a face of 60 pixels
MAX_WAITING_BYTES = 32_000_000  # each for packets, and for frames and chunks
OBJECT_BYTES = 500  # what the smallest packet or chunk costs in Python
MAX_FAILURES_IN_A_ROW = 250
MISSING_END_S = 0.5
TELLING_RATE_ERROR = 0.002  # cheap but healthy clocks stay below

_BURST_ITEMS, _BURST_BYTES = 70, 16_000_000  # two seconds of 25 fps and 100 ms chunks

T = TypeVar("T")


class FileSource(Closing):
    """The frames and chunks of a recording in time order, streamed with bounded memory.

    path: a file, never an address. Nothing is fetched from a network, whatever the file refers to.
    max_height: frames are scaled down until their shorter side has at most this many pixels; None means 1080.
    threads: decoder threads; with more than one, several frames are decoded at once.
    which: the tracks and the channel, where not those that a player would take.
    chunk_ms: the length of the chunks.
    Errors: raises InputMissingError, InputFormatError or InputTrackError on opening, or at the end if only decoding
    shows that a track is empty. Neither damage in the middle (see `damaged`) nor recordings joined end to end (see
    `joints_s`) are errors.
    """

    def __init__(
        self, path: str | Path, *, max_height: int | None = None, audio_rate_hz: int = 16_000, threads: int = 1,
        which: TrackChoice = AS_PLAYED, chunk_ms: int = CHUNK_MS,
    ) -> None:  # fmt: skip
        self.path = Path(path)
        self._trouble: Counter[str] = Counter()
        self._missing: str | None = None
        self._container = open_recording(self.path)
        try:
            self._video, self._audio = choose_tracks(self._container, self.path, which)
        except CaptureError:
            self._container.close()
            raise
        for stream in (self._video, self._audio):
            stream.codec_context.thread_count = threads
            stream.codec_context.thread_type = "FRAME" if threads > 1 else "NONE"
        length_us = self._container.duration
        self.duration_s: float | None = length_us / 1e6 if length_us and length_us > 0 else None
        rate = self._video.average_rate or self._video.guessed_rate
        self.video_rate_hz: float | None = float(rate) if rate else None
        aspect = self._video.sample_aspect_ratio
        self._frames = VideoTrack(self.video_rate_hz, aspect, max_height or DEFAULT_MAX_HEIGHT, self._trouble)
        self._chunks = AudioTrack(audio_rate_hz, self._trouble, channel=which.channel, chunk_ms=chunk_ms)
        self._joints = Joints(self._container.format.name, self.stream_indexes)
        self._read = False

    @property
    def stream_indexes(self) -> tuple[int, int]:
        """The indexes of the video and the audio stream in the file."""
        return self._video.index, self._audio.index

    @property
    def joints_s(self) -> list[float]:
        """The times, in what has been read so far, where one recording ended and the next began."""
        return list(self._joints.at_s)

    def close(self) -> None:
        self._container.close()

    @property
    def damaged(self) -> str | None:
        """The damage in what has been read so far, for a person; None without any."""
        trouble = self._trouble.copy()
        trouble[GAP] -= len(self._joints.at_s)  # joined recordings need not be contiguous
        found = [f"{count} × {what}" for what, count in trouble.items() if count > 0]
        if abs(pace := self._chunks.rate_error) > TELLING_RATE_ERROR:
            share = f"{abs(pace):.1%} {'less' if pace < 0 else 'more'}"
            found.append(f"the audio's time stamps take {share} time than its samples")
        return "; ".join([*found, *([self._missing] if self._missing else [])]) or None

    @property
    def sound_error_ms(self) -> float:
        """Placement error of the audio (rms): an unusual pace is followed only once it is known."""
        return self._chunks.error_ms

    def __iter__(self) -> Iterator[Frame | Chunk]:
        if self._read:
            raise RuntimeError("a FileSource is read once: open the file again")
        self._read = True
        # Packets first: a file may store its tracks seconds apart, and packets are small while frames are not.
        packets = _in_time_order(
            self._joints.follow(self._packets()),
            is_first=lambda packet: packet.stream_index == self._video.index,
            time_of=_decoding_time_s,
            bytes_of=lambda packet: packet.size + OBJECT_BYTES,
        )
        yield from _in_time_order(
            self._decode(packets),
            is_first=lambda item: isinstance(item, Frame),
            time_of=lambda item: item.t_ns,
            bytes_of=_bytes_of,
        )
        self._check_end()

    def _decode(self, packets: Iterable[av.Packet[Stream]]) -> Iterator[Frame | Chunk]:
        failures = 0
        for packet in packets:
            try:
                decoded = packet.decode()
                failures = 0
            except (av.FFmpegError, ValueError) as error:
                # FFmpeg reports frames for which it found no memory as damaged.
                if not has_room_for(_picture_bytes(self._video)):
                    raise too_much(str(self.path)) from error
                decoded = []
                failures += 1
                self._trouble[f"{packet.stream.type} packet that cannot be decoded"] += 1
            for frame in decoded:
                yield from self._convert(frame)
            if failures > MAX_FAILURES_IN_A_ROW:
                self._missing = "nothing after that can be decoded"
                break
        yield from self._frames.flush()
        yield from self._chunks.flush()

    def _convert(self, frame: object) -> Iterator[Frame | Chunk]:
        try:
            if isinstance(frame, av.VideoFrame):
                self._trouble["frame marked as damaged"] += frame.is_corrupt
                yield from self._frames.feed(frame)
            elif isinstance(frame, av.AudioFrame) and not sound_fits(frame):
                self._trouble["block of audio whose rate or channels cannot be used"] += 1
            elif isinstance(frame, av.AudioFrame):
                yield from self._chunks.feed(frame)
        except (av.FFmpegError, ValueError):
            self._trouble["frame that cannot be converted"] += 1

    def _packets(self) -> Iterator[av.Packet[Stream]]:
        for _ in range(MAX_FAILURES_IN_A_ROW):
            try:
                # A new demuxing loop continues after the damaged place, if anything follows.
                yield from demuxed(self._container, self._video, self._audio)
                return
            except av.FFmpegError:
                self._trouble["damaged place in the container"] += 1

    def _check_end(self) -> None:
        self._trouble += Counter()  # drops the zeros
        for track, name in ((self._frames, "video"), (self._chunks, "audio")):
            if track.seq == 0:
                what = f"the {name} track is empty or none of it can be decoded"
                raise InputFormatError(what, where=str(self.path), remedy=f"{RECORD_AGAIN}, or check it with ffprobe.")
        end_s = max(end for end in (self._frames.end_ns, self._chunks.end_ns) if end is not None) / NS_PER_S
        # Some formats count their length from the first time stamp, some from zero.
        begin_s = min((self._container.start_time or 0) / 1e6, 0.0)
        declared_s = None if self._joints.at_s else self._declared_s()  # joined recordings each declare their own
        if declared_s is not None and end_s - begin_s < declared_s - MISSING_END_S:
            self._missing = f"ends at {end_s - begin_s:.1f} s of the {declared_s:.1f} s that it declares"

    def _declared_s(self) -> float | None:
        """The declared length of video or audio. The length of the whole file may be that of its captions."""
        lengths_s = [declared_length_s(stream) for stream in (self._video, self._audio)]
        known_s = [length_s for length_s in lengths_s if length_s is not None]
        return max(known_s) if len(known_s) == len(lengths_s) else self.duration_s


def in_bursts(items: Iterable[Frame | Chunk]) -> Iterator[Frame | Chunk]:
    """The same items, read about two seconds ahead at a time.

    A decoder and the networks evict each other from a processor's caches: alternating every other second instead of per
    item saves an eighth of the processor time.
    """
    burst: list[Frame | Chunk] = []
    held_bytes = 0
    for item in items:
        burst.append(item)
        held_bytes += _bytes_of(item)
        if len(burst) == _BURST_ITEMS or held_bytes > _BURST_BYTES:
            yield from burst
            burst, held_bytes = [], 0
    yield from burst


def _bytes_of(item: Frame | Chunk) -> int:
    return (item.picture if isinstance(item, Frame) else item.samples).nbytes + OBJECT_BYTES


def _in_time_order(
    items: Iterable[T], is_first: Callable[[T], bool], time_of: Callable[[T], float], bytes_of: Callable[[T], int]
) -> Iterator[T]:
    """Merge two tracks by time, holding back at most MAX_WAITING_BYTES. Tracks that are further apart stay apart."""
    first: deque[tuple[float, int, T]] = deque()  # time, size
    second: deque[tuple[float, int, T]] = deque()
    held_bytes = 0
    for item in items:
        size = bytes_of(item)
        (first if is_first(item) else second).append((time_of(item), size, item))
        held_bytes += size
        while (first and second) or held_bytes > MAX_WAITING_BYTES:
            from_first = not second or (first and first[0][0] <= second[0][0])
            _, size, earliest = (first if from_first else second).popleft()
            held_bytes -= size
            yield earliest
    yield from (item for _, _, item in heapq.merge(first, second, key=lambda timed: timed[0]))


def _picture_bytes(video: av.VideoStream) -> int:
    context = video.codec_context
    bits = sum(component.bits for component in context.format.components) if context.format else 0
    return context.width * context.height * bits // 8


def _decoding_time_s(packet: av.Packet[Stream]) -> float:
    stamp = packet.dts if packet.dts is not None else packet.pts
    # the empty packet that drains a decoder comes last; any other without a stamp comes as early as possible
    if stamp is None:
        return -math.inf if packet.size else math.inf
    ticks, per_s = packet.time_base.as_integer_ratio()
    return stamp * ticks / per_s
