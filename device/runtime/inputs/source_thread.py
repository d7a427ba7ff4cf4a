"""One source in a thread of its own: opened, read, and reopened after any failure.

A live source may fail, end, hang in its driver or deliver impossible times. Each of these faults has a name, and the
source is reopened after a pause. A hanging thread is first woken by closing its source, then abandoned while another
takes its place. A recording is read once: its end, or its error, is the end.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from device.capture.source import LiveSource, Source
from device.clock import Clock
from device.errors import (
    AvdriftError,
    CaptureError,
    DeviceBusyError,
    DeviceHungError,
    DeviceMissingError,
    DevicePermissionError,
    StreamError,
)
from device.records import NS_PER_S, Chunk, Fault, Frame
from device.runtime.inputs.input_queue import InputQueue
from device.runtime.inputs.timestamp_check import Stamps, usable

FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 2.0
STALLED_AFTER_S = 3.5  # without a sign of life; a source itself gives up after 2 s
ABANDONED_AFTER_S = 15.0
MAX_ORPHANS = 4  # hanging threads that cannot be ended
ORPHAN_TIMEOUT_S = 30.0  # an orphan that holds the device blocks its successor: only a new process helps
_STEADY_S = 5.0  # a source that ran this long is reopened at once when it fails
_INVALID_TIMEOUT_S = 2.0
_MAX_SUPERVISION_GAP_S = 1.0
_ENDED = "ended"  # the fault of a live source that can deliver nothing more

_WORDS: dict[type[CaptureError], str] = {
    DeviceMissingError: "missing", DeviceBusyError: "busy", DevicePermissionError: "permission",
    DeviceHungError: "stalled",
}  # fmt: skip

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Feed:
    """A live source, and how to reopen it. Faults are named after `part`.

    longest_pause_s: between two attempts to reopen it; pauses grow up to this.
    """

    part: str
    open: Callable[[], LiveSource[Frame | Chunk]]
    longest_pause_s: float = LONGEST_PAUSE_S


@dataclass(frozen=True, slots=True)
class RecordingFeed:
    """A recording, which is opened and read once."""

    part: str
    open: Callable[[], Source[Frame | Chunk]]


class Reader:
    """Reads one source into the input queue. The queue's `changed` guards what it shares with its threads."""

    def __init__(self, feed: Feed | RecordingFeed, inputs: InputQueue, clock: Clock, *, paced: bool = False) -> None:
        self.part, self.live = feed.part, isinstance(feed, Feed)
        self.fault: str | None = None  # from the first failure until an item comes
        self._untold: str | None = None  # a fault since `take_fault` was called
        self.session = 0  # items of one session may be measured together
        self.jumps = 0  # jumps of its time stamps; each also starts a session
        self.reopened = 0
        self.device: str | None = None  # the open source's name for it
        self.failure: BaseException | None = None  # what ended a recording, or cannot be recovered from
        self.ended = False
        self._feed, self._inputs, self._clock, self._paced = feed, inputs, clock, paced
        self._changed = inputs.changed
        self._generation = 0  # of the thread in charge: an abandoned one finds another number here
        self._source: LiveSource[Frame | Chunk] | None = None
        self._alive_ns: int | None = None  # last sign of life; None where none is expected
        self._supervised_ns = clock.now_ns()
        self._stopped = self._restarting = self._woken = False
        self._thread: threading.Thread | None = None
        self._orphans: list[tuple[threading.Thread, int]] = []  # used by the measuring thread only
        self._hung_ns: int | None = None  # since when a driver in this process has held the device
        self._logged = ""
        self._finished = f"{self.part}_{_ENDED}"

    # For the measuring thread

    def start(self) -> None:
        self._generation += 1
        generation, feed = self._generation, self._feed
        if isinstance(feed, Feed):
            self._thread = self._clock.start(lambda: self._read_until_stopped(feed, generation), self.part)
        else:
            self._thread = self._clock.start(lambda: self._read_once(feed), self.part)

    def stop(self) -> None:
        """Ask the thread to end; `ended` is set when it has."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._wake()

    def restart(self) -> None:
        """Close a live source and reopen it without a pause."""
        with self._changed:
            self._restarting = self.live
            self._changed.notify_all()
        self._wake()

    @property
    def ppm(self) -> float | None:
        """The rate error of the open source's own clock, where known."""
        source = self._source
        return source.rate_ppm if source else None

    @property
    def delay_ns(self) -> int:
        """The delay that the open source itself adds."""
        return getattr(self._source, "delay_ns", 0)

    def supervise(self) -> None:
        """Deal with a thread that shows no sign of life; to be called a few times a second."""
        with self._changed:
            now_ns = self._clock.now_ns()
            gap_ns, self._supervised_ns = now_ns - self._supervised_ns, now_ns
            if not self.live or self._alive_ns is None:
                return
            if gap_ns > _MAX_SUPERVISION_GAP_S * NS_PER_S:  # the whole process stood still, not only the source
                self._alive_ns = min(self._alive_ns + gap_ns, now_ns)
            quiet_s = (now_ns - self._alive_ns) / NS_PER_S
            if quiet_s < STALLED_AFTER_S:
                return
            if not self._woken:
                self._end_session(f"{self.part}_stalled")
                self._log_once("%s delivers nothing and does not respond", self.part)
            if quiet_s >= ABANDONED_AFTER_S and len(self.orphans()) < MAX_ORPHANS:
                self._log_once("%s: its thread hangs in the driver and is abandoned", self.part)
                self._orphans += [(self._thread, now_ns)] if self._thread else []
                self._source, self._alive_ns, self._woken = None, now_ns, False
                self.start()
                return
            wake, self._woken = not self._woken, True
        if wake:
            self._wake()

    def take_fault(self) -> str | None:
        """The fault, or the last one that came and went since the last call: a busy measuring thread calls seldom."""
        with self._changed:
            fault, self._untold = self.fault or self._untold, None
            return fault

    def orphans(self) -> list[threading.Thread]:
        """Abandoned threads that still hang."""
        self._orphans = [(thread, since_ns) for thread, since_ns in self._orphans if thread.is_alive()]
        return [thread for thread, _ in self._orphans]

    @property
    def unrecoverable(self) -> bool:
        """Whether only a new process can help."""
        oldest_ns = self._orphans[0][1] if self.orphans() else self._clock.now_ns()
        since_ns = min(oldest_ns, self._hung_ns or oldest_ns)
        waited_s = (self._clock.now_ns() - since_ns) / NS_PER_S
        return len(self._orphans) >= MAX_ORPHANS or (self.fault is not None and waited_s > ORPHAN_TIMEOUT_S)

    # For the source thread

    def _read_once(self, feed: RecordingFeed) -> None:
        try:
            with feed.open() as source:
                offset_ns: int | None = None
                for item in source:
                    if self._paced:
                        now_ns = self._clock.now_ns()
                        offset_ns = now_ns - item.t_ns if offset_ns is None else offset_ns
                        self._sleep((item.t_ns + offset_ns - now_ns) / NS_PER_S)
                    if self._stopped or not self._inputs.put(item, self.part):
                        break
        except BaseException as error:
            self.failure = error
        finally:
            self._end()
            self._inputs.close()

    def _read_until_stopped(self, feed: Feed, generation: int) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            begun_ns = self._clock.now_ns()
            try:
                fault = self._read(feed, generation)
            except AvdriftError as error:
                self._give_up(generation, error)
                break
            if self._clock.now_ns() - begun_ns > _STEADY_S * NS_PER_S:
                pause_s = FIRST_PAUSE_S
            if fault == self._finished:
                self._inputs.close()
                break
            with self._changed:
                if not self._in_charge(generation):
                    break
                self._end_session(self.fault if self._woken or self._restarting else fault)
                self._source = self._alive_ns = None
                self._woken = False
            self._sleep(pause_s)
            if not self._in_charge(generation):
                break
            self.reopened += 1
            self._restarting = False
            pause_s = min(2 * pause_s, feed.longest_pause_s)
        self._end(generation)

    def _read(self, feed: Feed, generation: int) -> str:
        """Read from opening to the end of a session; return the fault's name.

        Raises errors that retrying cannot fix.
        """
        try:
            self._mark_alive(generation)
            with feed.open() as source:
                word = self._deliver_all(generation, source)
                self._mark_alive(generation)
            return word
        except CaptureError as error:
            # It may release the device a moment later; until then no attempt can succeed.
            self._hung_ns = (self._hung_ns or self._clock.now_ns()) if isinstance(error, DeviceHungError) else None
            self._log_once("%s", error)
            word = error.word if isinstance(error, StreamError) else _WORDS.get(type(error), "lost")
            if word == _ENDED and self.device is None:
                self.failure = error  # a recording that ended before it began
            return f"{self.part}_{word}"
        except AvdriftError:  # a wrong setting or installation: retrying does not help
            raise
        except Exception as error:  # drivers and their libraries may raise anything
            self._log_once("%s: %s: %s", self.part, type(error).__name__, error)
            return f"{self.part}_lost"

    def _deliver_all(self, generation: int, source: LiveSource[Frame | Chunk]) -> str:
        with self._changed:
            if not self._in_charge(generation):
                return ""
            self._source, self.device = source, source.device
            self._alive_ns, self._woken, self._hung_ns = self._clock.now_ns(), False, None
        stamps, missed = {Frame: Stamps(), Chunk: Stamps()}, 0  # the times of each kind rise independently
        bad_ns: int | None = None  # since when no item was good
        for item in source:
            now_ns, times = self._clock.now_ns(), stamps[type(item)]
            epoch, whole = times.epoch, usable(item)
            good = whole and times.accept(item.t_ns, now_ns - source.behind_ns)
            with self._changed:
                if not self._in_charge(generation) or self._restarting or self._woken:
                    break
                self._alive_ns = now_ns
                before, missed = missed, source.dropped
                self._inputs.count_dropped(item, max(missed - before, 0) + (not good))
                if good:
                    self.fault = bad_ns = None
                    self.session += times.epoch - epoch
                    self.jumps += times.epoch - epoch
                    self._inputs.put(item, self.part, self.session)
            if good:
                continue
            bad_ns = now_ns if bad_ns is None else bad_ns
            if now_ns - bad_ns > _INVALID_TIMEOUT_S * NS_PER_S:
                self._log_once("%s gives %s", self.part, "impossible capture times" if whole else "nothing usable")
                return Fault.CLOCK_JUMPED if whole else f"{self.part}_lost"
        return f"{self.part}_lost"

    # Shared

    def _in_charge(self, generation: int) -> bool:
        return self._generation == generation and not self._stopped

    def _give_up(self, generation: int, error: AvdriftError) -> None:
        with self._changed:
            if self._in_charge(generation):
                self.failure = error
                self._inputs.close()

    def _mark_alive(self, generation: int) -> None:
        with self._changed:
            if self._generation == generation:
                self._alive_ns = self._clock.now_ns()

    def _end_session(self, fault: str | None) -> None:
        self.fault = self._untold = fault
        self.session += 1

    def _end(self, generation: int | None = None) -> None:
        with self._changed:
            if generation in (None, self._generation):
                self.ended, self._alive_ns = True, None
                self._changed.notify_all()

    def _sleep(self, pause_s: float) -> None:
        with self._changed:
            self._clock.wait_for(self._changed, lambda: self._stopped or self._restarting, max(pause_s, 0))

    def _wake(self) -> None:
        """Close the source from a thread of its own, because closing may hang as well."""
        source = self._source
        if self.live and source is not None:
            thread = self._clock.start(lambda: self._close(source), f"{self.part}-close")
            self._orphans.append((thread, self._clock.now_ns()))

    def _close(self, source: LiveSource[Frame | Chunk]) -> None:
        try:
            source.close()
        except Exception as error:
            self._log_once("%s: closing: %s: %s", self.part, type(error).__name__, error)

    def _log_once(self, words: str, *values: object) -> None:
        """A camera that is missing for a night must not fill the log."""
        text = words % values
        if text != self._logged:
            self._logged = text
            _log.warning("%s", text)
