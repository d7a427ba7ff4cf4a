"""The audio of a plan with drift or steps: decoded, resampled and encoded again, as a stream.

Resampling uses libswresample's ratio of two rates, in steps of 1 ppm. Where the audio must move later, silence fills
the gap. Where it must move earlier, what would be heard twice is dropped once.
Containers without start times get a shift in the same way: silence in front, or the beginning cut off.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
import numpy.typing as npt

from device.capture.container import demuxed, open_recording
from device.fix.plan import Move, Plan

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.stream import Stream

_RATIO_HZ = 1_000_000  # with ten times as many, libswresample finds no memory
# Interpolates between its 1024 phases, instead of a phase for each of the millions of an odd ratio.
_RESAMPLER_OPTIONS = {"linear_interp": "1", "exact_rational": "0"}
_GAP_S = 0.04  # a container's rounding is not a gap
_ENCODERS = {"opus": "libopus", "mp3": "libmp3lame", "mp3float": "libmp3lame", "vorbis": "libopus"}
_OPUS_HZ = 48_000
_UNNAMED_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}  # for files that only give a number of channels
_TRANSPORT_STREAM = {"aac", "ac3", "mp2", "mp3", "opus"}  # FFmpeg does not say which codecs these can hold
_BLOCK = 1024

Planes = npt.NDArray[np.float32]  # [channels, samples]


class Recoder:
    """Takes audio packets; encodes and moves them into the container."""

    def __init__(
        self, out: OutputContainer, source: Stream, plan: Plan, floor_s: float, *, rebase_s: float, layout: str,
        same_container: bool, from_floor: bool,
    ) -> None:  # fmt: skip
        """Audio before `floor_s`, on the source's clock, is dropped; `rebase_s` converts to the copy's clock.

        `from_floor`: the audio begins there, padded with silence if necessary, because its container has no start
        times.
        """
        assert isinstance(source, av.AudioStream)
        self._out, self._plan, self._rate_hz = out, plan, source.codec_context.sample_rate
        self._layout, self._rebase_s, self._from_floor = layout, rebase_s, from_floor
        held = out.supported_codecs | (_TRANSPORT_STREAM if out.format.name == "mpegts" else set())
        self.codec = _encoder(source.codec_context.name, None if same_container else held, exact=from_floor)
        rate_hz = _OPUS_HZ if self.codec == "libopus" else self._rate_hz
        made = out.add_stream(self.codec, rate=rate_hz, layout=self._layout)
        assert isinstance(made, av.AudioStream)
        if source.codec_context.bit_rate:
            wider = made.codec_context.channels / (source.codec_context.channels or 1)
            made.codec_context.bit_rate = round(source.codec_context.bit_rate * max(wider, 1.0))
        self.stream = made
        self._to_planes: av.AudioResampler | None = None
        self._form: tuple[int, str, str] | None = None
        self._to_codec: av.AudioResampler | None = None
        self._resampler: av.AudioResampler | None = None
        self._index = -1  # of the current move
        self._end: int | None = None  # the next expected sample of the source
        self._written = round(
            (floor_s + rebase_s) * self._rate_hz
        )  # the next sample of the copy; earlier ones are dropped
        self._begun, self._skip = False, 0
        self.cut_s = 0.0  # at its beginning

    def push(self, packet: av.Packet[Stream]) -> None:
        for frame in packet.decode():
            if isinstance(frame, av.AudioFrame):
                self._take(frame)

    def finish(self) -> None:
        self._end_run()
        if self._from_floor and self._end is not None:  # such containers end with the shorter track
            until = self._end + round(self._rebase_s * self._rate_hz)
            self._write(np.zeros((self.stream.codec_context.channels, max(until - self._written, 0)), np.float32))
        self._encode(None)

    def _take(self, frame: av.AudioFrame) -> None:
        at = self._end or 0
        if frame.pts is not None and frame.time_base is not None:
            stamped = round(frame.pts * frame.time_base * self._rate_hz)
            if self._end is None or abs(stamped - self._end) > _GAP_S * self._rate_hz:
                self._end_run()  # a gap, or the beginning
                at = stamped
        frame.pts = None
        for part in self._planes(frame):
            planes = part.to_ndarray().astype(np.float32, copy=False)
            self._place(at, planes)
            at += planes.shape[1]
        self._end = at

    def _planes(self, frame: av.AudioFrame) -> Iterator[av.AudioFrame]:
        form = (frame.sample_rate, frame.layout.name, frame.format.name)
        if self._to_planes is None or form != self._form:  # broadcasts switch between stereo and 5.1
            if self._to_planes is not None:
                yield from self._to_planes.resample(None)
            self._to_planes, self._form = av.AudioResampler("fltp", self._layout, self._rate_hz), form
        yield from self._to_planes.resample(frame)

    def _place(self, at: int, planes: Planes) -> None:
        """Place the source's samples from number `at` on, split where another move begins."""
        while planes.shape[1]:
            index = sum(move.from_s * self._rate_hz <= at for move in self._plan.moves[1:])
            if index != self._index or self._resampler is None:
                self._end_run()
                self._begin_run(index, at)
            last = index + 1 == len(self._plan.moves)
            until = None if last else int(np.ceil(self._plan.moves[index + 1].from_s * self._rate_hz))
            count = planes.shape[1] if until is None else min(until - at, planes.shape[1])
            self._write(self._paced(planes[:, :count]))
            at, planes = at + count, planes[:, count:]

    def _begin_run(self, index: int, at: int) -> None:
        move: Move = self._plan.moves[index]
        self._index = index
        rate_hz = round(_RATIO_HZ * (1 + move.drift_ppm / 1e6))
        self._resampler = av.AudioResampler("fltp", self._layout, rate_hz, options=_RESAMPLER_OPTIONS)
        begin = round((move.to_s(at / self._rate_hz) + self._rebase_s) * self._rate_hz)
        if not self._begun:
            self.cut_s = max(self._written - begin, 0) / self._rate_hz
        if not self._begun and not self._from_floor:
            self._skip, self._written, self._begun = max(self._written - begin, 0), max(self._written, begin), True
            return
        self._begun, self._skip = True, max(self._written - begin, 0)
        if begin > self._written:
            self._write(np.zeros((self.stream.codec_context.layout.nb_channels, begin - self._written), np.float32))

    def _end_run(self) -> None:
        if self._resampler is not None:
            self._write(self._paced(None))
            self._resampler = None

    def _paced(self, planes: Planes | None) -> Planes:
        assert self._resampler is not None
        frame = None
        if planes is not None:
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(planes), format="fltp", layout=self._layout)
            frame.sample_rate = _RATIO_HZ
        parts = [part.to_ndarray().astype(np.float32, copy=False) for part in self._resampler.resample(frame)]
        return np.concatenate(parts, axis=1) if parts else np.empty((1, 0), np.float32)

    def _write(self, planes: Planes) -> None:
        skip = min(self._skip, planes.shape[1])
        self._skip -= skip
        for start in range(skip, planes.shape[1], _BLOCK):
            block = np.ascontiguousarray(planes[:, start : start + _BLOCK], np.float32)
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=self._layout)
            frame.sample_rate, frame.pts, frame.time_base = self._rate_hz, self._written, Fraction(1, self._rate_hz)
            self._written += block.shape[1]
            self._encode(frame)

    def _encode(self, frame: av.AudioFrame | None) -> None:
        context = self.stream.codec_context
        if self._to_codec is None:
            if not context.is_open:
                context.open(strict=False)
            self._to_codec = av.AudioResampler(
                context.format.name, self._layout, context.sample_rate, frame_size=context.frame_size or _BLOCK
            )
        for part in self._to_codec.resample(frame):
            self._out.mux(self.stream.encode(part))
        if frame is None:
            self._out.mux(self.stream.encode(None))


def widest_layout(source: Path, index: int) -> str:
    """The widest layout within a track: it may switch from stereo to 5.1 in the middle, and nothing shall be lost."""
    with open_recording(source) as given:
        stream = given.streams[index]
        assert isinstance(stream, av.AudioStream)
        layouts = [stream.codec_context.layout]
        for packet in demuxed(given, stream):
            with suppress(av.FFmpegError, ValueError):
                frames = [frame for frame in packet.decode() if isinstance(frame, av.AudioFrame)]
                layouts += [frame.layout for frame in frames if frame.layout.name != layouts[-1].name]
    widest = max(layouts, key=lambda layout: layout.nb_channels)
    unnamed = widest.name.endswith("channels")
    return _UNNAMED_LAYOUTS.get(widest.nb_channels, widest.name) if unnamed else widest.name


def _encoder(codec: str, supported: set[str] | None, *, exact: bool) -> str:
    """An encoder for this codec, otherwise for a common codec that the container holds. None: it holds this one.

    exact: an encoder without delay, which only start times could compensate.
    """

    def candidates() -> Iterator[tuple[str, str]]:
        if exact:
            yield (codec, codec) if codec.startswith("pcm_") else ("pcm_s16le", "pcm_s16le")
        yield codec, _ENCODERS.get(codec, codec)
        yield from (("aac", "aac"), ("opus", "libopus"), ("flac", "flac"), ("mp2", "mp2"), ("pcm_s16le", "pcm_s16le"))

    for name, encoder in candidates():
        known = name if name != "mp3float" else "mp3"
        held = "opus" if encoder == "libopus" else known
        if (supported is None or held in supported) and _can_write(encoder):
            return encoder
    raise ValueError(f"no way to encode audio like {codec} for it")


def _can_write(encoder: str) -> bool:
    try:
        av.codec.Codec(encoder, "w")
    except ValueError:
        return False
    return True
