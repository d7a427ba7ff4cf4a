"""Recordings made from others, packet by packet: shifted in time, joined, with more tracks or other edit lists."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer, OutputContainer
from av.stream import Stream

Prepare = Callable[[OutputContainer, list[Stream]], None]


def moved(source: Path, target: Path, by_s: float) -> Path:
    """All tracks later by the same time. A transport stream's stamps have 33 bits and begin again after them."""
    return remuxed(source, target, by_s=by_s)


def joined(target: Path, *parts: Path) -> Path:
    """One file after the other, byte by byte, as `cat` does it."""
    target.write_bytes(b"".join(part.read_bytes() for part in parts))
    return target


def remuxed(
    source: Path, target: Path, *, by_s: float = 0.0, prepare: Prepare | None = None, sound_pace: float = 1.0
) -> Path:
    """The same packets; `prepare` sets flags and metadata, or adds what goes into the header.

    `sound_pace`: seconds of the sound's stamps for each second of its samples.
    """
    with av.open(str(source)) as given, av.open(str(target), "w") as made:
        tracks: list[Stream] = [made.add_stream_from_template(stream, opaque=True) for stream in given.streams]
        if prepare is not None:
            prepare(made, tracks)
        for packet in timed(given):
            ticks, pace = round(by_s / packet.time_base), sound_pace if packet.stream.type == "audio" else 1.0
            packet.pts = None if packet.pts is None else round(packet.pts * pace) + ticks
            packet.dts = None if packet.dts is None else round(packet.dts * pace) + ticks
            packet.stream = tracks[packet.stream.index]
            made.mux(packet)
    return target


def timed(given: InputContainer) -> Iterator[av.Packet[Stream]]:
    """Matroska tells no decoding times of the first pictures."""
    seen = 0
    for packet in given.demux():
        if packet.size == 0:
            continue
        if packet.dts is None and packet.stream.type == "video":
            packet.dts = round((seen - 3) * Fraction(1, 25) / packet.time_base)
        seen += packet.stream.type == "video"
        yield packet


def edit_twice(path: Path, pieces: list[tuple[float, float]]) -> Path:
    """Give each track of an MP4 whose index comes last an edit list that shows these stretches (from, to), in order."""
    content = path.read_bytes()
    at = content.index(b"moov") - 4
    moov = _with_edits(content[at:], pieces)
    path.write_bytes(content[:at] + moov)
    return path


def _with_edits(moov: bytes, pieces: list[tuple[float, float]]) -> bytes:
    scale = struct.unpack(">I", moov[moov.index(b"mvhd") + 16 :][:4])[0]
    parts = []
    for kind, body in _boxes(moov[8:]):
        if kind == b"trak":
            track_scale = struct.unpack(">I", body[body.index(b"mdhd") + 16 :][:4])[0]
            edits = b"".join(
                struct.pack(">IiI", round((to_s - from_s) * scale), round(from_s * track_scale), 1 << 16)
                for from_s, to_s in pieces
            )
            elst = _box(b"elst", struct.pack(">II", 0, len(pieces)) + edits)
            rest = b"".join(_box(*inner) for inner in _boxes(body) if inner[0] != b"edts")
            tkhd_size = struct.unpack(">I", rest[:4])[0]
            body = rest[:tkhd_size] + _box(b"edts", elst) + rest[tkhd_size:]
        parts.append(_box(kind, body))
    return _box(b"moov", b"".join(parts))


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    while content:
        size = struct.unpack(">I", content[:4])[0]
        yield content[4:8], content[8:size]
        content = content[size:]


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body) + 8) + kind + body
