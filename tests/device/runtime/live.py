"""Shared by tests of the live daemon: small sources and sinks by hand, on a clock that the test controls."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

import numpy as np

from device.bundles.bundle import Bundle, load_bundle
from device.clock import Clock
from device.config.settings import MeasureSettings
from device.features.model_download import require_face_model
from device.records import NS_PER_S, Chunk, Event, Frame, Health, Info, Report, State
from device.runtime.daemon import Daemon
from device.runtime.inputs.source_thread import Feed
from tests.scenes import TALK_S, overconfident_bundle, talking_items
from tests.scripted.simclock import SimClock

Item = Frame | Chunk
PICTURE = np.zeros((32, 32, 3), np.uint8)


def frame(t_ns: int, seq: int = 0) -> Frame:
    return Frame(seq, t_ns, PICTURE)


def chunk(t_ns: int, seq: int = 0) -> Chunk:
    return Chunk(seq, t_ns, 16_000, np.zeros(320, np.float32))


def frames(from_ns: int, count: int, rate_hz: float = 25.0) -> list[Item]:
    return [frame(from_ns + round(k * NS_PER_S / rate_hz), k) for k in range(count)]


def talk(kind: type[Item], from_ns: int) -> Iterator[Item]:
    """What a camera or a microphone gives of somebody who never stops talking, from a time on, without end."""
    mine = [item for item in talking_items() if isinstance(item, kind)]
    length_ns = round(TALK_S * NS_PER_S)
    turn_ns = from_ns - from_ns % length_ns
    while True:
        yield from (replace(item, t_ns=turn_ns + item.t_ns) for item in mine if turn_ns + item.t_ns >= from_ns)
        turn_ns += length_ns


class Tape:
    """A live source: gives each item when its time has come, then raises `then`, or ends, or says nothing more.

    Without `then` it ends; with `silent` it waits until it is closed.
    """

    def __init__(
        self, clock: Clock, items: Iterable[Item], *, then: Exception | None = None, silent: bool = False,
        device: str | None = None,
    ) -> None:  # fmt: skip
        self._clock, self._items, self._then, self._silent = clock, items, then, silent
        self._changed = threading.Condition()
        self.device, self.closed, self.left = device, False, False
        self.dropped, self.rate_ppm, self.behind_ns = 0, None, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        self.left = True

    def close(self) -> None:
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Item]:
        for item in self._items:
            if item.t_ns < self._clock.now_ns() - NS_PER_S:  # a device keeps about a second, and loses what is older
                continue
            if self._wait((item.t_ns - self._clock.now_ns()) / NS_PER_S):
                return
            yield item
        if self._then is not None:
            raise self._then
        if self._silent:
            self._wait(None)

    def _wait(self, timeout_s: float | None) -> bool:
        with self._changed:
            return self._clock.wait_for(
                self._changed, lambda: self.closed, None if timeout_s is None else max(timeout_s, 0)
            )


class Opener:
    """Opens what the script says next: a source, or an error to raise. The last one is for all further times."""

    def __init__(self, clock: Clock, script: Iterable[Callable[[], Tape] | Exception]) -> None:
        self._clock, self._script = clock, list(script)
        self.times_ns: list[int] = []
        self.opened: list[Tape] = []

    def __call__(self) -> Tape:
        self.times_ns.append(self._clock.now_ns())
        act = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        if isinstance(act, Exception):
            raise act
        self.opened.append(act())
        return self.opened[-1]


class Collector:
    """A Sink that keeps all it is told; `slowly` is called with each report."""

    def __init__(self, slowly: Callable[[], None] = lambda: None) -> None:
        self.reports: list[Report] = []
        self.times_s: list[float | None] = []
        self.healths: list[Health] = []
        self.infos: list[Info] = []
        self.events: list[Event] = []
        self.position_s: Callable[[], float | None] = lambda: None
        self._slowly = slowly

    def report(self, report: Report) -> None:
        self.reports.append(report)
        self.times_s.append(self.position_s())
        self._slowly()

    def event(self, event: Event) -> None:
        self.events.append(event)

    def health(self, health: Health) -> None:
        self.healths.append(health)

    def info(self, info: Info) -> None:
        self.infos.append(info)

    def close(self) -> None: ...

    @property
    def states(self) -> set[State]:
        return {report.state for report in self.reports}

    @property
    def faults(self) -> list[str | None]:
        """In order, without repeats in a row."""
        found: list[str | None] = []
        for report in self.reports:
            if not found or found[-1] != report.fault:
                found.append(report.fault)
        return found


# A whole daemon on such devices


Script = Callable[[SimClock], list[Callable[[], Tape] | Exception]]


def talking(kind: type[Frame] | type[Chunk], then: Exception | None = None, for_s: float = 1e6) -> Script:
    """A device that sees or hears a talking face from when it is opened, and fails after a while."""

    def make(clock: SimClock) -> Tape:
        begun_ns = clock.now_ns()
        items: Iterable[Item] = talk(kind, begun_ns)
        if then is not None:
            end_ns = begun_ns + round(for_s * NS_PER_S)
            items = _until(items, end_ns)
        return Tape(clock, items, then=then, device=f"the {kind.__name__}")

    return lambda clock: [lambda: make(clock)]


def _until(items: Iterable[Item], end_ns: int) -> Iterator[Item]:
    for item in items:
        if item.t_ns >= end_ns:
            return
        yield item


def after(first: Script, *then: Exception | Script) -> Script:
    def script(clock: SimClock) -> list[Callable[[], Tape] | Exception]:
        return [act for part in (first, *then) for act in ([part] if isinstance(part, Exception) else part(clock))]

    return script


CAMERA, MICROPHONE = talking(Frame), talking(Chunk)
RASH = MeasureSettings(window_s=2.0, search_ms=300.0)


@dataclass
class Live:
    """A daemon that runs on scripted devices; the test holds the time."""

    clock: SimClock
    daemon: Daemon
    collector: Collector
    thread: threading.Thread
    beats: list[int]
    asleep: list[int]

    def stop(self) -> float:
        """How long it took, in s."""
        begun_ns = self.clock.now_ns()
        self.daemon.stop()
        self.thread.join(60)
        assert not self.thread.is_alive()
        return (self.clock.now_ns() - begun_ns) / NS_PER_S


@contextmanager
def live(
    camera: Script = CAMERA, microphone: Script = MICROPHONE, *, settings: MeasureSettings = RASH,
    bundle: Bundle | None = None, slowly: Callable[[SimClock], None] | None = None, **more: Any,
) -> Iterator[Live]:  # fmt: skip
    talking_items()  # rendered here, and not by two threads at once
    with SimClock() as clock, clock.taking_part():
        collector = Collector((lambda: slowly(clock)) if slowly else lambda: None)
        beats: list[int] = []
        asleep = [0]
        made = Daemon(
            bundle or load_bundle(overconfident_bundle()), require_face_model(), settings, collector, clock=clock,
            heartbeat=lambda: beats.append(clock.now_ns()), asleep_ns=lambda: asleep[0], **more,
        )  # fmt: skip
        feeds = [Feed("camera", Opener(clock, camera(clock))), Feed("microphone", Opener(clock, microphone(clock)))]
        thread = clock.start(lambda: made.run(feeds), "daemon")
        found = Live(clock, made, collector, thread, beats, asleep)
        yield found
        found.stop()
        clock.sleep(1)
