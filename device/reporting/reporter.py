"""From a window's result to a report: numbering, wall clock, verdict. The only place that makes reports."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from device.analysis.offset_tracker import WindowResult
from device.clock import Clock, SystemClock
from device.records import NS_PER_MS, NS_PER_S, DriftClass, Fault, Reason, Report, State
from device.reporting.timesync import clock_synced
from device.standards import DEFAULT_PROFILE, PROFILES, Profile, direction, limits_of, verdict_range
from device.state.rig import Rig
from device.sync.drift import PPM_PER_MS_PER_S, Drift, DriftState, current_drift, update
from device.sync.step_detector import DetectedStep

SCHEMA = 1

_LEVEL_REPORTS, _LEVEL_S = 3, 20.0

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def _boot_id() -> str:
    return _BOOT_ID.read_text(encoding="ascii").strip() if _BOOT_ID.is_file() else "unknown"


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _evidence_age_s(result: WindowResult | None) -> float | None:
    if result is None or result.evidence_ns is None:
        return None
    return round((result.to_ns - result.evidence_ns) / NS_PER_S, 1)


def _reason(result: WindowResult | None, state: State, fault: str | None) -> Reason | None:
    if fault == Fault.STREAM_UNSYNCED:
        return Reason.NO_SENDER_REPORTS
    return result.reason if result and state is result.state else None


class Reporter:
    """Makes the consecutive reports of one run."""

    def __init__(self, model: str, profile: str, window_s: float, clock: Clock | None = None) -> None:
        self.model, self.profile = model, profile  # these and the rig may change at any time
        self.rig: Rig | None = None
        self.own_limits: Profile = PROFILES[DEFAULT_PROFILE]  # of the profile `own`
        self.zero_std_ms = 0.0  # uncertainty of the models' zero; a calibrated rig includes it
        self._window_s, self._clock = window_s, clock or SystemClock()
        self.boot_id = _boot_id()
        self._started_ns = self._clock.now_ns()
        self._seq = 0
        self.drift = DriftState()  # may be set to the state of an earlier run

    def forget_drift(self) -> None:
        """Discard drift and steps after the stream's clock has changed."""
        self.drift = DriftState()

    def has_level(self, t_ns: int) -> bool:
        """Whether offsets were measured shortly before, so that a step can start from them."""
        recent = self.drift.recent
        return len(recent) >= _LEVEL_REPORTS and t_ns / NS_PER_S - recent[-1].t_s <= _LEVEL_S

    def stamp(self) -> dict[str, Any]:
        """The fields that every published record starts with."""
        return {
            "schema": SCHEMA,
            "boot_id": self.boot_id,
            "uptime_s": round((self._clock.now_ns() - self._started_ns) / NS_PER_S, 3),
            "t_unix_ms": time.time_ns() // NS_PER_MS,
            "clock_synced": clock_synced(),
        }

    def report(
        self, result: WindowResult | None, *, state: State | None = None, faults: Sequence[str] = (),
        faces: int | None = None, video_dropped: int = 0, audio_dropped: int = 0, captured_ns: int | None = None,
        step: DetectedStep | None = None,
    ) -> Report:  # fmt: skip
        """Make the next report.

        state: overrides the result's. captured_ns: when the newest input used was captured. step: a step that the
        evidence shows now; `result` then belongs to the time after it. faults: the worst one first.
        """
        fault = faults[0] if faults else None
        self._seq += 1
        state = state or (result.state if result else State.STARTING)
        best = result.best if result and state is State.MEASURING else None
        bias_ms, bias_std_ms = (self.rig.bias_ms, self.rig.bias_std_ms) if self.rig else (0.0, 0.0)
        offset_ms = round(best.offset_ms - bias_ms, 1) if best else None
        std_ms = math.hypot(best.offset_std_ms, bias_std_ms) if best else 0.0
        limits = limits_of(self.profile, self.own_limits) or PROFILES[DEFAULT_PROFILE]
        judged = verdict_range(offset_ms, std_ms if self.rig else math.hypot(std_ms, self.zero_std_ms), limits)
        drift = self._follow(result, step, measured=best is not None)
        sure = result.best if result and state in (State.MEASURING, State.UNCERTAIN) else None
        latency_ns = self._clock.now_ns() - captured_ns if captured_ns is not None else None
        return Report(
            **self.stamp(),
            seq=self._seq,
            state=state,
            offset_ms=offset_ms,
            offset_std_ms=round(std_ms, 1) if best else None,
            direction=direction(offset_ms, limits) if offset_ms is not None else None,
            confidence=round(sure.confidence, 4) if sure else None,
            drift_ppm=_rounded(drift.drift_ppm, 2),
            drift_std_ppm=_rounded(drift.drift_std_ppm, 2),
            drift_class=drift.kind,
            step_ms=_rounded(drift.step_ms, 1),
            verdict=judged.verdict,
            profile=self.profile,
            window_s=self._window_s,
            faces=faces,
            speech_ratio=round(result.speech_ratio, 3) if result and result.speech_ratio is not None else None,
            model=self.model,
            video_dropped=video_dropped,
            audio_dropped=audio_dropped,
            latency_ms=round(latency_ns / NS_PER_MS) if latency_ns is not None else None,
            fault=fault,
            faults=tuple(faults) or None,
            reason=_reason(result, state, fault),
            evidence_age_s=_evidence_age_s(result) if best else None,
            verdict_range=judged.ends,
        )

    def _follow(self, result: WindowResult | None, step: DetectedStep | None, *, measured: bool) -> Drift:
        """Update drift and steps on the stream's own clock, from measurements only."""
        if step is not None:
            self.drift = DriftState(stepped=True)
            report = self._follow(result, None, measured=measured)
            return replace(report, step_ms=step.step_ms, step_t_s=step.onset_ns / NS_PER_S)
        t_s = result.to_ns / NS_PER_S if result else None
        drift = current_drift(self.drift, t_s)
        if result is not None and t_s is not None and measured and (level := result.level) is not None:
            slope_ms_per_s = result.slope[0] / PPM_PER_MS_PER_S if result.slope else None
            self.drift, drift = update(
                self.drift, t_s, level.offset_ms, level.offset_std_ms, window_s=self._window_s,
                slope_ms_per_s=slope_ms_per_s,
            )  # fmt: skip
        if measured and result is not None and result.slope is not None and drift.drift_ppm is None:
            # A fast drift shows in the evidence within seconds, but in the reports only after minutes.
            return replace(drift, kind=DriftClass.DRIFTING, drift_ppm=result.slope[0], drift_std_ppm=result.slope[1])
        return drift
