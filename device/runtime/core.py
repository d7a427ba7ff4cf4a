"""The daemon without its threads: items, faults and the time in, reports out to the sink.

A recording is reported on by its own time, at any speed. Live, reports follow the clock and never stop: each gives the
current result, or the fault that prevents one. Evidence from before a fault, or before a jump of a stream's time, is
discarded, because audio and video may be aligned differently afterwards.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from device.analysis.analyzer import Analyzer
from device.analysis.offset_tracker import OffsetTracker, WindowResult
from device.bundles.bundle import Bundle
from device.clock import Clock
from device.config.settings import MeasureSettings
from device.features.signal_quality import SPOILS_NUMBERS, QualityMonitor
from device.records import NS_PER_S, Chunk, Fault, Frame, Report, State
from device.reporting.live_view import LiveView
from device.reporting.reporter import Reporter
from device.reporting.schedule import Schedule
from device.reporting.sink import Sink
from device.runtime.inputs.input_queue import InputQueue, QueuedItem
from device.runtime.live_feed import LiveFeed
from device.runtime.load_shedding import Load
from device.sync.evidence_stream import LipEvidence
from device.sync.step_detector import StepDetector

_CHAIN_S = 3.0  # more than the numeric chain holds back, in addition to the search range
_STALL_TIMEOUT_S = 30.0
_SILENT_NS = NS_PER_S
_JUMP_SHOWN_NS = 2 * NS_PER_S
_STUCK_NS = 5 * NS_PER_S  # if reports are stalled for this long although both sources deliver, the analysis has failed

_DISCARDING_FAULTS = SPOILS_NUMBERS | {Fault.CLOCK_JUMPED, Fault.MODEL_FAILED, Fault.ANALYSIS_STALLED}

_log = logging.getLogger(__name__)


class Core:
    """Measures the items that it is given. Not thread-safe."""

    def __init__(
        self, bundle: Bundle, face_model: Path, settings: MeasureSettings, sink: Sink, reporter: Reporter, clock: Clock,
        view: LiveView | None = None,
    ) -> None:  # fmt: skip
        self.settings, self.reporter, self.load = settings, reporter, Load()
        self.queue = InputQueue(clock, drop_oldest=False)  # until `begin`
        self.source_delay_ns = 0  # added by the live source itself
        self.position_s: float | None = None  # position of the current report in a recording
        self.bundle = bundle
        self.last: Report | None = None
        self.reporter.zero_std_ms = bundle.calibration.zero_uncertainty_ms or 0.0
        self._sink, self._clock = sink, clock
        self._show = LiveFeed(view or LiveView())
        self._analyzer = Analyzer(bundle, face_model, search_ms=settings.search_ms)
        self._tracker = self._new_tracker()
        self._steps = StepDetector()
        self._schedule = Schedule(round(settings.report_every_s * NS_PER_S))
        self._quality = QualityMonitor()
        self._live = self._realtime = False
        self._awaited: set[str] = set()  # sources that have not delivered yet
        self._frames: deque[int] = deque(maxlen=1500)  # times of the frames since the frame rate was last read
        self._source_faults: tuple[str, ...] = ()  # of sources that do not deliver
        self._model_fault: str | None = None
        self._analysis_fault: str | None = None  # both sources deliver, but no evidence comes
        self._quality_fault: str | None = None
        self._alarm_ns: int | None = None  # time in the recording by which evidence must come
        self._stuck_from_ns: int | None = None  # time in the recording of the first alarm without evidence
        self._newest_item_ns = 0  # time of the newest item
        self._newest_ns: dict[type, int] = {}  # time of the newest frame and of the newest chunk
        self._origin_ns: int | None = None
        self._clock_offset_ns: int | None = None  # the clock minus the recording's time
        self._jumped_ns: int | None = None  # when the time of a stream last jumped
        self._delivered_ns: dict[str, int] = {}  # when each live source last delivered
        # When the last item came, and the last evidence or a reason for none.
        self._last_item_ns = self._evidence_ns = clock.now_ns()

    # Input

    def begin(self, queue: InputQueue, awaited: set[str], *, live: bool, realtime: bool) -> None:
        """Prepare for the first item.

        live: times are on the clock, and `awaited` are the sources that must deliver first. realtime: items come at the
        clock's pace.
        """
        self.queue, self._awaited, self._live, self._realtime = queue, awaited, live, realtime
        self._last_item_ns = self._evidence_ns = self._clock.now_ns()
        if live:
            self._clock_offset_ns = 0
            self._schedule.begin(self._last_item_ns)

    def process(self, queued: QueuedItem) -> None:
        """Process the next item."""
        item, now_ns = queued.item, self._clock.now_ns()
        self._origin_ns = item.t_ns if self._origin_ns is None else self._origin_ns
        self._newest_ns[type(item)] = item.t_ns
        if isinstance(item, Frame):
            self._frames.append(item.t_ns)
        if self._realtime:
            self._clock_offset_ns = now_ns - item.t_ns if self._clock_offset_ns is None else self._clock_offset_ns
            step = self.load.update(now_ns, now_ns - queued.queued_ns, self.queue.overflowed)
        if self._live:
            self._analyzer.set_load(step)
            self._awaited.discard(queued.part)
            self._delivered_ns[queued.part] = now_ns
            self._watch_quality(item)
            if self._source_fault is None or isinstance(item, Chunk):  # lips without audio would only wait
                self._add_live(item)
        else:
            self._quality.push(item)
            self._quality_fault = self._quality.fault  # explains a recording's result, without spoiling any of it
            self._add(self._analyzer.push(item))
            self._watch_tracks(item.t_ns)
            self._evidence_ns = now_ns  # `_watch_tracks` has its own reasons for none, by the recording's time
        self._show.item(item, self._analyzer, now_ns)
        self._last_item_ns = self._clock.now_ns()

    def finish(self) -> None:
        """The recording has ended."""
        self._add(self._analyzer.finish())

    def tick(self) -> None:
        """To be called a few times a second: reports must go out even while no input comes."""
        now_ns = self._clock.now_ns()
        giving = self._live and not (self._awaited or self._source_fault or self._model_fault or self._is_source_silent)
        if giving and now_ns - self._evidence_ns > self._stall_timeout_ns + _STUCK_NS:
            self._restart_analysis()
        if self._live and not (self._awaited and self.fault is None):
            if self._schedule.due_live(now_ns, evidence=False):
                self._send()
        elif self._realtime and not self._live and now_ns - self._last_item_ns >= self._stalled_after_ns:
            self._last_item_ns = now_ns
            self._send(state=State.STALLED)

    @property
    def _source_fault(self) -> str | None:
        return self._source_faults[0] if self._source_faults else None

    def set_source_faults(self, faults: tuple[str, ...]) -> None:
        """Set the faults that keep sources from delivering, or none. The start of a fault is reported at once."""
        begins, self._source_faults = bool(set(faults) - set(self._source_faults)), faults
        if begins:
            self._send()

    def jump(self, *, suspended: bool = False) -> None:
        """The time of a stream has jumped, or that of all streams has stood still (a suspend)."""
        known, self._jumped_ns = self.fault == Fault.CLOCK_JUMPED, self._clock.now_ns()
        self.restart()
        if suspended:
            self.reporter.forget_drift()
        if not known:
            self._send()

    def restart(self) -> None:
        """Discard the evidence; drift and steps continue."""
        self._analyzer.reset()
        self._tracker = self._new_tracker()
        self._steps = StepDetector()
        self._evidence_ns = self._clock.now_ns()

    def _new_tracker(self) -> OffsetTracker:
        return OffsetTracker(self._analyzer, self.settings.window_s, step_every_s=self.settings.step_every_s)

    def swap(self, bundle: Bundle) -> None:
        """Use these models from now on."""
        self.bundle, self.reporter.model = bundle, bundle.label
        self.reporter.zero_std_ms = bundle.calibration.zero_uncertainty_ms or 0.0
        self._analyzer.use(bundle)
        self._model_fault = self._analysis_fault = None
        self.restart()

    def read_video_rate_hz(self) -> float | None:
        """Frames per second since the last call, including gaps."""
        times_ns = list(self._frames)
        self._frames.clear()
        passed_ns = times_ns[-1] - times_ns[0] if times_ns else 0
        return round((len(times_ns) - 1) * NS_PER_S / passed_ns, 2) if passed_ns > 0 else None

    @property
    def fault(self) -> str | None:
        """The most important fault; None without one."""
        now_ns = self._clock.now_ns()
        jumped = self._jumped_ns is not None and now_ns - self._jumped_ns < _JUMP_SHOWN_NS
        lesser = Fault.CLOCK_JUMPED if jumped else Fault.OVERLOADED if self.load.overloaded(now_ns) else None
        broken = self._source_fault or self._model_fault or self._analysis_fault
        if self._quality_fault in SPOILS_NUMBERS:
            return broken or self._quality_fault
        return broken or lesser or self._quality_fault

    @property
    def faults(self) -> tuple[str, ...]:
        """All faults, the most important one first."""
        found = (self.fault, *self._source_faults, self._model_fault, self._analysis_fault, self._quality_fault)
        return tuple(dict.fromkeys(fault for fault in found if fault is not None))

    @property
    def progressing(self) -> bool:
        """Whether it measures, or knows why it cannot. Models that fail may work in a new process."""
        if self._analysis_fault:
            return False
        waiting = self._source_fault is not None or not self._realtime
        return waiting or self._clock.now_ns() - self._evidence_ns < _STALL_TIMEOUT_S * NS_PER_S

    # Evidence

    def _add(self, rows: Iterable[LipEvidence]) -> None:
        batch = list(rows)
        if batch:
            self._analysis_fault = self._stuck_from_ns = None
        for row in batch:
            self._tracker.push(row)
            self._steps.push(row)
            self._alarm_ns = max(self._alarm_ns or row.t_ns, row.t_ns + self._stall_timeout_ns)
            if self._schedule.due_within(row.t_ns, batch[-1].t_ns):
                offset_ns = self._clock_offset_ns
                behind_ns = 0 if offset_ns is None else self._clock.now_ns() - offset_ns - row.t_ns
                if behind_ns <= self._stall_timeout_ns:  # at real-time pace, an old offset helps nobody
                    self._send(t_ns=row.t_ns)

    def _add_live(self, item: Frame | Chunk) -> None:
        try:
            rows = list(self._analyzer.push(item))
        except Exception as error:  # from LiteRT, OpenCV or our own code: retried with the next input
            if self._model_fault is None:
                _log.error("the analysis fails: %s: %s", type(error).__name__, error)
            self._model_fault = Fault.MODEL_FAILED
            self._analyzer.reset()
            return
        for row in rows:
            self._tracker.push(row)
            self._steps.push(row)
        if rows:
            self._model_fault = self._analysis_fault = None
            self._evidence_ns = self._clock.now_ns()
            if self._schedule.due_live(self._evidence_ns, evidence=True):
                self._send()

    def _restart_analysis(self, t_ns: int | None = None) -> None:
        """Restart the analysis, and log it: frames and audio come, but no evidence, so this is an internal error."""
        _log.error("no evidence although video and audio arrive: the analysis is restarted. Please report this")
        begins, self._analysis_fault = self._analysis_fault is None, Fault.ANALYSIS_STALLED
        self.restart()
        self._stuck_from_ns = t_ns
        if begins and self._live:
            self._send()

    def _watch_quality(self, item: Frame | Chunk) -> None:
        before = self._quality_fault
        self._quality.push(item)
        self._quality_fault = self._quality.fault
        if self._quality_fault == before:
            return
        if {self._quality_fault, before} & SPOILS_NUMBERS:
            self.restart()
        if self._quality_fault:
            self._send()

    def _watch_tracks(self, t_ns: int) -> None:
        """Report when one of the two tracks goes on alone, which gives no evidence and so no other report."""
        jumped = t_ns - self._newest_item_ns > NS_PER_S
        self._newest_item_ns = t_ns
        if self._alarm_ns is None or jumped:
            self._alarm_ns = t_ns + self._stall_timeout_ns
        if t_ns >= self._alarm_ns:
            self._alarm_ns = t_ns + self._stalled_after_ns
            giving = len(self._newest_ns) == 2 and t_ns - min(self._newest_ns.values()) < NS_PER_S
            self._stuck_from_ns = (self._stuck_from_ns or t_ns) if giving else None
            if self._stuck_from_ns is not None and t_ns - self._stuck_from_ns >= _STUCK_NS:
                self._restart_analysis(t_ns)
            self._send(state=State.STALLED, t_ns=t_ns)

    # Reports

    @property
    def _stalled_after_ns(self) -> int:
        return round(self.settings.stalled_after_s * NS_PER_S)

    @property
    def _stall_timeout_ns(self) -> int:
        settings = self.settings
        return round((settings.stalled_after_s + settings.search_ms / 1000 + _CHAIN_S) * NS_PER_S)

    def _send(self, *, state: State | None = None, t_ns: int | None = None) -> None:
        fault = self.fault
        if self._tracker.moving:
            self._steps = StepDetector()
        detects = state is None and self._tracker.to_ns is not None and self.reporter.has_level(self._tracker.to_ns)
        step = self._steps.detect(self._analyzer.calibration) if detects else None
        if step is not None:
            self._tracker.forget_before(step.onset_ns)
        result = self._tracker.result() if state is None else None
        captured_ns = None
        if self._clock_offset_ns is not None and result:  # the window extends a little beyond its last frame
            captured_ns = min(self._clock_offset_ns + result.to_ns, self._clock.now_ns())
        if self._live and state is None:
            old = captured_ns is not None and self._clock.now_ns() - captured_ns > self._stall_timeout_ns
            if self._source_fault or old:
                unsynced = self._source_fault == Fault.STREAM_UNSYNCED
                state, result = State.STARTING if unsynced else State.STALLED, None
        state = state or self._starting_state(result)
        if (
            self._live
            and result
            and result.state is State.MEASURING
            and (fault in _DISCARDING_FAULTS or self._is_source_silent)
        ):
            state = State.UNCERTAIN
        report = self.reporter.report(
            result, state=state, faults=self.faults, faces=self._analyzer.faces if result else None,
            video_dropped=self.queue.video_dropped, audio_dropped=self.queue.audio_dropped,
            captured_ns=None if captured_ns is None else captured_ns - self.source_delay_ns, step=step,
        )  # fmt: skip
        if report.step_ms is not None and step is None:
            self._steps = StepDetector()  # the reports have shown it first: do not report it twice
        self.position_s = (t_ns - (self._origin_ns or 0)) / NS_PER_S if t_ns is not None else None
        self.last = report
        self._show.curves(self._analyzer, self._tracker, self.reporter.rig, self._clock.now_ns())
        self._sink.report(report)

    @property
    def _is_source_silent(self) -> bool:
        """Whether a live source does not deliver, even before its fault is known."""
        return self._clock.now_ns() - min(self._delivered_ns.values(), default=0) > _SILENT_NS

    def _starting_state(self, result: WindowResult | None) -> State | None:
        """STARTING where the window is too short to say what is missing."""
        if result is None or result.state is State.MEASURING:
            return None
        filled = result.to_ns - result.from_ns >= 0.8 * self.settings.window_s * NS_PER_S
        return None if filled else State.STARTING
