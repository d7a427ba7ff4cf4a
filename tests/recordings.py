"""Writes small recordings with known truth for tests: white flashes in black frames, tone bursts in silence.

`write` makes them with PyAV in any container and codec; `flash_times_s` and `click_times_s` find them again in what a
source gives. All times in seconds on the file's own clock before muxing: a container may move both tracks together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.stream import Stream

from device.records import NS_PER_S, Chunk, Frame

BURST_S = 0.008
BURST_HZ = 1500.0
BLOCK = 1024


@dataclass(frozen=True)
class Picture:
    """The video track. `times_s` (variable rate) replaces `rate_hz`; a flash is the first frame from its time on."""

    codec: str = "libx264"
    rate_hz: Fraction = Fraction(25)
    times_s: Sequence[float] | None = None
    start_s: float = 0.0
    width: int = 64
    height: int = 48
    aspect: Fraction = Fraction(1)  # of a pixel
    pix_fmt: str = "yuv420p"
    flashes_s: Sequence[float] = (0.4, 1.0, 1.8, 2.4)
    options: dict[str, str] = field(default_factory=dict)
    noise: bool = False  # pictures that do not compress, so that damage hits something


@dataclass(frozen=True)
class Sound:
    """The audio track. `gap_s` leaves out the samples between two times and keeps the time stamps true."""

    codec: str = "aac"
    rate_hz: int = 48_000
    layout: str = "stereo"
    fmt: str | None = None  # the codec's first choice
    start_s: float = 0.0
    clicks_s: Sequence[float] = (0.4, 1.0, 1.8, 2.4)
    gap_s: tuple[float, float] | None = None
    block: int = BLOCK  # samples in one frame, where the codec leaves that open
    level: float = 0.5


def write(
    path: Path,
    picture: Picture | None = Picture(),
    sound: Sound | None = Sound(),
    *,
    duration_s: float = 3.0,
    options: dict[str, str] | None = None,
    audio_first: bool = False,
) -> Path:
    """Write a recording and return its path. `audio_first` muxes all sound before all pictures."""
    with av.open(str(path), "w", options=options or {}) as container:
        sources: list[Iterator[tuple[float, av.Packet[Stream]]]] = []
        if picture is not None:
            sources.append(_encode_pictures(container, picture, duration_s))
        if sound is not None:
            sources.append(_encode_sound(container, sound, duration_s))
        packets = [list(source) for source in sources]
        ordered = (
            [p for track in reversed(packets) for p in track]
            if audio_first
            else sorted((p for track in packets for p in track), key=lambda timed: timed[0])
        )
        for _, packet in ordered:
            container.mux(packet)
    return path


def burst(rate_hz: int) -> npt.NDArray[np.float64]:
    """A Hann-windowed tone burst; its middle is its time."""
    count = round(BURST_S * rate_hz) | 1
    t_s = (np.arange(count) - count // 2) / rate_hz
    return np.asarray(np.hanning(count + 2)[1:-1] * np.cos(2 * np.pi * BURST_HZ * t_s))


def track_samples(sound: Sound, duration_s: float) -> npt.NDArray[np.float64]:
    """The mono signal of a sound track that begins at `start_s`."""
    t_s = sound.start_s + np.arange(round((duration_s - sound.start_s) * sound.rate_hz)) / sound.rate_hz
    samples = np.zeros(len(t_s))
    for click_s in sound.clicks_s:
        near = np.abs(t_s - click_s) < BURST_S / 2
        phase = t_s[near] - click_s
        samples[near] += np.cos(np.pi * phase / BURST_S) ** 2 * np.cos(2 * np.pi * BURST_HZ * phase)
    return sound.level * samples


def truncate(path: Path, share: float) -> Path:
    """Keep the first `share` of the file's bytes."""
    content = path.read_bytes()
    path.write_bytes(content[: round(len(content) * share)])
    return path


def damage(path: Path, share: float, count: int, seed: int = 0) -> Path:
    """Overwrite `count` bytes from `share` of the file on with noise."""
    content = bytearray(path.read_bytes())
    at = round(len(content) * share)
    content[at : at + count] = np.random.default_rng(seed).bytes(len(content[at : at + count]))
    path.write_bytes(bytes(content))
    return path


def flash_times_s(frames: Iterable[Frame]) -> list[float]:
    """Times of the frames that turn white."""
    found, was_white = [], False
    for frame in frames:
        white = float(frame.rgb.mean()) > 100
        if white and not was_white:
            found.append(frame.t_ns / NS_PER_S)
        was_white = white
    return found


def click_times_s(chunks: Sequence[Chunk]) -> list[float]:
    """Times of the middles of the bursts: peaks of the matched filter, between samples by a parabola."""
    rate_hz = chunks[0].rate_hz
    samples = np.concatenate([c.samples for c in chunks]).astype(float)
    starts = np.cumsum([0] + [len(c.samples) for c in chunks[:-1]])
    match = np.convolve(samples, burst(rate_hz), mode="same")
    found: list[float] = []
    guard = round(0.1 * rate_hz)
    strength = np.abs(match)
    least = 0.4 * strength.max()
    while strength.max() > least > 0:
        at = int(strength.argmax())
        left, top, right = match[max(at - 1, 0)], match[at], match[min(at + 1, len(match) - 1)]
        curve = left - 2 * top + right
        index = at + (0.5 * (left - right) / curve if curve else 0.0)
        chunk = int(np.searchsorted(starts, at, side="right")) - 1
        found.append(chunks[chunk].t_ns / NS_PER_S + (index - starts[chunk]) / rate_hz)
        strength[max(at - guard, 0) : at + guard] = 0
    return sorted(found)


def _encode_pictures(
    container: av.container.OutputContainer, picture: Picture, duration_s: float
) -> Iterator[tuple[float, av.Packet[Stream]]]:
    stream = container.add_stream(picture.codec, rate=picture.rate_hz, options=dict(picture.options))
    assert isinstance(stream, av.VideoStream)
    stream.width, stream.height, stream.pix_fmt = picture.width, picture.height, picture.pix_fmt
    if picture.aspect != 1:
        stream.codec_context.sample_aspect_ratio = picture.aspect
    fixed = picture.times_s is None
    base = 1 / picture.rate_hz if fixed else Fraction(1, 90_000)
    stream.codec_context.time_base = base
    period_s = float(1 / picture.rate_hz)
    count = int((duration_s - picture.start_s) / period_s)
    times_s = [picture.start_s + i * period_s for i in range(count)] if fixed else list(picture.times_s or [])
    rng = np.random.default_rng(1)
    for i, t_s in enumerate(times_s):
        before_s = times_s[i - 1] if i else t_s - period_s
        white = any(before_s + 1e-6 < flash_s <= t_s + 1e-6 for flash_s in picture.flashes_s)
        pixels = np.full((picture.height, picture.width, 3), (190 if picture.noise else 235) if white else 16, np.uint8)
        if picture.noise:
            pixels += rng.integers(0, 65, pixels.shape, dtype=np.uint8)
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=picture.pix_fmt)
        frame.time_base, frame.pts = base, round(Fraction(t_s) / base)
        yield from _timed(stream.encode(frame))
    yield from _timed(stream.encode(None))


def _encode_sound(
    container: av.container.OutputContainer, sound: Sound, duration_s: float
) -> Iterator[tuple[float, av.Packet[Stream]]]:
    stream = container.add_stream(sound.codec, rate=sound.rate_hz)
    assert isinstance(stream, av.AudioStream)
    stream.layout = sound.layout
    formats = stream.codec_context.codec.audio_formats
    stream.format = sound.fmt or (formats[0].name if formats else "s16")
    samples = track_samples(sound, duration_s)
    for at in range(0, len(samples), sound.block):
        begin_s, end_s = (sound.start_s + k / sound.rate_hz for k in (at, at + sound.block))
        if sound.gap_s is not None and begin_s >= sound.gap_s[0] and end_s <= sound.gap_s[1]:
            continue
        block = samples[at : at + sound.block].astype(np.float32)
        channels = av.AudioLayout(sound.layout).nb_channels
        frame = av.AudioFrame.from_ndarray(np.tile(block, (channels, 1)), format="fltp", layout=sound.layout)
        frame.sample_rate, frame.time_base = sound.rate_hz, Fraction(1, sound.rate_hz)
        frame.pts = round(sound.start_s * sound.rate_hz) + at
        yield from _timed(stream.encode(frame))
    yield from _timed(stream.encode(None))


def _timed(packets: Iterable[av.Packet[Stream]]) -> Iterator[tuple[float, av.Packet[Stream]]]:
    for packet in packets:
        stamp = packet.dts if packet.dts is not None else packet.pts
        yield float((stamp or 0) * packet.time_base), packet
