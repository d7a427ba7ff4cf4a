"""From a window's result to a report: numbering, wall clock, words. The only place that makes reports."""

from __future__ import annotations

import time
from pathlib import Path

from device.records import NS_PER_MS, NS_PER_S, Report, State
from device.runtime.analyzer import WindowResult
from device.runtime.timesync import clock_synced
from device.sync.drift import Drift, DriftState, known, update
from device.sync.verdict import PROFILES, direction, verdict

SCHEMA = 1

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def _boot_id() -> str:
    return _BOOT_ID.read_text(encoding="ascii").strip() if _BOOT_ID.is_file() else "unknown"


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


class Reporter:
    """Makes consecutive reports of one run."""

    def __init__(self, model: str, profile: str, window_s: float) -> None:
        self._model, self._profile, self._window_s = model, profile, window_s
        self._boot_id = _boot_id()
        self._started_ns = time.monotonic_ns()
        self._seq = 0
        self._drift = DriftState()

    def report(
        self, result: WindowResult | None, *, state: State | None = None, faces: int | None = None,
        video_dropped: int = 0, audio_dropped: int = 0, captured_ns: int | None = None,
    ) -> Report:  # fmt: skip
        """The next report. `state` overrides the result's; `captured_ns` is when the newest input used was captured."""
        now_ns = time.monotonic_ns()
        self._seq += 1
        state = state or (result.state if result else State.STARTING)
        best = result.best if result and state is State.MEASURING else None
        offset_ms = round(best.offset_ms, 1) if best else None
        drift = self._follow(result, measured=best is not None)
        sure = result.best if result and state in (State.MEASURING, State.UNCERTAIN) else None
        return Report(
            schema=SCHEMA,
            seq=self._seq,
            boot_id=self._boot_id,
            uptime_s=round((now_ns - self._started_ns) / NS_PER_S, 3),
            t_unix_ms=time.time_ns() // NS_PER_MS,
            clock_synced=clock_synced(),
            state=state,
            offset_ms=offset_ms,
            offset_std_ms=round(best.offset_std_ms, 1) if best else None,
            direction=direction(offset_ms) if offset_ms is not None else None,
            confidence=round(sure.confidence, 4) if sure else None,
            drift_ppm=_rounded(drift.drift_ppm, 2),
            drift_std_ppm=_rounded(drift.drift_std_ppm, 2),
            step_ms=_rounded(drift.step_ms, 1),
            verdict=verdict(offset_ms, PROFILES[self._profile]),
            profile=self._profile,
            window_s=self._window_s,
            faces=faces,
            speech_ratio=round(result.speech_ratio, 3) if result and result.speech_ratio is not None else None,
            model=self._model,
            video_dropped=video_dropped,
            audio_dropped=audio_dropped,
            latency_ms=round((now_ns - captured_ns) / NS_PER_MS) if captured_ns is not None else None,
        )

    def _follow(self, result: WindowResult | None, *, measured: bool) -> Drift:
        """Drift and steps on the stream's own clock, from measurements only."""
        if result is None or result.best is None or not measured:
            return known(self._drift, result.to_ns / NS_PER_S if result else None)
        t_s = result.to_ns / NS_PER_S
        best = result.best
        self._drift, drift = update(self._drift, t_s, best.offset_ms, best.offset_std_ms, window_s=self._window_s)
        return drift
