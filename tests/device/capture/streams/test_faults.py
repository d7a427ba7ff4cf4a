"""What goes wrong with a stream is named, measuring goes on by itself, and picture and sound keep their distance."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from device.capture.streams.connection import Connection
from device.capture.streams.inputs import FromPipe
from device.capture.streams.source import StreamSource
from device.errors import StreamError
from tests.streams.flashes import film
from tests.streams.stream_faults import BEFORE_S, FAULTS, Encoder, Seen, another_size, apart_ms, jump_back, seen, wrap

NAMED_WITHIN_S, AGAIN_WITHIN_S = 5.0, 10.0
SLOW_AFTER_S = 12.0  # packets that come late once may still catch up
APART_MS = 25.0  # an encoder that begins anew overlaps by its own delay, of 21 ms
QUICK = (jump_back, wrap, another_size)
Script = Callable[[Encoder], None]


def check(scripts: Iterable[Script]) -> None:
    for settings in ({}, {"width": 128}, {"rate_hz": 32_000}, {"codec": "mpeg2video"}):
        film(**settings)
    with ThreadPoolExecutor(len(FAULTS)) as pool:  # each takes its time, and next to no work
        for script, result in {script: pool.submit(seen, script) for script in scripts}.items():
            check_one(script, result.result())


def check_one(script: Script, result: Seen) -> None:
    name, words = script.__name__, [word for _, word in result.words]
    assert words[-1] == "ended", name
    faults = [(t_s, word) for t_s, word in result.words[:-1]]
    if FAULTS[script]:
        within_s = SLOW_AFTER_S if FAULTS[script] == {"slow"} else NAMED_WITHIN_S
        assert any(word in FAULTS[script] and t_s < 1.5 + BEFORE_S + within_s for t_s, word in faults), (name, words)
    else:
        assert not faults, (name, words)
    assert max(after - before for before, after in pairwise(result.given_s)) < AGAIN_WITHIN_S, name
    apart = list(apart_ms(result))
    assert len(apart) >= 4 and max(map(abs, apart)) < APART_MS, (name, apart)


def test_jumps_wraps_and_changes_are_named_and_survived() -> None:
    check(QUICK)


@pytest.mark.slow
def test_every_scripted_fault_is_named_and_survived() -> None:
    check(script for script in FAULTS if script not in QUICK)


def test_a_connection_that_has_ended_is_gone_at_once() -> None:
    """Not when the collector of cycles comes by: its decoders have threads and megabytes."""
    film()
    reading, writing = os.pipe()
    thread = threading.Thread(target=_play_once, args=(writing,), daemon=True)
    gc.disable()
    try:
        thread.start()
        connection = Connection(FromPipe(reading))
        kept = weakref.ref(connection)
        with pytest.raises(StreamError, match="ended"), StreamSource(connection) as source:
            for _ in source:
                continue
        del connection, source
        assert kept() is None
    finally:
        gc.enable()
        thread.join()
        os.close(reading)


def _play_once(descriptor: int) -> None:
    encoder = Encoder(descriptor)
    encoder.play(2.0, film=film())
    encoder.close()
