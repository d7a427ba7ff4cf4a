"""Which offset to report: for a window alone, and for now, given all evidence so far."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from device.analysis.analyzer import Analyzer
from device.bundles.calibration import Calibration
from device.features.contract import FRONT_END
from device.records import NS_PER_MS, NS_PER_S, Estimate, Reason, State
from device.sync.curve import Floats, estimate_near, is_broad
from device.sync.evidence_stream import LipEvidence
from device.sync.offset_hmm import STEP_EVERY_S, STEP_ROWS, OffsetFilter, Posterior

MEASURING_CONFIDENCE = 0.95
# With another speaker's voice, 6 of 1,204 reports (43 clips of 15 s) had an offset when the beginning was the first 3 s
# of evidence, and 1 when it was the first 3 s in which the face was heard.
_BEGINNING_CONFIDENCE, _BEGINS_S = 0.995, 3.0
MIN_FACE_RATIO = 0.5
MIN_SPEECH_RATIO = 0.3
_HALF_LIP_WINDOW_NS = FRONT_END.lip_window_ticks * FRONT_END.lip_tick_ms * NS_PER_MS // 2
_SHORT_S = 1.5  # of evidence: below this, more time is all that is missing
_HEARD = 0.5
_BROAD_FROM_S, _FADING_ROWS = 15.0, 375
_MOVING, SURELY_MOVING = 0.5, 0.99


@dataclass(frozen=True, slots=True)
class WindowResult:
    """The result at the end of a stretch: `best` is the best guess, `state` whether it may be reported.

    level: the estimate from the stretch's own evidence near that guess, for consumers of independent measurements.
    slope: (ppm, standard error) where the offset certainly drifts.
    """

    from_ns: int
    to_ns: int
    state: State
    best: Estimate | None
    speech_ratio: float | None
    reason: Reason | None = None
    evidence_ns: int | None = None  # when a face with speech was last seen
    level: Estimate | None = None
    slope: tuple[float, float] | None = None

    @property
    def offset_ms(self) -> float | None:
        return self.best.offset_ms if self.best and self.state is State.MEASURING else None


def judge(
    posterior: Posterior | None, face_ratio: float, speech_ratio: float | None, calibration: Calibration, *,
    remembered: bool = False, least_confidence: float = MEASURING_CONFIDENCE, low_frame_rate: bool = False,
    echo: bool = False,
) -> tuple[State, Reason | None, Estimate | None]:  # fmt: skip
    """Decide from a posterior and the recent input which offset may be reported, and otherwise why not.

    remembered: a face with speech came recently enough that the offset cannot have stepped since; an offset then stays
    valid although no speaker is visible now. least_confidence: what an offset needs to be reported. low_frame_rate: why
    no lips were seen. echo: two offsets are true.
    """
    best = posterior.estimate(calibration) if posterior else None
    absent = None
    if face_ratio < MIN_FACE_RATIO:
        absent = (State.UNCERTAIN, Reason.LOW_FRAME_RATE) if low_frame_rate else (State.NO_FACE, Reason.NO_FACE)
    elif speech_ratio is None or speech_ratio < MIN_SPEECH_RATIO:
        absent = State.NO_SPEECH, Reason.NO_SPEECH
    if echo and not absent:
        return State.UNCERTAIN, Reason.AMBIGUOUS, best
    if posterior is None or best is None:
        state, reason = absent or (State.UNCERTAIN, Reason.TOO_LITTLE_SPEECH)
        return state, reason, None
    if best.confidence >= least_confidence and not best.at_edge and (remembered or not absent):
        other = Reason.VOICE_NOT_OF_THIS_FACE if posterior.heard < _HEARD else None
        return State.MEASURING, absent[1] if absent else other, best
    if absent:
        return *absent, best
    return State.UNCERTAIN, _doubt(posterior), best


def least_confidence(posterior: Posterior | None) -> float:
    """The confidence that an offset needs: more until the face has been heard, as each second is a chance to err."""
    begins = posterior is not None and posterior.heard_s < _BEGINS_S
    return _BEGINNING_CONFIDENCE if begins else MEASURING_CONFIDENCE


def _doubt(posterior: Posterior) -> Reason:
    if posterior.at_edge and posterior.near >= _HEARD:
        return Reason.BEYOND_SEARCH_RANGE
    if posterior.evidence_s < _SHORT_S:
        return Reason.TOO_LITTLE_SPEECH
    return Reason.AMBIGUOUS if posterior.heard >= _HEARD else Reason.VOICE_NOT_OF_THIS_FACE


class OffsetTracker:
    """Follows the offset over a session. `window_s` is the recent past for faces, speech and `level`."""

    def __init__(self, analyzer: Analyzer, window_s: float, *, step_every_s: float = STEP_EVERY_S) -> None:
        self._analyzer, self._length_ns = analyzer, round(window_s * NS_PER_S)
        self._rows: deque[LipEvidence] = deque()
        self._filter = OffsetFilter(analyzer.reach_ticks, analyzer.calibration.temperature, step_every_s=step_every_s)
        self._evidence_ns: int | None = None
        self._sum: Floats | None = None
        self._faded = np.zeros(2 * analyzer.reach_ticks + 1, np.float32)  # evidence of the last quarter minute
        self._remembered_ns = round(-np.log(MEASURING_CONFIDENCE) * step_every_s * NS_PER_S)

    def push(self, row: LipEvidence) -> None:
        self._filter.push(row)
        if row.face and row.tick % STEP_ROWS == 0:
            around = row.t_ns - _HALF_LIP_WINDOW_NS, row.t_ns + _HALF_LIP_WINDOW_NS
            self._evidence_ns = row.t_ns if self._analyzer.speech_ratio(*around) else self._evidence_ns
        self._faded += row.row - self._faded / _FADING_ROWS
        self._rows.append(row)
        self._sum = None
        while self._rows[0].t_ns <= row.t_ns - self._length_ns:
            self._rows.popleft()

    @property
    def to_ns(self) -> int | None:
        """The time up to which frames were seen; None before the first."""
        return self._rows[-1].t_ns + _HALF_LIP_WINDOW_NS if self._rows else None

    @property
    def moving(self) -> bool:
        """Whether the offset drifts rather than stays. What then looks like a step is not one."""
        posterior = self._filter.posterior()
        return posterior is not None and posterior.moving >= _MOVING

    def forget_before(self, t_ns: int) -> None:
        """Evidence before a step belongs to another offset, so `level` must not include it."""
        self._sum = None
        while self._rows and self._rows[0].t_ns < t_ns:
            self._rows.popleft()

    def result(self) -> WindowResult | None:
        """The result for now; None before any evidence."""
        if not self._rows:
            return None
        # A lip window sees frames on both sides of its middle.
        from_ns, to_ns = self._rows[0].t_ns - _HALF_LIP_WINDOW_NS, self._rows[-1].t_ns + _HALF_LIP_WINDOW_NS
        posterior = self._filter.posterior()
        face_ratio = float(np.mean([row.face for row in self._rows]))
        speech_ratio = self._analyzer.speech_ratio(from_ns, to_ns)
        remembered = self._evidence_ns is not None and to_ns - self._evidence_ns <= self._remembered_ns
        state, reason, best = judge(
            posterior,
            face_ratio,
            speech_ratio,
            self._analyzer.calibration,
            remembered=remembered,
            least_confidence=least_confidence(posterior),
            low_frame_rate=self._analyzer.low_frame_rate(from_ns, to_ns),
            echo=self._rows[-1].echo,
        )
        # A drifting offset smears the evidence as well.
        settled = reason is None and posterior is not None and posterior.evidence_s >= _BROAD_FROM_S
        settled = settled and not self.moving
        if state is State.MEASURING and settled and is_broad(self._faded):
            state, reason = State.UNCERTAIN, Reason.AMBIGUOUS
        moving = posterior is not None and posterior.moving >= SURELY_MOVING
        return WindowResult(
            from_ns, to_ns, state, best, speech_ratio, reason, self._evidence_ns,
            level=self._level(posterior) if state is State.MEASURING and reason is None and posterior else None,
            slope=(posterior.slope_ppm, posterior.slope_std_ppm) if moving and posterior else None,
        )  # fmt: skip

    def curves(self) -> tuple[Floats, Floats] | None:
        """For each candidate, the window's evidence (nats) and its probability; None before any evidence."""
        if not self._rows:
            return None
        return self._evidence(), self._filter.mass.astype(np.float32)

    def _evidence(self) -> Floats:
        """The sum of the window's rows."""
        if self._sum is None:
            self._sum = np.sum([row.row for row in self._rows], axis=0)
        return self._sum

    def _level(self, posterior: Posterior) -> Estimate | None:
        return estimate_near(self._evidence(), posterior.offset_ticks, self._analyzer.calibration)
