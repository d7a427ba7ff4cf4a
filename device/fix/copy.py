"""Copies a recording with its audio moved; video and all other streams are copied packet by packet.

A shift only changes time stamps. Drift and steps need the audio decoded, resampled and encoded again, with the same
codec if FFmpeg can write it; so does a shift in AVI and MXF, which have no start times. The copy appears under its name
complete and at once, or not at all.

Traps, each with a test: Matroska drops the decoding times of the first frames; an MP4's edit lists and AAC's priming
begin below zero; what would begin before everything else is dropped, because players disagree about it; transport
streams begin at any time, and wrap; an edit list may play frames twice, which no copy of packets can.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer, OutputContainer
from av.stream import Stream

from device.capture.container import demuxed, is_cover, open_recording
from device.capture.joints import Joints, Packet
from device.errors import AvdriftError, InputFormatError, UsageError
from device.fix.plan import Plan
from device.fix.sound import Recoder, widest_layout
from device.fix.streams import Streams, add_like, describe, in_order, is_same_container, keep
from device.fix.target import InMemory, check_target, copy_error, exists_error, give_name, open_target, reserved

_FINE = Fraction(1, 14_112_000)  # a multiple of all common audio rates, and of 90000
_NO_START_TIMES = {"avi", "mxf"}
_EARLIEST_S, _LATEST_S = -1.0, 0.5  # starts within these stay as they are: priming is below zero


@dataclass(slots=True)
class Copied:
    """The result of a copy."""

    sound: str  # `shifted`, or the codec of the new encoding
    left_out: list[str] = field(default_factory=list)  # streams that the container cannot hold
    cut_s: float = 0.0  # length of the audio that was cut because it would begin before everything else
    lost_packets: int = 0  # damaged: their stamps go back
    rebase_s: float = 0.0  # shift of all streams, so that the copy begins at zero
    all_sound: bool = False  # moved against the video, not only the measured track
    picture_later_s: float = 0.0  # shift of the video with captions and chapters
    video_index: int = 0  # in the copy
    audio_index: int = 0
    kept: dict[int, int] = field(default_factory=dict)  # from the recording's stream index to the copy's
    same_container: bool = True


def copy_moved(
    source: Path, target: Path, plan: Plan, *, video_index: int, audio_index: int, force: bool,
    move_picture: bool = False, check: Callable[[Path, Copied], None] | None = None,
) -> Copied:  # fmt: skip
    """Write `target` with the audio of one stream moved against all others.

    `move_picture`: whichever of audio and video is early is delayed: the video with its captions, or all audio.
    `check` examines the copy before it gets its name, and raises an AvdriftError if it must not be kept.
    Raises UsageError if the target may not or cannot be written, InputFormatError if the source cannot be copied.
    """
    check_target(source, target, force)
    with reserved(target) as made:
        try:
            with open_recording(source) as given, open_target(made, target, given) as out:
                copied = _Copy(given, out, source, plan, video_index, audio_index, move_picture=move_picture).run()
            with made.open("rb+") as file:
                os.fsync(file.fileno())
            if check is not None:
                check(made, copied)
            give_name(made, target, force)
        except FileExistsError:
            raise exists_error(target) from None
        except AvdriftError:
            raise
        except (OSError, ValueError, av.FFmpegError) as error:
            raise copy_error(error, source, target) from error
    return copied


def preview(
    source: Path, target: Path, plan: Plan, *, video_index: int, audio_index: int, force: bool,
    move_picture: bool = False,
) -> Copied:  # fmt: skip
    """Return what `copy_moved` would do, without writing anything. Raises the same errors."""
    check_target(source, target, force)
    try:
        with open_recording(source) as given, open_target(InMemory(target), target, given) as out:
            return _Copy(given, out, source, plan, video_index, audio_index, move_picture=move_picture).copied
    except (OSError, ValueError, av.FFmpegError) as error:
        raise copy_error(error, source, target) from error


class _Copy:
    """One pass over the packets."""

    def __init__(
        self, given: InputContainer, out: OutputContainer, source: Path, plan: Plan, video_index: int, audio_index: int,
        *, move_picture: bool,
    ) -> None:  # fmt: skip
        self._given, self._out, self._source = given, out, source
        self._video, self._audio = given.streams[video_index], given.streams[audio_index]
        begin_s = min(_start_s(s) for s in given.streams if s.type in ("video", "audio") and not is_cover(s))
        rebase_s = 0.0 if _EARLIEST_S < begin_s < _LATEST_S else -begin_s
        same = is_same_container(given, out)
        no_start_times = out.format.name in _NO_START_TIMES
        self._floor_s = min(_start_s(self._video), _start_s(self._audio))
        self._shift_ms = None if no_start_times else plan.shift_ms
        self.copied = Copied("shifted", rebase_s=rebase_s, same_container=same)
        if move_picture:
            self._let_wait()
        self._recoder: Recoder | None = None
        self._streams = Streams()
        self._last_dts: dict[int, int] = {}
        for stream in in_order(given):
            if stream.index == self._audio.index and self._shift_ms is None:
                self._recoder = Recoder(
                    out, stream, plan, self._floor_s, rebase_s=rebase_s, layout=widest_layout(source, audio_index),
                    same_container=same, from_floor=no_start_times,
                )  # fmt: skip
                self._streams.made[stream.index], self.copied.sound = self._recoder.stream, self._recoder.codec
                describe(self._recoder.stream, stream, same_container=same)
            elif stream.index not in (self._video.index, self._audio.index):
                keep(out, stream, source, self._streams, same_container=same)
            elif (made := add_like(out, stream, same_container=same)) is not None:
                self._streams.made[stream.index] = made
            else:
                raise self._cannot_hold(stream)
        self.copied.left_out = self._streams.left_out
        self.copied.kept = {index: made.index for index, made in self._streams.made.items()}
        self.copied.video_index, self.copied.audio_index = (self.copied.kept[i] for i in (video_index, audio_index))

    def _let_wait(self) -> None:
        """Nothing is cut: the track that is early begins later."""
        if self._shift_ms is None:
            what = "the video cannot be moved in AVI and MXF, nor where drift or steps need the audio re-encoded"
            raise UsageError(what, where="--move", remedy="Leave out --move video")
        self.copied.all_sound = True
        self.copied.picture_later_s = max(-self._shift_ms / 1000, 0.0)
        self._shift_ms = max(self._shift_ms, 0.0)

    def run(self) -> Copied:
        copied, streams = self.copied, self._streams
        self._out.metadata.update(self._given.metadata)
        self._set_chapters()
        joints = Joints(self._given.format.name, (self._video.index, self._audio.index))
        for packet in _with_decoding_times(joints.follow(demuxed(self._given))):
            if packet.stream.index == self._audio.index and self._recoder is not None:
                self._recoder.push(packet)
            elif packet.stream.index in streams.made and packet.stream.index not in streams.attached:
                self._copy(packet)
        if self._recoder is not None:
            self._recoder.finish()
            copied.cut_s = self._recoder.cut_s
        return copied

    def _copy(self, packet: Packet) -> None:
        stream = packet.stream
        if packet.pts is None:
            packet.pts = packet.dts
        if is_cover(stream):
            packet.pts = packet.dts = 0
            packet.stream = self._streams.made[stream.index]
            self._out.mux(packet)
            return
        if packet.pts is None:
            return
        _refine(packet)
        moved_s = self.copied.rebase_s
        is_moved = stream.type == "audio" if self.copied.all_sound else stream.index == self._audio.index
        if is_moved:
            assert self._shift_ms is not None
            moved_s += self._shift_ms / 1000
        else:
            moved_s += self.copied.picture_later_s
        moved = round(moved_s / packet.time_base)
        packet.pts += moved
        packet.dts = packet.pts if packet.dts is None else packet.dts + moved
        if stream.index == self._audio.index:
            late_s = self._floor_s + self.copied.rebase_s - float(packet.pts * packet.time_base)
            if late_s > 0.001:
                if not packet.is_discard:  # what an edit list hides is no loss
                    self.copied.cut_s = max(self.copied.cut_s, late_s)
                return
        if self._goes_on(packet):
            packet.stream = self._streams.made[stream.index]
            self._out.mux(packet)

    def _goes_on(self, packet: Packet) -> bool:
        """Whether it can follow the earlier packets, because decoding times must rise."""
        stream = packet.stream
        last = self._last_dts.get(stream.index)
        if stream.type in ("video", "audio") and last is not None and packet.dts is not None and packet.dts <= last:
            if stream.type == "audio" and packet.is_discard:
                return False  # hidden by an edit list
            if packet.pts is None or packet.pts <= last:
                if stream.type == "video" and "mov" in self._given.format.name:
                    raise self._edited()
                self.copied.lost_packets += 1
                return False
            packet.dts = last + 1
        if packet.dts is not None:
            self._last_dts[stream.index] = packet.dts
        return True

    def _set_chapters(self) -> None:
        chapters = self._given.chapters()
        for chapter in chapters:
            assert chapter["time_base"] is not None
            moved = round((self.copied.rebase_s + self.copied.picture_later_s) / chapter["time_base"])
            chapter["start"] += moved
            chapter["end"] += moved
        if chapters:
            self._out.set_chapters(chapters)

    def _edited(self) -> AvdriftError:
        what = "its edit list joins several cuts, which need frames that they do not show: they cannot be copied"
        remedy = "Make one flat recording of it first: ffmpeg -i IN -c:v libx264 -crf 16 -c:a flac FLAT.mkv"
        return InputFormatError(what, where=str(self._source), remedy=remedy)

    def _cannot_hold(self, stream: Stream) -> AvdriftError:
        kind, codec = stream.type, stream.codec_context.name
        ending = Path(self._out.name).suffix
        what = f"cannot be copied into {ending}, which cannot hold this {kind} ({codec})"
        like = self._source.suffix.lower()
        other = ".mov" if like in (".dv", ".gxf", ending.lower()) else like
        return InputFormatError(what, where=str(self._source), remedy=f"Try another container, such as OUT{other}")


def _start_s(stream: Stream) -> float:
    return float((stream.start_time or 0) * stream.time_base) if stream.time_base else 0.0


def _refine(packet: Packet) -> None:
    """Stamps in a fine unit: AVI counts in blocks of audio, others in milliseconds."""
    scale = packet.time_base / _FINE
    packet.pts = None if packet.pts is None else round(packet.pts * scale)
    packet.dts = None if packet.dts is None else round(packet.dts * scale)
    packet.duration = round((packet.duration or 0) * scale)
    packet.time_base = _FINE


def _with_decoding_times(packets: Iterable[Packet]) -> Iterator[Packet]:
    """Yield all packets; those without a decoding time get evenly spaced ones before the first that has one."""
    waiting: dict[int, list[Packet]] = {}
    for packet in packets:
        if packet.size == 0:  # the end of a stream
            yield from waiting.pop(packet.stream.index, [])
            continue
        held = waiting.get(packet.stream.index)
        if packet.dts is None and packet.stream.type == "video" and (held is not None or packet.pts is not None):
            waiting.setdefault(packet.stream.index, []).append(packet)
            continue
        if held and packet.dts is not None:
            rate = packet.stream.average_rate or packet.stream.guessed_rate or 25
            for back, early in enumerate(reversed(held), 1):
                early.dts = packet.dts - round(back / rate / packet.time_base)
            yield from waiting.pop(packet.stream.index)
        yield packet
