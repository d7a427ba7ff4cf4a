"""A camera and a microphone on the simulated clock that see and hear the built-in sample, and go wrong when told to.

Conventions
    The scene is the first 15.2 s of the sample, again and again, without end: its sound is early by TRUTH_MS. A device
    sees and hears what the scene shows at the true time, which is the simulated clock's, whatever its own clock says;
    so wrong time stamps show as a wrong offset, and a device with a wrong rate does not.
    A device may be opened by one at a time, as a real one. What is wrong with it is a `Trouble`, put on and taken off
    at any time by the script.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache

import cv2
import numpy as np

from device.capture.file import FileSource
from device.capture.source import Closing
from device.errors import DeviceBusyError, DeviceLostError
from device.records import NS_PER_MS, NS_PER_S, Chunk, Frame, RgbImage, Samples
from tests.scenes import ROOT
from tests.scripted.simclock import START_NS, SimClock

TRUTH_MS = 80.0
RATE_HZ = 16_000
BLOCK_SAMPLES = 320
LOST_AFTER_S = 2.0  # as real sources do
PICTURE_NS = 40 * NS_PER_MS

_SCENE_FROM_S, _SCENE_TO_S = 0.4, 15.6  # whole pictures, well inside the part with one offset
_SAME_PICTURE = 0.02
_CAMERA_DELAY_NS = 30 * NS_PER_MS
_MICROPHONE_SETTLES_S = 1.2  # until its audio clock is sure of the times
_MICROPHONE_DELAY_NS = 10 * NS_PER_MS

Item = Frame | Chunk


@dataclass(frozen=True, slots=True)
class Scene:
    """What there is to be seen and heard: times count from START_NS and wrap around."""

    pictures: tuple[RgbImage, ...]
    sound: Samples

    def picture(self, t_ns: int) -> RgbImage:
        """At a time: between two pictures both shine through, or a camera of nearly their rate would beat with them."""
        number, after_ns = divmod(t_ns - START_NS, PICTURE_NS)
        here, there = (self.pictures[n % len(self.pictures)] for n in (number, number + 1))
        share = after_ns / PICTURE_NS
        if min(share, 1 - share) < _SAME_PICTURE:
            return here if share < 0.5 else there
        return np.asarray(cv2.addWeighted(here, 1 - share, there, share, 0), np.uint8)

    def samples(self, t_ns: int, count: int, rate_hz: float = RATE_HZ) -> Samples:
        """From a time on, as a microphone of about RATE_HZ hears it."""
        first = (t_ns - START_NS) / NS_PER_S * RATE_HZ
        at = np.rint(first + np.arange(count) * (RATE_HZ / rate_hz)).astype(np.int64)
        return self.sound[at % len(self.sound)]


@cache
def scene() -> Scene:
    """Decoded once; a small picture is enough for the face detector."""
    pictures: list[RgbImage] = []
    chunks: list[Chunk] = []
    with FileSource(ROOT / "device" / "models" / "sample.mkv", max_height=240) as source:
        for item in source:
            if item.t_ns >= (_SCENE_TO_S + 1) * NS_PER_S:
                break
            if isinstance(item, Chunk):
                chunks.append(item)
            elif _SCENE_FROM_S * NS_PER_S <= item.t_ns < _SCENE_TO_S * NS_PER_S:
                pictures.append(item.rgb)
    first, end = (round((t_s - chunks[0].t_ns / NS_PER_S) * RATE_HZ) for t_s in (_SCENE_FROM_S, _SCENE_TO_S))
    return Scene(tuple(pictures), np.concatenate([chunk.samples for chunk in chunks])[first:end])


@dataclass(frozen=True, slots=True)
class Trouble:
    """What goes wrong with a device for a while: each part may raise, hang on the clock, or change what is given.

    `closing` and `opening` are called with the device, `giving` with it and each item that the device would give.
    """

    opening: Callable[[Device], None] | None = None
    giving: Callable[[Device, Item], Iterable[Item]] | None = None
    closing: Callable[[Device], None] | None = None


@dataclass(eq=False)
class Device:
    """A device that can be opened again and again. `make` gives an item by number, and when it is ready."""

    clock: SimClock
    part: str
    make: Callable[[int], tuple[int, Item]]
    number_at: Callable[[int], int]  # of the first item after a time
    settles_s: float = 0.0  # after opening, until it gives all that came since
    trouble: Trouble = field(default_factory=Trouble)
    begun_ns: int = 0  # of the trouble
    opened: int = 0
    released: threading.Event = field(default_factory=threading.Event)
    _holder: Session | None = None

    def begin(self, trouble: Trouble) -> None:
        """From now on; what hung because of another trouble goes on."""
        self.clock.release(self.released)
        self.begun_ns, self.released = self.clock.now_ns(), threading.Event()
        self.trouble = trouble

    def end(self) -> None:
        """All is well again, and what hangs goes on."""
        self.trouble = Trouble()
        self.clock.release(self.released)

    def hang(self) -> None:
        """As a driver does: until the trouble ends."""
        self.clock.hang(self.released)

    def open(self) -> Session:
        if self.trouble.opening:
            self.trouble.opening(self)
        if self._holder is not None:
            raise DeviceBusyError("is in use", where=self.part, remedy="Close what uses it")
        self.opened += 1
        self._holder = Session(self)
        return self._holder

    def stop(self) -> None:
        """The open session ends, without a word."""
        if self._holder is not None:
            self._holder.finished = True

    def let_go(self, session: Session) -> None:
        if self._holder is session:
            self._holder = None


class Session(Closing):
    """The open device: a Source that can be closed from another thread."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._changed = threading.Condition()
        self._closed = False
        self.finished = False
        self.device, self.dropped, self.rate_ppm = None, 0, None

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._device.trouble.closing:
            self._device.trouble.closing(self._device)
        self._device.let_go(self)

    def __iter__(self) -> Iterator[Item]:
        device, clock = self._device, self._device.clock
        opened_ns = queued_ns = clock.now_ns()
        number = device.number_at(opened_ns)
        held: list[Item] = []
        while True:
            ready_ns, item = device.make(number)
            number += 1
            with self._changed:
                wait_s = (ready_ns - clock.now_ns()) / NS_PER_S
                if clock.wait_for(self._changed, lambda: self._closed, wait_s) or self.finished:
                    return
            if ready_ns < clock.now_ns() - NS_PER_S:  # a device keeps about a second, and loses what is older
                number = device.number_at(clock.now_ns())
                continue
            held += device.trouble.giving(device, item) if device.trouble.giving else (item,)
            if clock.now_ns() - opened_ns >= device.settles_s * NS_PER_S:
                for given in held:
                    yield given
                    queued_ns = clock.now_ns()
                held = []
            if clock.now_ns() - queued_ns >= LOST_AFTER_S * NS_PER_S:
                raise DeviceLostError("gives nothing", where=device.part, remedy="Check its cable")


def camera(clock: SimClock, *, rate_hz: float = 25.0, ppm: float = 0.0) -> Device:
    """Pictures at the middle of their exposure, ready a little later."""
    period_ns = NS_PER_S / rate_hz * (1 + ppm / 1e6)

    def make(number: int) -> tuple[int, Item]:
        t_ns = START_NS + round(number * period_ns)
        return t_ns + _CAMERA_DELAY_NS, Frame(number, t_ns, scene().picture(t_ns))

    return Device(clock, "camera", make, lambda t_ns: int((t_ns - START_NS) / period_ns) + 1)


def microphone(clock: SimClock, *, ppm: float = 0.0) -> Device:
    """Blocks of 20 ms at the true time of their first sample; ready a little after their last one."""
    rate_hz = RATE_HZ * (1 + ppm / 1e6)
    period_ns = BLOCK_SAMPLES * NS_PER_S / rate_hz

    def make(number: int) -> tuple[int, Item]:
        t_ns = START_NS + round(number * period_ns)
        samples = scene().samples(t_ns, BLOCK_SAMPLES, rate_hz)
        return t_ns + round(period_ns) + _MICROPHONE_DELAY_NS, Chunk(number, t_ns, RATE_HZ, samples)

    return Device(
        clock, "microphone", make, lambda t_ns: int((t_ns - START_NS) / period_ns) + 1, settles_s=_MICROPHONE_SETTLES_S
    )
