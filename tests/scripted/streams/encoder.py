"""An encoder that sends one film again and again in real time, stamped by its own clock, and errs when told to.

Conventions
    Times are seconds. The film is a loop of LOOP_S, which is a whole number of groups of pictures and of blocks of AAC,
    so that neither track has a gap where it begins again. It has no B-frames: each packet is shown when it is decoded.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer, OutputContainer

START_S = 7200.0  # an encoder that has run for a while can jump back
LOOP_S = 8.0
WRAP_S = 2**33 / 90_000
DATAGRAM_BYTES, _PACKET_BYTES = 1316, 188  # as MPEG-TS is sent over UDP: seven packets
_MUXING = {"mpegts_copyts": "1", "max_interleave_delta": "100000"}  # in us: one track must not wait for the other

Film = Mapping[str, Any]  # what is different from the one that is sent when all is well
Films = Callable[..., Path]


def _as_it_is(stamp_s: float) -> float:
    return stamp_s


def _whole(datagram: bytes) -> Iterable[bytes]:
    return (datagram,)


@dataclass(frozen=True)
class Trouble:
    """What goes wrong for a while; nothing, as it is made."""

    film: Film = field(default_factory=dict)
    stamps: Callable[[float], float] = _as_it_is  # the stamps that the encoder writes, by its clock
    sound_pace: float = 1.0  # of the stamps of the sound against those in the film
    without: str = ""  # a track that does not come, `video` or `audio`
    unannounced: str = ""  # a track of which the receiver is not even told
    silent: bool = False
    pace: float = 1.0  # true seconds for each second of the film
    damage: Callable[[bytes], Iterable[bytes]] = _whole  # what becomes of a datagram
    # Of servers
    down: bool = False
    status: int = 200  # of HTTP; 401: another password, with RTSP too
    reports: bool = True  # RTCP sender reports

    def needs_another_multiplexer(self, before: Trouble) -> bool:
        """Whether an encoder would have to begin anew for this. A segment of HLS must not last over a silence."""
        names = ("film", "stamps", "sound_pace", "unannounced", "silent")
        return any(getattr(self, name) != getattr(before, name) for name in names)


WELL = Trouble()


class Encoder:
    """Encodes from `start` to `close`; `trouble` may be set at any time.

    begin: opens what it writes to, again and again. at_s: what its clock shows when it begins.
    """

    def __init__(
        self, films: Films, begin: Callable[[], AbstractContextManager[OutputContainer]], *, at_s: float = START_S
    ) -> None:
        self.trouble = WELL
        self._films, self._begin = films, begin
        self._clock_s, self._due_s = at_s, 0.0
        self._closing = threading.Event()
        films()  # made before it is late
        self._thread = threading.Thread(target=self._encode, name="encoder", daemon=True)

    def start(self) -> None:
        self._due_s = time.monotonic()
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _encode(self) -> None:
        while not self._closing.is_set():
            self._encode_with(self.trouble)

    def _encode_with(self, first: Trouble) -> None:
        """With one multiplexer, for as long as it fits."""
        begun_s = self._clock_s
        with av.open(str(self._films(**first.film))) as film, self._begin() as out:
            streams = {
                stream.index: out.add_stream_from_template(stream)
                for stream in film.streams
                if stream.type != first.unannounced
            }
            for packet, in_film_s in looped(film, first.sound_pace):
                clock_s = begun_s + in_film_s
                self._wait_until(clock_s)
                trouble = self.trouble
                if self._closing.is_set() or trouble.needs_another_multiplexer(first):
                    return
                if trouble.silent or packet.stream.type == trouble.without or packet.stream.index not in streams:
                    continue
                _stamp(packet, trouble.stamps(clock_s))
                packet.stream = streams[packet.stream.index]
                out.mux(packet)

    def _wait_until(self, clock_s: float) -> None:
        """Until its clock shows this, which goes wrong with its pace."""
        passed_s = max(clock_s - self._clock_s, 0.0)
        self._clock_s += passed_s
        self._due_s += passed_s * self.trouble.pace
        self._closing.wait(max(self._due_s - time.monotonic(), 0.0))


def looped(film: InputContainer, sound_pace: float = 1.0) -> Iterator[tuple[av.Packet[Any], float]]:
    """Its packets with their times, from its beginning again and again without end."""
    picture = film.streams.video[0]
    origin_s = float((picture.start_time or 0) * (picture.time_base or 0))
    begun_s = 0.0
    while True:
        film.seek(0)
        for packet in film.demux():
            if packet.pts is None:
                continue
            pace = sound_pace if packet.stream.type == "audio" else 1.0
            in_loop_s = (float(packet.pts * packet.time_base) - origin_s) * pace
            if 0 <= in_loop_s < LOOP_S:
                yield packet, begun_s + in_loop_s
        begun_s += LOOP_S


def endless(path: Path, film: Path, loops: int) -> Path:
    """A recording of so many loops, for servers that play recordings."""
    with av.open(str(film)) as source, av.open(str(path), "w") as out:
        streams = {stream.index: out.add_stream_from_template(stream) for stream in source.streams}
        for packet, in_film_s in looped(source):
            if in_film_s > loops * LOOP_S:
                break
            _stamp(packet, in_film_s)
            packet.stream = streams[packet.stream.index]
            out.mux(packet)
    return path


def _stamp(packet: av.Packet[Any], stamp_s: float) -> None:
    packet.pts = packet.dts = round(stamp_s / packet.time_base)


class Datagrams:
    """A file of MPEG-TS for PyAV to write, which goes away as datagrams, damaged or not."""

    def __init__(self, send: Callable[[bytes], object], trouble: Callable[[], Trouble]) -> None:
        self._send, self._trouble, self._rest = send, trouble, b""

    def write(self, content: bytes) -> int:
        self._rest += content
        end = len(self._rest) // _PACKET_BYTES * _PACKET_BYTES
        for at in range(0, end, DATAGRAM_BYTES):
            for datagram in self._trouble().damage(self._rest[at : min(at + DATAGRAM_BYTES, end)]):
                self._send(datagram)
        self._rest = self._rest[end:]
        return len(content)


def transport_stream(
    send: Callable[[bytes], object], trouble: Callable[[], Trouble]
) -> AbstractContextManager[OutputContainer]:
    """MPEG-TS through `send`."""
    return av.open(Datagrams(send, trouble), "w", format="mpegts", options=_MUXING)
