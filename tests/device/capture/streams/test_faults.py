"""Faults of a stream are named, measuring resumes by itself, and the offset stays right."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from random import Random
from statistics import median

import pytest

from device.capture.streams import inputs
from device.capture.streams.connection import Connection
from device.capture.streams.source import Stream, StreamSource
from device.errors import StreamError
from device.records import NS_PER_S, Frame
from tests.scripted.faults import Fault
from tests.scripted.streams.encoder import WRAP_S, Trouble
from tests.scripted.streams.faults import DATAGRAMS, LANES, TRACKS, Kind, make
from tests.scripted.streams.worlds import Hls, Pipe, Rtsp
from tests.streams import stream_servers as servers
from tests.streams.flashes import PICTURE, Watch, film

# `tests.scripted.streams.soak` asks for 5 s and 10 s; this may run on a machine that is busy with other tests.
BEFORE_S, NAMED_WITHIN_S, AGAIN_WITHIN_S = 4.0, 8.0, 14.0
NEAR_MS = 200.0  # where a session ends or begins, a flash may lack its click: the next one is farther away
APART_MS = 25.0  # an encoder that begins anew overlaps by its own delay, of 21 ms
DAMAGED = {*DATAGRAMS, *(fault for fault in TRACKS if fault.name == "wrong bits")}  # a flash may be lost or late
BY_NAME = {fault.name: fault for _, faults in LANES for fault in faults}
QUICK = {
    "stamps jump an hour back", "another size", "sound comes late", "a server that hangs",
    "a playlist that does not grow",
}  # fmt: skip


@dataclass
class Seen:
    """What a stream gave: words of faults with their times, and when picture and sound came."""

    words: list[tuple[float, str]] = field(default_factory=list)
    watches: list[Watch] = field(default_factory=lambda: [Watch()])
    given_s: list[float] = field(default_factory=list)

    @property
    def apart_ms(self) -> list[float]:
        """Of all flashes with a click, in whatever session."""
        return [apart_ms for watch in self.watches for apart_ms in watch.apart_ms()]


def watch(stream: Stream, seen: Seen, over: threading.Event) -> None:
    """One session after another, as the daemon does it, until it is over."""
    while not over.is_set():
        try:
            with stream.open() as source:
                for item in source:
                    seen.watches[-1].observe(item)
                    seen.given_s.append(time.monotonic())
                    if over.is_set():
                        source.close()
        except StreamError as error:
            seen.words.append((time.monotonic(), error.word))
            seen.watches.append(Watch())
            if error.word == "ended":
                return
            over.wait(0.1)


def suffer(kind: Kind, fault: Fault) -> None:
    """The fault between two times without one; then what came of it is checked."""
    with closing(kind(Random(1), film)) as world:
        seen, over = Seen(), threading.Event()
        thread = threading.Thread(target=watch, args=(Stream(world.input), seen, over), daemon=True)
        thread.start()
        world.start()
        until_given(seen)
        time.sleep(BEFORE_S)
        begun_s = time.monotonic()
        fault.begin(world)
        time.sleep(NAMED_WITHIN_S)
        ended_s = time.monotonic()
        world.calm()
        time.sleep(AGAIN_WITHIN_S)
        over.set()
        thread.join()
    words = [word for t_s, word in seen.words if begun_s < t_s < ended_s]
    assert not fault.words or any(f"stream_{word}" in fault.words for word in words), (fault.name, words)
    assert seen.given_s[-1] > ended_s + AGAIN_WITHIN_S / 2, (fault.name, seen.words)
    apart_ms = [abs(each_ms) for each_ms in seen.apart_ms if abs(each_ms) < NEAR_MS]
    assert len(apart_ms) >= 4, (fault.name, apart_ms)
    assert (median(apart_ms) if fault in DAMAGED else max(apart_ms)) < APART_MS, (fault.name, apart_ms)


def until_given(seen: Seen, within_s: float = 20.0) -> None:
    until = time.monotonic() + within_s
    while not seen.given_s:
        assert time.monotonic() < until, seen.words
        time.sleep(0.05)


def suffer_all(faults: Sequence[tuple[Kind, Fault]]) -> None:
    make(film)
    with ThreadPoolExecutor(len(faults)) as pool:  # each takes its time, and next to no work
        for found in [pool.submit(suffer, kind, fault) for kind, fault in faults]:
            found.result()


def test_jumps_changes_and_silence_are_named_and_survived() -> None:
    suffer_all([(kind, fault) for kind, faults in LANES for fault in faults if fault.name in QUICK])


@pytest.mark.slow
@pytest.mark.parametrize("kind", dict.fromkeys(kind for kind, _ in LANES), ids=lambda kind: kind.__name__)
def test_every_scripted_fault_is_named_and_survived(kind: Kind) -> None:
    if kind is Rtsp:
        servers.needs_rtsp_server()
    suffer_all([(kind, fault) for each, faults in LANES if each is kind for fault in faults if fault.name not in QUICK])


def test_a_wrap_of_the_33_bits_is_nothing() -> None:
    with closing(Pipe(Random(1), film, at_s=WRAP_S - 2)) as world:
        seen, over = Seen(), threading.Event()
        world.start()
        threading.Timer(6.0, world.end).start()
        watch(Stream(world.input), seen, over)
    assert [word for _, word in seen.words] == ["ended"]
    assert len(seen.apart_ms) >= 3 and max(map(abs, seen.apart_ms)) < APART_MS


@pytest.mark.slow
def test_a_page_whose_encoder_has_died_is_not_measured_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It still lists its last segments, and is opened again every few seconds."""
    monkeypatch.setattr(inputs, "SEGMENT_WITHIN_S", 4.0)
    with closing(Hls(Random(1), film)) as world:
        seen, over = Seen(), threading.Event()
        thread = threading.Thread(target=watch, args=(Stream(world.input), seen, over), daemon=True)
        thread.start()
        world.start()
        until_given(seen)
        time.sleep(2)
        world.begin(Trouble(silent=True))
        time.sleep(5)
        given, words = len(seen.given_s), len(seen.words)
        time.sleep(10)
        assert len(seen.given_s) == given
        assert {word for _, word in seen.words[words:]} == {"stalled"}
        world.calm()
        time.sleep(AGAIN_WITHIN_S)
        assert len(seen.given_s) > given
        over.set()
        thread.join()


def test_pixels_of_another_shape_are_seen_as_such() -> None:
    """A face that is seen too narrow is measured worse, and nobody would know why."""
    with closing(Pipe(Random(1), film)) as world:
        world.start()
        stream, shape = Stream(world.input), None
        threading.Timer(2.5, BY_NAME["another shape of pixels"].begin, (world,)).start()
        with pytest.raises(StreamError, match="changed"), stream.open() as source:
            for frame in frames(source):
                shape = frame.rgb.shape
        assert shape == (PICTURE.height, PICTURE.width, 3)
        with stream.open() as source:
            shape = next(frames(source)).rgb.shape
            source.close()
            assert shape == (PICTURE.height, pytest.approx(PICTURE.width * 4 / 3, abs=2), 3)


def test_what_is_delivered_late_says_by_how_much() -> None:
    """So that catching up is not taken for a leap of the stamps."""
    with closing(Pipe(Random(1), film)) as world:
        world.start()
        lags_s: list[float] = []
        with Stream(world.input).open() as source:
            for number, frame in enumerate(frames(source)):
                lags_s.append((time.monotonic_ns() - source.behind_ns - frame.t_ns) / NS_PER_S)
                if number == 10:
                    time.sleep(0.8)
                if number == 50:
                    source.close()
        assert max(lags_s) - min(lags_s) < 0.2


def frames(source: StreamSource) -> Iterator[Frame]:
    return (item for item in source if isinstance(item, Frame))


def test_a_connection_that_has_ended_is_gone_at_once() -> None:
    """Not when the collector of cycles comes by: its decoders have threads and megabytes."""
    gc.disable()
    try:
        with closing(Pipe(Random(1), film)) as world:
            world.start()
            threading.Timer(2.0, world.end).start()
            connection = Connection(world.input)
            kept = weakref.ref(connection)
            with pytest.raises(StreamError, match="ended"), StreamSource(connection) as source:
                for _ in source:
                    continue
            del connection, source
            assert kept() is None
    finally:
        gc.enable()
