"""Copies a recording with its sound moved: the picture, and everything else, packet by packet as it is.

A shift only moves time stamps. Drift and steps need the sound decoded, resampled and coded again, with the same codec
where FFmpeg can write it. The copy appears at once and whole under its name, or not at all.

Traps, each with a test: Matroska leaves out the decoding times of the first pictures; an MP4's edit lists and AAC's
priming begin below zero; what would begin before everything else is left out instead, as players disagree about it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import av
from av.container import InputContainer, OutputContainer
from av.stream import Stream

from device.errors import InputFormatError, UsageError
from device.fix.plan import Plan
from device.fix.sound import Recoder

_OPTIONS = {"mp4": {"movflags": "use_metadata_tags"}, "mov": {"movflags": "use_metadata_tags"}}
_MP4_LIKE = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov"}


@dataclass(slots=True)
class Copied:
    """What became of it."""

    sound: str  # `shifted`, or the codec in which it was coded again
    left_out: list[str] = field(default_factory=list)  # streams that the container cannot hold


def copy_moved(source: Path, target: Path, plan: Plan, *, video_index: int, audio_index: int, force: bool) -> Copied:
    """Write `target` with the sound of one stream moved against all others.

    Raises UsageError where the target may not or cannot be written, InputFormatError where the source cannot be copied.
    """
    _check_target(source, target, force)
    made = target.with_name(f".{target.stem}.new{target.suffix}")  # the suffix says which container
    try:
        with _open_target(made) as out, av.open(f"file:{source}", metadata_errors="replace") as given:
            copied = _copy(given, out, plan, given.streams[video_index], given.streams[audio_index])
        with made.open("rb+") as file:
            os.fsync(file.fileno())
        if force:
            made.replace(target)
        else:  # nobody's file is lost that came meanwhile
            os.link(made, target)
    except FileExistsError:
        raise _exists(target) from None
    except (OSError, ValueError, av.FFmpegError) as error:
        what = f"cannot be copied into {target.suffix} ({getattr(error, 'strerror', None) or error})"
        raise InputFormatError(what, where=str(source), remedy="Try another container, such as OUT.mkv") from error
    finally:
        made.unlink(missing_ok=True)
    return copied


def _check_target(source: Path, target: Path, force: bool) -> None:
    with suppress(OSError):
        if source.samefile(target):
            raise UsageError("is the recording itself", where=str(target), remedy="Give another name for the copy")
    if not target.parent.is_dir():
        raise UsageError(
            "cannot be written (no such folder)", where=str(target), remedy=f"Make the folder {target.parent} first"
        )
    if target.is_dir() or (os.path.lexists(target) and not force):
        raise _exists(target)


def _exists(target: Path) -> UsageError:
    return UsageError("exists already", where=str(target), remedy="Give another name, or --force to overwrite a file")


def _open_target(made: Path) -> OutputContainer:
    try:
        return av.open(f"file:{made}", "w", options=_OPTIONS.get(_MP4_LIKE.get(made.suffix.lower(), ""), {}))
    except (OSError, ValueError, av.FFmpegError) as error:
        what = f"cannot be written ({getattr(error, 'strerror', None) or error})"
        remedy = "Give a name that ends in .mp4, .mkv, .mov, .webm or .ts, in a folder that can be written"
        raise UsageError(what, where=str(made.with_name(made.name.removeprefix("."))), remedy=remedy) from None


def _copy(given: InputContainer, out: OutputContainer, plan: Plan, video: Stream, audio: Stream) -> Copied:
    out.metadata.update(given.metadata)
    if chapters := given.chapters():
        out.set_chapters(chapters)
    floor_s = min(_start_s(video), _start_s(audio))
    shift_ms = plan.shift_ms
    same = out.format.name in given.format.name.split(",")
    recoder: Recoder | None = None
    copied = Copied("shifted")
    tracks: dict[int, Stream] = {}
    for stream in given.streams:  # in their order
        if stream.index == audio.index and shift_ms is None:
            same = out.format.name in given.format.name.split(",")
            recoder = Recoder(out, audio, plan, floor_s, same_container=same)
            tracks[stream.index], copied.sound = recoder.stream, recoder.codec
        elif (track := _same_stream(stream, out)) is not None:
            tracks[stream.index] = track
        elif stream.index in (video.index, audio.index):
            raise ValueError(f"it cannot hold this {'picture' if stream is video else 'sound'}")
        else:
            copied.left_out.append(f"{stream.type or 'unknown'} stream {stream.index}")
            continue
        tracks[stream.index].metadata.update(stream.metadata)
    for packet in _with_decoding_times(given):
        stream = packet.stream
        if stream.index == audio.index and recoder is not None:
            recoder.push(packet)
        elif stream.index in tracks and packet.pts is not None:
            if stream.index == audio.index and shift_ms is not None:
                moved = round(shift_ms / 1000 / packet.time_base)
                packet.pts += moved
                packet.dts = packet.pts if packet.dts is None else packet.dts + moved
                if packet.pts * packet.time_base < floor_s - 0.001:
                    continue
            packet.stream = tracks[stream.index]
            out.mux(packet)
    if recoder is not None:
        recoder.finish()
    return copied


def _same_stream(stream: Stream, out: OutputContainer) -> Stream | None:
    """The copy's stream for this one; None where its container has no place for such a stream."""
    try:
        return out.add_stream_from_template(stream, opaque=True)
    except (OSError, ValueError, av.FFmpegError):
        return None


def _start_s(stream: Stream) -> float:
    return float((stream.start_time or 0) * stream.time_base) if stream.time_base else 0.0


def _with_decoding_times(given: InputContainer) -> Iterator[av.Packet[Stream]]:
    """All packets; those without a decoding time get one, evenly spaced before the first that has one."""
    waiting: dict[int, list[av.Packet[Stream]]] = {}
    for packet in given.demux():
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
