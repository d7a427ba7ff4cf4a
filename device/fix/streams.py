"""The streams of a copy: which of a recording's streams it can hold, with their tags, flags, titles and numbers.

What a container can hold is found by trying, because FFmpeg's muxers report it only when they write a header. Covers
are streams in MP4 and attachments in Matroska; a QuickTime timecode track is recreated from the video's metadata.
"""

from __future__ import annotations

import io
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import av
from av.codec.context import CodecContext
from av.container import InputContainer, OutputContainer
from av.stream import Disposition, Stream

from device.capture.container import called, is_chapter_list, is_cover, open_recording, picture_tracks

_MOV_LIKE = {"mp4", "mov", "ipod", "3gp", "psp"}
_APPLE_HEVC = "hvc1"  # Apple's players refuse `hev1`; FFmpeg's muxer takes the parameter sets out of the frames for it
_NO_TAG = "\0\0\0\0"
_TRANSPORT_STREAM = {
    "mpeg1video", "mpeg2video", "mpeg4", "h264", "hevc", "vc1", "cavs", "aac", "aac_latm", "ac3", "eac3", "mp2", "mp3",
    "mp3float", "mp2float", "dca", "truehd", "opus", "dvbsub", "dvb_subtitle", "libzvbi_teletextdec", "dvb_teletext",
}  # fmt: skip
_TAGGED = {"video", "audio"}
_PICTURE_TYPES = {"mjpeg": "image/jpeg", "png": "image/png", "bmp": "image/bmp", "gif": "image/gif"}
_FIRST_FREE_ID = 16  # below it, the muxer of MPEG transport streams assigns numbers itself


@dataclass(slots=True)
class Streams:
    """From the recording's stream index to the copy's stream; and the names of streams that the copy cannot hold."""

    made: dict[int, Stream] = field(default_factory=dict)
    attached: set[int] = field(default_factory=set)  # written with the copy's header
    left_out: list[str] = field(default_factory=list)


def is_same_container(given: InputContainer, out: OutputContainer) -> bool:
    return out.format.name in given.format.name.split(",") or (is_mov_like(out) and "mov" in given.format.name)


def is_mov_like(out: OutputContainer) -> bool:
    return out.format.name in _MOV_LIKE


def add_like(out: OutputContainer, stream: Stream, *, same_container: bool) -> Stream | None:
    """Add a stream like this one to the copy; None if its container cannot hold it."""
    for tag in _tags(out, stream, same_container=same_container):
        if _holds(out.format.name, stream, tag, same_container=same_container):
            return _add(out, stream, tag, same_container=same_container)
    return None


def in_order(given: InputContainer) -> list[Stream]:
    """Streams in the copy's order: covers and attachments last, where readers find them."""
    return sorted(given.streams, key=lambda stream: is_cover(stream) or stream.type == "attachment")


def keep(out: OutputContainer, stream: Stream, source: Path, streams: Streams, *, same_container: bool) -> None:
    """Add a stream other than the moved video and audio, if the copy can hold it."""
    if is_chapter_list(stream) or (_is_timecode(stream) and is_mov_like(out)):
        return  # the muxer recreates them
    if is_cover(stream) and out.format.name == "matroska":
        _attach_cover(out, stream, source, streams)
    elif not _is_timecode(stream) and (made := add_like(out, stream, same_container=same_container)) is not None:
        streams.made[stream.index] = made
        if stream.type == "attachment":
            streams.attached.add(stream.index)
    else:
        name = "timecode track" if _is_timecode(stream) else "cover" if is_cover(stream) else called(stream)
        streams.left_out.append(name)


def describe(made: Stream, stream: Stream, *, same_container: bool) -> None:
    """Copy its flags, title and language, and in the same container its number."""
    made.metadata.update(stream.metadata)
    if name := stream.metadata.get("name"):  # MP4 reads titles under another name than it writes them
        made.metadata.setdefault("title", name)
    made.disposition = stream.disposition | (Disposition.attached_pic if is_cover(stream) else Disposition(0))
    if same_container and stream.id >= _FIRST_FREE_ID:
        made.id = stream.id


def _add(out: OutputContainer, stream: Stream, tag: str, *, same_container: bool) -> Stream:
    made = out.add_stream_from_template(stream, opaque=True)
    if tag != _NO_TAG and made.codec_context is not None:
        made.codec_context.codec_tag = tag
    describe(made, stream, same_container=same_container)
    return made


def _tags(out: OutputContainer, stream: Stream, *, same_container: bool) -> list[str]:
    """The tags to try: only the tag distinguishes `hvc1` and the ProRes profiles."""
    if stream.type not in _TAGGED or stream.codec_context is None:
        return [_NO_TAG]
    tags = [_NO_TAG]
    if stream.codec_context.name == "hevc" and is_mov_like(out):
        tags.insert(0, _APPLE_HEVC)
    with suppress(UnicodeDecodeError):  # some tags are numbers
        if same_container and stream.codec_context.codec_tag not in tags:
            tags.insert(0, stream.codec_context.codec_tag)
    return tags


def _holds(container: str, stream: Stream, tag: str, *, same_container: bool) -> bool:
    if container == "mpegts" and not same_container and _codec(stream) not in _TRANSPORT_STREAM:
        return False  # its muxer accepts anything, including what nobody can read
    trial = av.open(io.BytesIO(), "w", format=container)
    try:
        if stream.type != "video":  # some need a video stream first
            trial.add_stream_from_template(_first_picture(stream), opaque=True)
        _add(trial, stream, tag, same_container=False)
        trial.start_encoding()
    except (OSError, ValueError, av.FFmpegError):
        return False
    finally:
        with suppress(OSError, ValueError, av.FFmpegError):
            trial.close()
    return True


def _first_picture(stream: Stream) -> Stream:
    assert isinstance(stream.container, InputContainer)
    return picture_tracks(stream.container)[0]


def _codec(stream: Stream) -> str | None:
    context: CodecContext | None = stream.codec_context  # none for data streams, whatever the type annotation says
    return context.name if context is not None else getattr(stream, "name", None)


def _is_timecode(stream: Stream) -> bool:
    return stream.type == "data" and "timecode" in stream.metadata


def _attach_cover(out: OutputContainer, stream: Stream, source: Path, streams: Streams) -> None:
    codec = _codec(stream)
    picture = _first_packet(source, stream.index)
    if codec not in _PICTURE_TYPES or picture is None:
        streams.left_out.append("cover")
        return
    words = {word.lower(): value for word, value in stream.metadata.items()}
    mimetype = words.get("mimetype") or _PICTURE_TYPES[codec]
    name = words.get("filename") or f"cover.{mimetype.partition('/')[2].replace('jpeg', 'jpg')}"
    streams.made[stream.index] = out.add_attachment(name, mimetype, picture)
    streams.attached.add(stream.index)


def _first_packet(source: Path, index: int) -> bytes | None:
    with open_recording(source) as given:
        return next((bytes(packet) for packet in given.demux(index) if packet.size), None)
