"""`avdrift pattern`: the flash-and-beep film, in which each flash and its beep begin at the same instant."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.stream import Stream

from device.calibrate.pattern import FLASH_S, beep, event_times_s
from device.config.constraints import Range
from device.errors import UsageError

RATE_HZ = 48_000
DEFAULT_FPS = 30.0
DEFAULT_SECONDS = 60.0

_SIZE = (640, 360)  # players scale it to the screen
_DARK, _BRIGHT, _BORDER = 16, 235, 100  # the grey border keeps a camera's exposure from hunting
_LEVEL = 0.5
_BLOCK = 1024
_NTSC_HZ = (24, 30, 60)  # 23.976, 29.97 and 59.94 are these times 1000/1001
_SECONDS, _FPS = Range(12, 3600), Range(20, 120)


@dataclass(frozen=True, slots=True)
class Codecs:
    """The codecs for a container."""

    picture: str
    sound: str
    sample_format: str


_H264 = "libx264"
_OPTIONS = {
    _H264: {"preset": "veryfast", "crf": "18"},
    "mjpeg": {"q": "3"},
}
CONTAINERS = {
    ".mp4": Codecs(_H264, "aac", "fltp"),
    ".m4v": Codecs(_H264, "aac", "fltp"),
    ".mov": Codecs(_H264, "pcm_s16le", "s16"),
    ".mkv": Codecs(_H264, "flac", "s16"),
    ".avi": Codecs("mjpeg", "pcm_s16le", "s16"),  # AVI has no time stamps, and H.264 in it comes out one frame late
    ".ts": Codecs(_H264, "aac", "fltp"),
}


def write_film(path: Path, seconds: float = DEFAULT_SECONDS, fps: float = DEFAULT_FPS) -> int:
    """Write the film in the container of the name's ending; return the number of flashes. Raises UsageError.

    Exact to the frame and to the sample. On an error, no partial film is left under that name.
    """
    codecs = _checked(path, seconds, fps)
    rate = _exact(fps)
    begins = [round(Fraction(t_s) * rate) for t_s in event_times_s(seconds).tolist()]
    try:
        with tempfile.TemporaryDirectory(dir=path.absolute().parent, prefix=".avdrift-pattern-") as folder:
            made = Path(folder) / path.name
            with av.open(str(made), "w") as container:
                pictures = _pictures(container, codecs, rate, begins, round(Fraction(seconds) * rate))
                sounds = _sounds(container, codecs, [begin / rate for begin in begins], seconds)
                for packet in _by_time(pictures, sounds):
                    container.mux(packet)
            os.link(made, path)  # unlike a rename, never replaces a file
    except (OSError, av.FFmpegError, ValueError) as error:
        what = f"the film cannot be written ({getattr(error, 'strerror', None) or error})"
        raise UsageError(what, where=str(path), remedy="Give a new name in a folder with room") from error
    return len(begins)


def _checked(path: Path, seconds: float, fps: float) -> Codecs:
    codecs = CONTAINERS.get(path.suffix.lower())
    where = "avdrift pattern"
    if codecs is None:
        remedy = f"Give a name that ends in one of {' '.join(CONTAINERS)}"
        raise UsageError(f"{path.suffix!r} is not a supported film format", where=where, remedy=remedy)
    if path.exists():
        raise UsageError("exists already", where=str(path), remedy="Give another name, or remove it first")
    for name, value, allowed in (("--seconds", seconds, _SECONDS), ("--fps", fps, _FPS)):
        if not allowed.allows(value):
            raise UsageError(f"{name} {value:g} is not possible", where=where, remedy=f"Give {allowed}")
    return codecs


def _exact(fps: float) -> Fraction:
    """29.97 means 30000/1001."""
    ntsc = [Fraction(whole * 1000, 1001) for whole in _NTSC_HZ]
    return next((rate for rate in ntsc if abs(float(rate) - fps) < 0.006), Fraction(fps).limit_denominator(1000))


def _pictures(
    container: av.container.OutputContainer, codecs: Codecs, rate: Fraction, begins: list[int], count: int
) -> Iterator[av.Packet[Stream]]:
    # Without B-frames and with short groups, so that every player shows each frame on time.
    stream = container.add_stream(codecs.picture, rate=rate, options=_OPTIONS[codecs.picture])
    assert isinstance(stream, av.VideoStream)
    stream.width, stream.height = _SIZE
    stream.pix_fmt = "yuvj420p" if codecs.picture == "mjpeg" else "yuv420p"
    stream.codec_context.time_base = 1 / rate
    stream.codec_context.max_b_frames = 0
    stream.codec_context.gop_size = round(rate)
    long = round(Fraction(FLASH_S) * rate)
    bright = {begin + k for begin in begins for k in range(long)}
    for k in range(count):
        frame = _picture(_BRIGHT if k in bright else _DARK)
        frame.time_base, frame.pts = 1 / rate, k
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _picture(level: int) -> av.VideoFrame:
    width, height = _SIZE
    planes = np.full((height * 3 // 2, width), 128, np.uint8)
    planes[:height] = _BORDER
    planes[height // 6 : height * 5 // 6, width // 6 : width * 5 // 6] = level
    return av.VideoFrame.from_ndarray(planes, format="yuv420p")


def _sounds(
    container: av.container.OutputContainer, codecs: Codecs, begins_s: list[Fraction], seconds: float
) -> Iterator[av.Packet[Stream]]:
    options = {"b": "256k"} if codecs.sound == "aac" else {}
    stream = container.add_stream(codecs.sound, rate=RATE_HZ, options=options)
    assert isinstance(stream, av.AudioStream)
    stream.layout = "mono"
    stream.format = codecs.sample_format
    for begin, block in _blocks(begins_s, seconds):
        frame = av.AudioFrame.from_ndarray(_as_format(block, codecs.sample_format), codecs.sample_format, "mono")
        frame.sample_rate, frame.time_base, frame.pts = RATE_HZ, Fraction(1, RATE_HZ), begin
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _blocks(begins_s: list[Fraction], seconds: float) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """The audio in blocks, each with its first sample's number, because an hour at once would fill a small computer."""
    tone = (_LEVEL * beep(RATE_HZ).real).astype(np.float32)
    begins = [round(begin_s * RATE_HZ) for begin_s in begins_s]
    for first in range(0, round(seconds * RATE_HZ), _BLOCK):
        block = np.zeros(_BLOCK, np.float32)
        for begin in begins:
            if first - len(tone) < begin < first + _BLOCK:
                source, target = max(first - begin, 0), max(begin - first, 0)
                part = tone[source : source + _BLOCK - target]
                block[target : target + len(part)] = part
        yield first, block


def _as_format(block: npt.NDArray[np.float32], sample_format: str) -> npt.NDArray[np.float32] | npt.NDArray[np.int16]:
    values = block[None, :]
    return np.round(values * 32767).astype(np.int16) if sample_format == "s16" else values


def _by_time(*tracks: Iterable[av.Packet[Stream]]) -> Iterator[av.Packet[Stream]]:
    """Interleave the packets by decoding time, so that a player need not search the whole film for the audio."""
    waiting = [(iter(track), packet) for track in tracks if (packet := next(iter(track), None)) is not None]
    while waiting:
        first = min(range(len(waiting)), key=lambda k: _time_s(waiting[k][1]))
        track, packet = waiting[first]
        yield packet
        following = next(track, None)
        waiting[first : first + 1] = [(track, following)] if following is not None else []


def _time_s(packet: av.Packet[Stream]) -> float:
    stamp = packet.dts if packet.dts is not None else packet.pts
    return float((stamp or 0) * packet.time_base)
