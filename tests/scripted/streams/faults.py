"""The scripted faults of streams: what goes wrong, by which words it must be named, whether numbers may go on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from fractions import Fraction
from random import Random

from tests.scripted.faults import Fault
from tests.scripted.streams.encoder import WRAP_S, Film, Films, Trouble
from tests.scripted.streams.worlds import UNCODED, Hls, Http, Pipe, Rtsp, StreamWorld, Udp

HOUR_S = 3600.0
_FAST_SAMPLES = 126 / 125  # for each that the stamps leave room for; a loop has a whole number of blocks of them
_BEFORE_WRAP_S = 4.0
BIGGER: Film = {"scale": 2}
SQUEEZED: Film = {"aspect": Fraction(4, 3)}
RESAMPLED: Film = {"rate_hz": 32_000}
RECODED: Film = {"codec": "mpeg2video"}
FAST: Film = {"fast_samples": _FAST_SAMPLES}
Damage = Callable[[bytes], Iterable[bytes]]
Kind = Callable[[Random, Films], StreamWorld]


def make(films: Films) -> None:
    """All films, before an encoder needs one at once."""
    for different in ({}, UNCODED, BIGGER, SQUEEZED, RESAMPLED, RECODED, FAST):
        films(**different)


def moved(by_s: float) -> Callable[[float], float]:
    return lambda stamp_s: stamp_s + by_s


def from_(first_s: float) -> Callable[[float], float]:
    """Stamps that begin again, here."""
    begun_s: float | None = None

    def stamp(clock_s: float) -> float:
        nonlocal begun_s
        begun_s = clock_s if begun_s is None else begun_s
        return clock_s - begun_s + first_s

    return stamp


def noise(datagram: bytes) -> Iterable[bytes]:
    return (os.urandom(len(datagram)),)


def losing(rng: Random, share: float) -> Damage:
    return lambda datagram: () if rng.random() < share else (datagram,)


def repeating(rng: Random, share: float) -> Damage:
    return lambda datagram: (datagram, datagram) if rng.random() < share else (datagram,)


def swapping(rng: Random, share: float) -> Damage:
    held: list[bytes] = []

    def swap(datagram: bytes) -> Iterable[bytes]:
        if not held and rng.random() < share:
            held.append(datagram)
            return ()
        return (datagram, *(held.pop() for _ in list(held)))

    return swap


def flipping(rng: Random, each_bytes: int) -> Damage:
    """A wrong bit for so many bytes."""

    def flip(datagram: bytes) -> Iterable[bytes]:
        content = bytearray(datagram)
        if rng.random() < len(content) / each_bytes:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        return (bytes(content),)

    return flip


def a_byte_a_second() -> Damage:
    next_s = 0.0

    def drip(datagram: bytes) -> Iterable[bytes]:
        nonlocal next_s
        if time.monotonic() < next_s:
            return ()
        next_s = time.monotonic() + 1
        return (datagram[:1],)

    return drip


def _fault(name: str, make: Callable[[Random], Trouble], *words: str, numbers: bool = False) -> Fault:
    named = frozenset(f"stream_{word}" for word in words)
    return Fault(name, lambda world: world.begin(make(world.rng)), named, numbers)


def _always(trouble: Trouble) -> Callable[[Random], Trouble]:
    return lambda rng: trouble


# What the encoder does. Numbers may go on, as picture and sound keep their offset.
STAMPS = (
    _fault("stamps jump an hour ahead", _always(Trouble(stamps=moved(HOUR_S))), "jumped", numbers=True),
    _fault("stamps jump an hour back", _always(Trouble(stamps=moved(-HOUR_S))), "jumped", numbers=True),
    _fault("stamps jump 2 s back", _always(Trouble(stamps=moved(-2))), "jumped", numbers=True),
    _fault("stamps begin again", lambda rng: Trouble(stamps=from_(1.0)), "jumped", numbers=True),
    _fault("stamps wrap", lambda rng: Trouble(stamps=from_(WRAP_S - _BEFORE_WRAP_S)), "jumped", numbers=True),
    _fault(
        "samples at another rate than the stamps",
        _always(Trouble(FAST, sound_pace=1 / _FAST_SAMPLES)),
        numbers=True,
    ),
)
FORMS = (
    _fault("another size", _always(Trouble(BIGGER)), "changed", numbers=True),
    _fault("another shape of pixels", _always(Trouble(SQUEEZED)), "changed", numbers=True),
    _fault("another sampling rate", _always(Trouble(RESAMPLED)), "changed", numbers=True),
    _fault("another codec", _always(Trouble(RECODED)), "incomplete", numbers=True),
    _fault("slower than real time", _always(Trouble(pace=2.0)), "slow", numbers=True),
)
TRACKS = (
    _fault("picture stops", _always(Trouble(without="video")), "incomplete"),
    _fault("sound stops", _always(Trouble(without="audio")), "incomplete"),
    _fault("sound comes late", _always(Trouble(unannounced="audio")), "incomplete"),
    _fault("picture and sound stop", _always(Trouble(silent=True)), "stalled"),
    _fault("noise", _always(Trouble(damage=noise)), "incomplete", "stalled", "refused"),
    _fault("wrong bits", lambda rng: Trouble(damage=flipping(rng, 20_000)), numbers=True),
)
DATAGRAMS = (
    _fault("packets are lost", lambda rng: Trouble(damage=losing(rng, 0.02)), numbers=True),
    _fault("packets change places", lambda rng: Trouble(damage=swapping(rng, 0.02)), numbers=True),
    _fault("packets come twice", lambda rng: Trouble(damage=repeating(rng, 0.1)), numbers=True),
    _fault("nothing comes", _always(Trouble(silent=True)), "stalled"),
)
REQUESTS = (
    _fault("a byte a second", lambda rng: Trouble(damage=a_byte_a_second()), "stalled"),
    _fault("a server that hangs", _always(Trouble(silent=True)), "stalled"),
    _fault("a page that is gone", _always(Trouble(status=404)), "lost", "missing"),
    _fault("another password", _always(Trouble(status=401)), "permission"),
)
SEGMENTS = (
    _fault("a playlist that does not grow", _always(Trouble(silent=True)), "stalled"),
    _fault("segments that are gone", _always(Trouble(status=404)), "stalled", "lost", "missing"),
    _fault("an ad break", lambda rng: Trouble(BIGGER, stamps=from_(1.0)), "jumped", "changed", numbers=True),
)
CAMERA = (
    _fault("RTSP server killed", _always(Trouble(down=True)), "lost", "missing"),
    _fault("RTSP server hangs", _always(Trouble(silent=True)), "stalled"),
    _fault("RTSP server without sender reports", _always(Trouble(reports=False)), "lost", "missing", "unsynced"),
    _fault("RTSP server with another password", _always(Trouble(status=401)), "permission"),
)

# Each of these suffers its faults one after another.
LANES: tuple[tuple[Kind, tuple[Fault, ...]], ...] = (
    (Pipe, STAMPS), (Pipe, FORMS), (Pipe, TRACKS), (Udp, DATAGRAMS), (Http, REQUESTS), (Hls, SEGMENTS), (Rtsp, CAMERA),
)  # fmt: skip
FAULTS = tuple(fault for _, faults in LANES for fault in faults)
