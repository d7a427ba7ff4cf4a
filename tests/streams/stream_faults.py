"""Scripted faults of a stream: an encoder that writes MPEG-TS into a pipe at its own pace, and does one thing wrong."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av

from device.capture.streams.inputs import FromPipe
from device.capture.streams.source import Stream
from device.errors import StreamError
from tests.streams.flashes import Watch, film

BEFORE_S, AFTER_S = 3.0, 4.0
MUXING = {"mpegts_copyts": "1", "max_interleave_delta": "100000"}  # in us: one track must not wait for the other
WRAP_S = 2**33 / 90_000
Play = Callable[..., None]


class Encoder:
    """Writes films into a pipe, each from its beginning on, stamped as if it had run for `at_s` before."""

    def __init__(self, descriptor: int) -> None:
        self._out = os.fdopen(descriptor, "wb", buffering=0)
        self._began = time.monotonic()
        self._played_s = 0.0

    def play(
        self,
        seconds: float,
        *,
        at_s: float = 10.0,
        film: Path,
        rate: float = 1.0,
        without: str = "",
        container: str = "mpegts",
        damage: Callable[[bytes], bytes] = bytes,
    ) -> None:
        """rate: of its stamps against the clock. without: `video` or `audio`, which is left out from then on."""
        writer = _Writer(self._out, damage)
        with av.open(str(film)) as source, av.open(writer, "w", format=container, options=MUXING) as out:
            streams: dict[int, Any] = {s.index: out.add_stream_from_template(s) for s in source.streams}
            for packet in source.demux():
                stamp_s = float((packet.dts or 0) * packet.time_base)
                if packet.dts is None or stamp_s > seconds:
                    continue
                if packet.stream.type == without:
                    continue
                time.sleep(max(self._began + self._played_s + stamp_s * rate - time.monotonic(), 0))
                shift = round(at_s / packet.time_base)
                packet.pts, packet.dts = (packet.pts or 0) + shift, packet.dts + shift
                packet.stream = streams[packet.stream.index]
                out.mux(packet)
        self._played_s += seconds * rate

    def write(self, content: bytes) -> None:
        self._out.write(content)

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)
        self._played_s += seconds

    def close(self) -> None:
        self._out.close()


class _Writer:
    def __init__(self, out: Any, damage: Callable[[bytes], bytes]) -> None:
        self._out, self._damage = out, damage

    def write(self, content: bytes) -> int:
        self._out.write(self._damage(bytes(content)))
        return len(content)


def jump_ahead(encoder: Encoder) -> None:
    encoder.play(BEFORE_S, film=film())
    encoder.play(AFTER_S, film=film(), at_s=3600)


def jump_back(encoder: Encoder) -> None:
    encoder.play(BEFORE_S, film=film(), at_s=3600)
    encoder.play(AFTER_S, film=film())


def small_jump_back(encoder: Encoder) -> None:
    encoder.play(BEFORE_S, film=film())
    encoder.play(AFTER_S, film=film(), at_s=10 + BEFORE_S - 2)


def wrap(encoder: Encoder) -> None:
    encoder.play(BEFORE_S + AFTER_S, film=film(), at_s=WRAP_S - BEFORE_S)


def another_size(encoder: Encoder) -> None:
    encoder.play(BEFORE_S, film=film())
    encoder.play(AFTER_S, film=film(width=128), at_s=10 + BEFORE_S)


def another_rate(encoder: Encoder) -> None:
    encoder.play(BEFORE_S, film=film())
    encoder.play(AFTER_S, film=film(rate_hz=32_000), at_s=10 + BEFORE_S)


def another_codec(encoder: Encoder) -> None:
    encoder.play(BEFORE_S, film=film())
    encoder.play(AFTER_S + 4, film=film(codec="mpeg2video"), at_s=10 + BEFORE_S)


def no_picture(encoder: Encoder) -> None:
    encoder.play(BEFORE_S, film=film())
    encoder.play(5.0, film=film(), at_s=10 + BEFORE_S, without="video")
    encoder.play(AFTER_S + 2, film=film(), at_s=10 + BEFORE_S + 5)


def no_sound(encoder: Encoder) -> None:
    encoder.play(BEFORE_S, film=film())
    encoder.play(5.0, film=film(), at_s=10 + BEFORE_S, without="audio")
    encoder.play(AFTER_S + 2, film=film(), at_s=10 + BEFORE_S + 5)


def silence(encoder: Encoder) -> None:
    encoder.play(BEFORE_S, film=film())
    encoder.pause(4.5)
    encoder.play(AFTER_S, film=film(), at_s=10 + BEFORE_S + 4.5)


def garbage(encoder: Encoder) -> None:
    encoder.play(BEFORE_S, film=film())
    for _ in range(40):
        encoder.write(os.urandom(18_800))
        encoder.pause(0.1)
    encoder.play(AFTER_S + 2, film=film(), at_s=10 + BEFORE_S + 4)


def slow(encoder: Encoder) -> None:
    encoder.play(6.0, film=film(), rate=2.0)
    encoder.play(AFTER_S + 2, film=film(), at_s=16)


# Each with the words of which one must be told; a wrap of the 33-bit stamps goes on as if nothing had happened.
FAULTS: dict[Callable[[Encoder], None], set[str]] = {
    jump_ahead: {"jumped"},
    jump_back: {"jumped"},
    small_jump_back: {"jumped"},
    wrap: set(),
    another_size: {"changed"},
    another_rate: {"changed"},
    another_codec: {"incomplete"},
    no_picture: {"incomplete"},
    no_sound: {"incomplete"},
    silence: {"stalled"},
    garbage: {"incomplete", "stalled"},
    slow: {"slow"},
}


class Seen:
    """What a stream gave: words of faults with their times, and when picture and sound came."""

    def __init__(self) -> None:
        self.words: list[tuple[float, str]] = []
        self.watches = [Watch()]
        self.given_s: list[float] = []


def seen(script: Callable[[Encoder], None]) -> Seen:
    """Run it to the end of its encoder; a session that ends is followed by the next one, as the daemon does it."""
    reading, writing = os.pipe()
    thread = threading.Thread(target=_write, args=(script, writing), daemon=True)
    stream, result, began = Stream(FromPipe(reading)), Seen(), time.monotonic()
    thread.start()
    while thread.is_alive() or not result.words or result.words[-1][1] != "ended":
        try:
            with stream.open() as source:
                for item in source:
                    result.watches[-1].observe(item)
                    result.given_s.append(time.monotonic() - began)
        except StreamError as error:
            result.words.append((time.monotonic() - began, error.word))
            result.watches.append(Watch())
            time.sleep(0.1)
        if time.monotonic() - began > 60:
            break
    os.close(reading)
    return result


def _write(script: Callable[[Encoder], None], descriptor: int) -> None:
    encoder = Encoder(descriptor)
    try:
        script(encoder)
    finally:
        encoder.close()


def apart_ms(result: Seen) -> Iterator[float]:
    """Of all flashes with a click, in whatever session."""
    for watch in result.watches:
        yield from watch.apart_ms()
