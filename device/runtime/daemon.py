"""The daemon: one thread per source, the numeric chain in the caller's thread, one report per second.

A bounded queue connects them. Live, and for a recording at real-time pace, it drops and counts the oldest items; at
full speed it makes the source wait. `device.runtime.core` decides what to report.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from device.bundles.bundle import Bundle
from device.bundles.rollout import Models
from device.bundles.store import Store
from device.clock import Clock, SystemClock, asleep_ns
from device.config.settings import MeasureSettings
from device.records import NS_PER_S, Command, Event, EventKind
from device.reporting.drift_file import Circumstances, DriftFile
from device.reporting.health import HealthMonitor
from device.reporting.live_view import LiveView
from device.reporting.model_record import ModelRecords
from device.reporting.reporter import Reporter
from device.reporting.sink import Sink
from device.runtime.command_handler import Operator, RigStore
from device.runtime.core import Core
from device.runtime.inputs.input_queue import InputQueue
from device.runtime.inputs.source_thread import Feed, Reader, RecordingFeed
from device.runtime.status import Status
from device.standards import DEFAULT_PROFILE, PROFILES, Profile
from device.state.rig import Rig

_POLL_S = 0.2  # how soon a waiting daemon notices `stop`: a signal handler must not take the queue's lock
_BATCH_TIMEOUT_S = 0.12  # between polls of the queue without audio; audio ends the pause every 0.1 s
_MAX_ITEMS_PER_TURN = 10
_SHUTDOWN_TIMEOUT_S = 1.5  # for sources that close slowly
_MIN_SUSPEND_NS = NS_PER_S // 10
_HEARTBEAT_EVERY_NS = NS_PER_S // 2

_log = logging.getLogger(__name__)


class Daemon:
    """Measures what its feeds deliver, until a recording ends or `stop` is called."""

    def __init__(
        self,
        bundle: Bundle,
        face_model: Path,
        settings: MeasureSettings,
        sink: Sink,
        *,
        clock: Clock | None = None,
        own_limits: Profile = PROFILES[DEFAULT_PROFILE],
        rig: Rig | None = None,
        heartbeat: Callable[[], None] = lambda: None,
        store: Store | None = None,
        models: Models | None = None,
        state_dir: Path | None = None,
        events_lost: Callable[[], int] = lambda: 0,
        asleep_ns: Callable[[], int] = asleep_ns,
        view: LiveView | None = None,
    ) -> None:
        """`heartbeat` is called while all is well, and while a known fault is being handled.

        own_limits: the limits of the profile `own`.
        store: where the bundle comes from, if it can be rolled back. models: follows the store's changes, or None.
        state_dir: keeps a recalibrated rig and, live, the drift. view: the live view of the page.
        """
        self._clock = clock or SystemClock()
        self._heartbeat, self._asleep_ns = heartbeat, asleep_ns
        reporter = Reporter(bundle.label, settings.profile, settings.window_s, self._clock)
        reporter.own_limits = own_limits
        self._core = Core(bundle, face_model, settings, sink, reporter, self._clock, view)
        monitor = HealthMonitor(self._clock, state_dir or Path())
        self._records = ModelRecords(state_dir)
        self._status = Status(self._core, sink, self._clock, monitor, rig, events_lost, self._records)
        self._operator = Operator(self._core, self._status, self._clock, store, RigStore(state_dir))
        self._sink, self._models = sink, models
        self._drift_file = DriftFile(state_dir) if state_dir is not None else None
        self._stopped = self._realtime = False
        self._readers: list[Reader] = []
        self._sessions: dict[str, int] = {}
        self._jumps = self._next_heartbeat_ns = self._events = 0
        self._suspended_ns = asleep_ns()

    @property
    def position_s(self) -> float | None:
        """The recording's position at the current report; None live."""
        return self._core.position_s

    @property
    def stopping(self) -> bool:
        return self._stopped

    def stop(self) -> None:
        """End soon; safe in a signal handler and from any thread."""
        self._stopped = True

    def submit(self, command: Command, *, limited: bool = True) -> None:
        """Queue a command; safe from any thread. Raises UsageError if there are too many."""
        self._operator.submit(command, limited=limited)

    def run(self, feeds: Sequence[Feed | RecordingFeed], *, realtime: bool = True) -> None:
        """Measure one feed with a recording, or two live ones, until the recording ends or `stop` is called.

        An error of a recording is raised here, after the reports on what came before it. Live sources never end the
        run.
        """
        live = any(isinstance(feed, Feed) for feed in feeds)
        inputs = InputQueue(self._clock, drop_oldest=realtime)
        self._readers = [Reader(feed, inputs, self._clock, paced=realtime and not live) for feed in feeds]
        self._sessions = {reader.part: 0 for reader in self._readers}
        self._realtime = realtime
        if not live:
            # a recording says nothing about the device's site
            self._drift_file, self._records = None, ModelRecords(None)
        if self._drift_file is not None:
            self._core.reporter.drift = self._drift_file.restore(self._circumstances(), self._clock.now_ns())
        self._core.begin(inputs, set(self._sessions), live=live, realtime=realtime)
        self._status.begin(self._readers)
        self._operator.readers = self._readers
        for reader in self._readers:
            reader.start()
        try:
            self._measure(inputs)
        finally:
            self._end(inputs)
        for reader in self._readers:
            if reader.failure is not None:
                raise reader.failure

    def _measure(self, inputs: InputQueue) -> None:
        while not self._stopped:
            self._check_clocks()
            self._supervise_sources()
            self._operator.work()
            self._supervise_models()
            self._core.tick()
            self._save_drift()
            self._records.add(self._core.last, self._clock.now_ns())
            self._status.poll()
            self._send_heartbeat()
            try:
                if not self._process_waiting(inputs):
                    self._core.finish()
                    return
            except TimeoutError:
                continue
            if self._realtime and not inputs.waiting:
                inputs.gather(_BATCH_TIMEOUT_S)

    def _process_waiting(self, inputs: InputQueue) -> bool:
        """Process the items that have come; False at the end. Raises TimeoutError if nothing comes."""
        for _ in range(_MAX_ITEMS_PER_TURN):
            queued = inputs.get(_POLL_S)
            if queued is None:
                return False
            self._check_session(queued.part, queued.session)
            if queued.session == self._sessions[queued.part]:
                self._core.process(queued)
            if self._stopped or not inputs.waiting:
                break
        return True

    def _check_clocks(self) -> None:
        before_ns, self._suspended_ns = self._suspended_ns, self._asleep_ns()
        if self._suspended_ns - before_ns > _MIN_SUSPEND_NS and any(reader.live for reader in self._readers):
            _log.warning("the computer was suspended for %.1f s", (self._suspended_ns - before_ns) / NS_PER_S)
            self._core.jump(suspended=True)

    def _supervise_sources(self) -> None:
        for reader in self._readers:
            reader.supervise()
            self._check_session(reader.part, reader.session)
        jumps = sum(reader.jumps for reader in self._readers)
        if jumps > self._jumps:
            self._jumps = jumps
            self._core.jump()
        self._core.source_delay_ns = max((reader.delay_ns for reader in self._readers), default=0)
        self._core.set_source_faults(tuple(fault for reader in self._readers if (fault := reader.take_fault())))

    def _supervise_models(self) -> None:
        if self._models is None:
            return
        new_bundle = self._models.poll(self._core.bundle, self._core.last, self._clock.now_ns())
        if new_bundle is not None:
            self._core.swap(new_bundle)
            self._status.publish_info()
        for change in self._models.changes:
            self._events += 1
            self._sink.event(
                Event(
                    **self._core.reporter.stamp(), seq=self._events, kind=EventKind.MODEL,
                    before=change.before, after=change.after, about=change.about,
                )
            )  # fmt: skip
        self._models.changes.clear()

    def _circumstances(self) -> Circumstances:
        return Circumstances(self._core.reporter.boot_id, self._suspended_ns, self._core.settings.window_s)

    def _save_drift(self, *, at_once: bool = False) -> None:
        if self._drift_file is not None:
            drift, now_ns = self._core.reporter.drift, self._clock.now_ns()
            self._drift_file.save(drift, self._circumstances(), now_ns, at_once=at_once)

    def _check_session(self, part: str, session: int) -> None:
        """Items of an earlier session must not be measured together with this one."""
        if session > self._sessions[part]:
            self._sessions[part] = session
            self._core.restart()

    def _send_heartbeat(self) -> None:
        now_ns = self._clock.now_ns()
        well = self._core.progressing and not any(reader.unrecoverable for reader in self._readers)
        if well and now_ns >= self._next_heartbeat_ns:
            self._next_heartbeat_ns = now_ns + _HEARTBEAT_EVERY_NS
            self._heartbeat()

    def _end(self, inputs: InputQueue) -> None:
        self._stopped = True
        self._save_drift(at_once=True)
        self._records.save()
        self._operator.close()
        inputs.close(discard=True)
        for reader in self._readers:
            reader.stop()
        with inputs.changed:
            self._clock.wait_for(
                inputs.changed, lambda: all(reader.ended for reader in self._readers), _SHUTDOWN_TIMEOUT_S
            )
