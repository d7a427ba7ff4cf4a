"""Opening a recording and choosing its tracks: those that a player would choose, or others.

Tracks are counted as players do: from 1, video and audio separately.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
from av.stream import Discard, Disposition, Stream

from device.capture.bounds import DECODER_OPTIONS, check_file, check_tracks, container_options
from device.errors import InputFormatError, InputTrackError

CONVERT = "Convert it, for example with: ffmpeg -i FILE -c:v libx264 -c:a flac converted.mkv"
_GIVE_BOTH = (
    "Give a recording with video and audio. Two files become one with: "
    "ffmpeg -i VIDEO -i AUDIO -map 0:v -map 1:a -c copy both.mkv"
)
RECORD_AGAIN = "Copy or record the file again"


@dataclass(frozen=True, slots=True)
class TrackChoice:
    """The tracks to read, counted from 1; audio also by language. None means what a player would take."""

    video: int | None = None
    audio: int | str | None = None
    channel: int | None = None  # of the audio; None is a mix of all channels


AS_PLAYED = TrackChoice()


def open_recording(path: Path) -> av.container.InputContainer:
    """Open a recording for reading, without opening any other file. Raises InputMissingError, InputFormatError."""
    where = str(path)
    check_file(path)
    try:
        # `file:` and the white list keep a playlist, or a name that looks like an address, from reaching a network.
        options = {"protocol_whitelist": "file", "fflags": "+genpts"} | container_options()
        return av.open(
            f"file:{path}", mode="r", options=DECODER_OPTIONS, container_options=options, metadata_errors="replace"
        )
    except (av.FFmpegError, ValueError) as error:
        raise InputFormatError(
            f"not a recording that FFmpeg can read, or cut off before its first frame ({error.__class__.__name__})",
            where=where,
            remedy=f"{RECORD_AGAIN}, or check it with ffprobe.",
        ) from None


def choose_tracks(
    container: av.container.InputContainer, path: Path | str, which: TrackChoice
) -> tuple[av.VideoStream, av.AudioStream]:
    """Return the video and the audio stream to read.

    Raises InputTrackError if there is no such track, InputFormatError if it cannot be decoded.
    """
    where = str(path)
    videos = picture_tracks(container)
    best = container.streams.best("video")
    video = next((s for s in videos if best is not None and s.index == best.index), videos[0] if videos else None)
    if video is not None and which.video is not None:
        video = _numbered(videos, which.video, where, "--video-track")
    best = container.streams.best("audio", related=video)
    audios = container.streams.audio
    audio = next((s for s in audios if best is not None and s.index == best.index), audios[0] if audios else None)
    if audio is not None and which.audio is not None:
        audio = _wanted_audio(audios, which.audio, where)
    if video is None:
        raise InputTrackError("has no video track", where=where, remedy=_GIVE_BOTH)
    if audio is None:
        raise InputTrackError("has no audio track", where=where, remedy=_GIVE_BOTH)
    for stream in (video, audio):
        if stream.codec_context is None:
            what = f"no decoder for its {stream.type} track"
            raise InputFormatError(what, where=where, remedy=f"{CONVERT}.")
    channels = audio.codec_context.channels
    if which.channel is not None and channels and not 1 <= which.channel <= channels:
        what = f"has no channel {which.channel} in {called(audio)}: it has {channels}"
        raise InputTrackError(what, where=where, remedy=f"Give --channel 1 to {channels}")
    check_tracks(video, audio, where)
    return video, audio


def demuxed(container: av.container.InputContainer, *streams: Stream | int) -> Iterator[av.Packet[Stream]]:
    """Yield the packets of these streams, or of all. Raises av.FFmpegError at a damaged place."""
    try:
        yield from container.demux(*streams)
    except IndexError:  # PyAV, at the end of a file in which another stream has appeared
        return


def choice_of(path: Path, *, video_index: int, audio_index: int, channel: int | None = None) -> TrackChoice:
    """The TrackChoice that selects these streams."""
    with open_recording(path) as container:
        videos = [stream.index for stream in picture_tracks(container)]
        audios = [stream.index for stream in container.streams.audio]
    return TrackChoice(videos.index(video_index) + 1, audios.index(audio_index) + 1, channel)


def picture_tracks(container: av.container.InputContainer) -> list[av.VideoStream]:
    """Video streams without covers, which are video streams of one picture."""
    return [s for s in container.streams.video if not is_cover(s)]


def is_cover(stream: Stream) -> bool:
    """Includes covers that a copy between containers has turned into a video stream."""
    mimetype = next((value for word, value in stream.metadata.items() if word.lower() == "mimetype"), "")
    return bool(stream.disposition & Disposition.attached_pic) or (
        stream.type == "video" and mimetype.startswith("image/")
    )


def is_chapter_list(stream: Stream) -> bool:
    """Whether the stream only holds chapter titles, which FFmpeg reads as a text stream."""
    return stream.type == "data" and stream.discard == Discard.all


def declared_length_s(stream: Stream) -> float | None:
    """The length of one track, where the file declares it."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    try:  # Matroska's statistics tags
        hours, minutes, seconds = map(float, stream.metadata.get("DURATION", "").split(":"))
    except ValueError:
        return None
    return 3600 * hours + 60 * minutes + seconds


def called(stream: Stream) -> str:
    """The name of a track in messages: `audio 2 (ger, "Comment")`."""
    same = [s for s in stream.container.streams if s.type == stream.type and is_cover(s) == is_cover(stream)]
    words = [stream.language or "", f'"{title}"' if (title := stream.metadata.get("title")) else ""]
    words = [word for word in words if word and word != "und"]
    return f"{stream.type} {same.index(stream) + 1}" + (f" ({', '.join(words)})" if words else "")


def _numbered(streams: list[av.VideoStream], number: int, where: str, option: str) -> av.VideoStream:
    if not 1 <= number <= len(streams):
        what = f"has no track {number} for {option}: it has {len(streams)}"
        raise InputTrackError(what, where=where, remedy=f"Give 1 to {len(streams)}")
    return streams[number - 1]


def _wanted_audio(streams: tuple[av.AudioStream, ...], wanted: int | str, where: str) -> av.AudioStream:
    if isinstance(wanted, str):
        found = next((s for s in streams if (s.language or "").lower() == wanted.lower()), None)
    else:
        found = streams[wanted - 1] if 1 <= wanted <= len(streams) else None
    if found is None:
        have = ", ".join(called(stream) for stream in streams)
        what = f"has no {wanted} for --audio-track; it has {have}"
        raise InputTrackError(what, where=where, remedy="Give one of these")
    return found
