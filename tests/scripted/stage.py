"""The whole daemon between scripted devices on simulated time, and the effect of a fault."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from random import Random
from typing import Any, Generic, Protocol, TypeVar

from device.analysis.analyzer import Analyzer
from device.bundles.bundle import DEFAULT_BUNDLE, Bundle, load_bundle
from device.clock import Clock, SystemClock
from device.config.settings import MeasureSettings
from device.features.model_download import require_face_model
from device.records import NS_PER_S, Event, Frame, Health, Info, Report, State
from device.runtime.daemon import Daemon
from device.runtime.inputs.source_thread import Feed
from device.sync.evidence_stream import LipEvidence
from tests.scripted.faults import Fault, World
from tests.scripted.simclock import SimClock
from tests.scripted.sources import TRUTH_MS, Item

NAMED_WITHIN_S, RECOVERED_WITHIN_S, STOPPED_WITHIN_S = 5.0, 10.0, 2.0
RIGHT_WITHIN_MS = 40.0
_STARTED_WITHIN_S = 20.0


class ScriptClock(Clock, Protocol):
    """A clock on which a script can sleep."""

    def sleep(self, duration_s: float) -> None: ...


class RealClock(SystemClock):
    """The computer's clock, for what no simulated time can drive: networks, pipes, other programs."""

    def sleep(self, duration_s: float) -> None:
        time.sleep(duration_s)


class Scripted(Protocol):
    """A world in which faults begin, and end all at once."""

    rng: Random

    @property
    def clock(self) -> ScriptClock: ...

    def calm(self) -> None:
        """Nothing is wrong any more."""
        ...


W = TypeVar("W", bound=Scripted)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one fault; times in seconds of its clock, None where it did not happen in time."""

    name: str
    word: str | None
    named_s: float | None
    recovered_s: float | None
    numbers_meanwhile: int  # from the naming on, until it ended
    wrong_numbers: int  # at any time
    latest_wrong_ms: float | None
    false_steps: int  # that reports tell of, although the offset never changes

    def problems(self, fault: Fault) -> list[str]:
        """What must not be, in words."""
        found = []
        if fault.words and self.named_s is None:
            found.append(f"not named within {NAMED_WITHIN_S:g} s")
        if self.numbers_meanwhile and not fault.numbers:
            found.append(f"{self.numbers_meanwhile} numbers while it lasted")
        if self.wrong_numbers:
            found.append(f"{self.wrong_numbers} wrong numbers, the last {self.latest_wrong_ms} ms")
        if self.false_steps:
            found.append(f"{self.false_steps} steps that were none")
        if self.recovered_s is None:
            found.append(f"not measuring within {RECOVERED_WITHIN_S:g} s")
        return found

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Collector:
    """A Sink that keeps the reports and when they came."""

    def __init__(self, clock: Clock) -> None:
        self.changed = threading.Condition()
        self.reports: list[tuple[int, Report]] = []
        self._clock = clock

    def report(self, report: Report) -> None:
        with self.changed:
            self.reports.append((self._clock.now_ns(), report))
            self.changed.notify_all()

    def event(self, event: Event) -> None: ...

    def health(self, health: Health) -> None: ...

    def info(self, info: Info) -> None: ...

    def close(self) -> None: ...


@cache
def _bundle() -> Bundle:
    return load_bundle(DEFAULT_BUNDLE)


class Stage(Generic[W]):
    """A running daemon. The thread that made it plays the script and takes part in the clock."""

    def __init__(
        self, world: W, feeds: Sequence[Feed], settings: MeasureSettings | None = None,
        asleep_ns: Callable[[], int] = lambda: 0, bundle: Bundle | None = None,
    ) -> None:  # fmt: skip
        """bundle: for stages that run side by side, each its own: an interpreter serves one thread."""
        self.world, self.clock = world, world.clock
        self.sink = Collector(world.clock)
        self.beats_ns: list[int] = []
        self.daemon = Daemon(
            bundle or _bundle(), require_face_model(), settings or MeasureSettings(), self.sink, clock=self.clock,
            heartbeat=lambda: self.beats_ns.append(self.clock.now_ns()), asleep_ns=asleep_ns,
        )  # fmt: skip
        self._thread = self.clock.start(lambda: self.daemon.run(feeds), "daemon")

    def wait_for(
        self, wanted: Callable[[Report], bool], since_ns: int, timeout_s: float
    ) -> tuple[float, Report] | None:
        """The first such report since a time, and how many seconds after that it came."""
        seen = 0

        def found() -> bool:
            nonlocal seen
            while seen < len(self.sink.reports):
                t_ns, report = self.sink.reports[seen]
                if t_ns >= since_ns and wanted(report):
                    return True
                seen += 1
            return False

        left_s = timeout_s - (self.clock.now_ns() - since_ns) / NS_PER_S
        with self.sink.changed:
            if not self.clock.wait_for(self.sink.changed, found, left_s):
                return None
        t_ns, report = self.sink.reports[seen]
        return (t_ns - since_ns) / NS_PER_S, report

    def wait_measuring(self, timeout_s: float = _STARTED_WITHIN_S) -> float | None:
        """Seconds until the next number."""
        found = self.wait_for(lambda report: report.offset_ms is not None, self.clock.now_ns(), timeout_s)
        return found[0] if found else None

    def suffer(self, fault: Fault, *, rest_s: float = 0.0, end_s: float = 0.0) -> Outcome:
        """Go through one fault, from measuring to measuring.

        rest_s: how long to measure before. end_s: how long its end may still show, as other faults.
        """
        rng, clock = self.world.rng, self.clock
        self.sink.reports.clear()
        self.wait_measuring()
        clock.sleep(rest_s + rng.uniform(0, 1))
        fault.begin(self.world)
        begun_ns = clock.now_ns()  # a server has to be started again for some
        named = self.wait_for(lambda r: r.fault in fault.words, begun_ns, NAMED_WITHIN_S) if fault.words else None
        named_at = len(self.sink.reports)
        clock.sleep(max(rng.uniform(5.5, 8) - (clock.now_ns() - begun_ns) / NS_PER_S, 0.5))
        self.world.calm()
        ended_ns = clock.now_ns()
        recovered_s = self._recovered_s(ended_ns, end_s)
        after_naming = self.sink.reports[named_at:]
        numbers_ms = [report.offset_ms for _, report in self.sink.reports if report.offset_ms is not None]
        wrong_ms = [number_ms for number_ms in numbers_ms if abs(number_ms - TRUTH_MS) > RIGHT_WITHIN_MS]
        return Outcome(
            name=fault.name, word=named[1].fault if named else None,
            named_s=round(named[0], 2) if named else None,
            recovered_s=None if recovered_s is None else round(recovered_s, 2),
            numbers_meanwhile=sum(t_ns < ended_ns and report.offset_ms is not None for t_ns, report in after_naming),
            wrong_numbers=len(wrong_ms), latest_wrong_ms=wrong_ms[-1] if wrong_ms else None,
            false_steps=sum(report.step_ms is not None for _, report in self.sink.reports),
        )  # fmt: skip

    def _recovered_s(self, ended_ns: int, end_s: float) -> float | None:
        """Seconds from the end of a fault until the first number that none comes after."""
        self.clock.sleep(end_s)
        self.wait_measuring(RECOVERED_WITHIN_S - end_s)
        after = [(t_ns, report) for t_ns, report in self.sink.reports if t_ns >= ended_ns]
        broken_ns = max(
            (t_ns for t_ns, report in after if report.state in (State.STALLED, State.STARTING)), default=ended_ns
        )
        found = [(t_ns - ended_ns) / NS_PER_S for t_ns, r in after if t_ns >= broken_ns and r.offset_ms is not None]
        return found[0] if found and found[0] <= RECOVERED_WITHIN_S else None

    def stop(self) -> float:
        """Stop the daemon; how many seconds that took."""
        begun_ns = self.clock.now_ns()
        self.daemon.stop()
        self._thread.join(60)
        took_s = (self.clock.now_ns() - begun_ns) / NS_PER_S
        self.world.calm()
        return took_s


@contextmanager
def stage(
    seed: int, settings: MeasureSettings | None = None, prepare: Callable[[World], None] = lambda world: None
) -> Iterator[Stage[World]]:
    """A daemon that runs, on a clock of its own; stopped at the end, if it was not, with all its threads.

    `prepare` may change the world before the daemon opens anything in it.
    """
    with SimClock() as clock, clock.taking_part():
        world = World(clock, Random(seed))
        prepare(world)
        try:
            with _changed(time, "time_ns", world.time_ns), _changed(Analyzer, "push", _slowed(Analyzer.push, world)):
                feeds = [Feed("camera", world.camera.open), Feed("microphone", world.microphone.open)]
                running = Stage(world, feeds, settings, lambda: world.asleep_ns)
                yield running
                running.stop()
                clock.sleep(1)  # what hung finds its way out
        finally:
            world.calm()


@contextmanager
def _changed(owner: object, name: str, value: object) -> Iterator[None]:
    """Something replaced for a while that the daemon reaches by its name only."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


Push = Callable[[Analyzer, Item], Iterator[LipEvidence]]


def _slowed(push: Push, world: World) -> Push:
    """The analysis on a processor that may be busy with something else."""

    def slow_push(analyzer: Analyzer, item: Item) -> Iterator[LipEvidence]:
        if world.picture_s and isinstance(item, Frame):
            world.clock.sleep(world.picture_s)
        yield from push(analyzer, item)

    return slow_push
