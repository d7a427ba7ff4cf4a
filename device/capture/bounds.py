"""Bounds on recordings, checked before anything is unpacked, because a small file can demand any amount of memory.

A frame is a few bytes in a file and 3 to 8 bytes per pixel in memory, and a decoder keeps many frames. A block of audio
at 1 Hz becomes 16,000 times as long at the measured rate. FFmpeg itself has no such bounds.
"""

from __future__ import annotations

import re
import stat
from functools import lru_cache
from pathlib import Path

import av

from device.errors import InputFormatError, InputMissingError

MAX_PIXELS = 4096 * 2304  # 4K: decoders keep up to 16 frames, and the service has 400 MB
MIN_RATE_HZ, MAX_RATE_HZ = 4_000, 768_000  # from telephony to high-resolution studio audio
_MAX_CHANNELS = 64
_MAX_BLOCK_SAMPLES = 1 << 20
_HEAD_BYTES = 4096
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+\w")  # a path joins the slashes
# Demuxers that open what a text file names: other files, or parts that never end.
_BY_NAME = frozenset({"concat", "dash", "hls", "image2", "imf", "lavfi", "sdp", "tty"})
_LISTS = {
    b"#EXTM3U": "a playlist", b"[playlist]": "a playlist", b"<asx": "a playlist", b"<playlist": "a playlist",
    b"<MPD": "a playlist (DASH)", b"ffconcat": "a list of files to join", b"v=0\r": "a session description",
    b"v=0\n": "a session description",
}  # fmt: skip
_LIST_SUFFIXES = frozenset({".asx", ".ffconcat", ".m3u", ".m3u8", ".mpd", ".pls", ".sdp", ".wpl", ".xspf"})

# For av.open. Every stream's decoder refuses larger frames, even one that only probes.
DECODER_OPTIONS = {"max_pixels": str(MAX_PIXELS), "max_samples": str(_MAX_BLOCK_SAMPLES)}


def check_file(path: Path) -> None:
    """Check that a path is a non-empty plain file and not a list of other files.

    Raises InputMissingError, InputFormatError.
    """
    where = str(path)
    if (address := _ADDRESS.match(where)) and not path.exists():
        remedy = f"`avdrift run --source {address[1]}://…` measures what comes from an address"
        raise InputMissingError("an address, not a file", where=f"{address[1]}://…", remedy=remedy)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise InputMissingError("not a file", where=where, remedy="Give the path of a recording.")
        # Before reading: kernel files such as /proc/kmsg have no size, and reading one can block for ever.
        if status.st_size == 0:
            raise InputFormatError("the file is empty", where=where, remedy="Copy or record the file again.")
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputMissingError(
            f"cannot be read ({reason})", where=where, remedy="Check the path and its permissions."
        ) from None
    if kind := _list_kind(head, path.suffix.lower()):
        raise InputFormatError(f"{kind}, not a recording", where=where, remedy="Give the files that it names.")


def container_options() -> dict[str, str]:
    """For av.open: demuxers that stay within the file."""
    return {"format_whitelist": ",".join(sorted(av.formats_available - _BY_NAME))}


def check_tracks(video: av.VideoStream, audio: av.AudioStream, where: str) -> None:
    """Check that both can be decoded within bounds, and bound their decoders. Raises InputFormatError."""
    width, height = video.codec_context.width, video.codec_context.height
    if not 0 < width * height <= MAX_PIXELS:
        what = f"frames of {width}x{height} cannot be used (at most {MAX_PIXELS} pixels)"
        raise InputFormatError(what, where=where, remedy=_converted("-vf scale=-2:1080"))
    sound = audio.codec_context
    if sound.sample_rate and not MIN_RATE_HZ <= sound.sample_rate <= MAX_RATE_HZ:
        what = f"audio at {sound.sample_rate} Hz cannot be used ({MIN_RATE_HZ} to {MAX_RATE_HZ} Hz can)"
        raise InputFormatError(what, where=where, remedy=_converted("-ar 48000"))
    form = getattr(sound.format, "name", "flt")  # there is no format where probing found none
    if sound.channels and not _can_be_mixed(form, sound.layout.name, sound.channels):
        what = f"audio of {sound.channels} channels ({sound.layout.name}) cannot be mixed to one"
        raise InputFormatError(what, where=where, remedy=_converted("-af 'pan=mono|c0=c0'"))
    for stream in (video, audio):
        stream.codec_context.options = stream.codec_context.options | DECODER_OPTIONS


def sound_fits(frame: av.AudioFrame) -> bool:
    """Whether a block can be used. A track may change in the middle, so a check on opening is not enough."""
    layout = frame.layout
    return MIN_RATE_HZ <= frame.sample_rate <= MAX_RATE_HZ and _can_be_mixed(
        frame.format.name, layout.name, layout.nb_channels
    )


def _converted(option: str) -> str:
    return f"Convert it, for example with: ffmpeg -i FILE {option} converted.mkv"


def _list_kind(head: bytes, suffix: str) -> str | None:
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for mark, kind in _LISTS.items():
        # XML has a preamble before the element that tells its kind.
        if start.startswith(mark) or (mark.startswith(b"<") and start.startswith(b"<") and mark in start):
            return kind
    return "a playlist" if suffix in _LIST_SUFFIXES else None


@lru_cache(maxsize=64)
def _can_be_mixed(form: str, layout: str, channels: int) -> bool:
    """Whether libswresample can downmix this to mono. It rejects some layouts, but only when it gets samples."""
    if not 0 < channels <= _MAX_CHANNELS:
        return False
    try:
        frame = av.AudioFrame(form, layout, 64)
        frame.sample_rate = 16_000
        av.AudioResampler("flt", "mono", 16_000).resample(frame)
    except (av.FFmpegError, ValueError):
        return False
    return True
