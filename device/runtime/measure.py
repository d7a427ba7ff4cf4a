"""`avdrift measure`: one recording, as fast as it can be read, at bounded memory; a result for the whole and each window."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from device.capture.file import FileSource
from device.errors import UsageError
from device.features.contract import FRONT_END
from device.records import NS_PER_MS, NS_PER_S, Chunk, Frame
from device.runtime.analyzer import Analyzer, WindowResult, judge, search_ticks
from device.sync.track import LipEvidence
from device.towers.bundle import Bundle

_LIP_REACH_NS = FRONT_END.lip_window_ticks // 2 * FRONT_END.lip_tick_ms * NS_PER_MS
_ENOUGH_MS = 600


class _Stretch:
    """Evidence summed up over a stretch of time."""

    def __init__(self, size: int, from_ns: int) -> None:
        self.curve = np.zeros(size, np.float32)
        self.from_ns, self.ticks, self.faces = from_ns, 0, 0

    def add(self, row: LipEvidence) -> None:
        self.curve += row.row
        self.ticks += 1
        self.faces += row.face

    def result(self, to_ns: int, speech_ratio: float | None, analyzer: Analyzer) -> WindowResult:
        face_ratio = self.faces / self.ticks if self.ticks else 0.0
        return judge(self.curve, face_ratio, speech_ratio, self.from_ns, to_ns, analyzer.calibration)


def measure(
    path: Path, bundle: Bundle, face_model: Path, *, window_s: float | None = None, search_ms: float = 1000.0
) -> dict[str, Any]:
    """What design.md calls a measurement: one JSON object. Raises UsageError, CaptureError."""
    if window_s is not None and not 0.2 <= window_s <= 3600:
        raise UsageError(f"{window_s:g} s is not possible", where="--window", remedy="Give 0.2 to 3600 s")
    analyzer = Analyzer(bundle, face_model, search_ms=search_ms)
    size = 2 * search_ticks(search_ms) + 1
    windows: list[dict[str, Any]] = []
    window_ns = round(window_s * NS_PER_S) if window_s else None
    whole: _Stretch | None = None
    current: _Stretch | None = None
    speech_ns, speech_until_ns, end_ns = 0.0, 0, 0

    with FileSource(path) as source:

        def take(row: LipEvidence) -> None:
            nonlocal current
            assert whole is not None
            whole.add(row)
            if window_ns is None:
                return
            # A lip window counts where all of it lies inside.
            index = (row.t_ns - _LIP_REACH_NS - whole.from_ns) // window_ns
            begins = whole.from_ns + index * window_ns
            if row.t_ns + _LIP_REACH_NS > begins + window_ns or row.t_ns - _LIP_REACH_NS < whole.from_ns:
                return
            if current is None or current.from_ns != begins:
                close()
                current = _Stretch(size, begins)
            current.add(row)

        def close() -> None:
            nonlocal current
            if current is not None and window_ns is not None:
                assert whole is not None
                to_ns = current.from_ns + window_ns
                spoken = analyzer.speech_ratio(current.from_ns, to_ns)
                windows.append(_window(current.result(to_ns, spoken, analyzer), whole.from_ns))
            current = None

        for item in source:
            if whole is None and isinstance(item, Frame):
                whole = _Stretch(size, item.t_ns)
            end_ns = max(end_ns, item.t_ns)
            for row in analyzer.push(item):
                take(row)
            if isinstance(item, Chunk) and item.t_ns - speech_until_ns >= 10 * NS_PER_S:
                speech_ns += (analyzer.speech_ratio(speech_until_ns, item.t_ns) or 0.0) * (item.t_ns - speech_until_ns)
                speech_until_ns = item.t_ns
        for row in analyzer.finish():
            take(row)
        close()
        duration_s, damaged = source.duration_s, source.damaged
    assert whole is not None  # a source without any frame raises
    rest_ns = end_ns - speech_until_ns
    speech_ns += (analyzer.speech_ratio(speech_until_ns, end_ns) or 0.0) * rest_ns
    # A recording may hold long pauses: what counts is whether there was enough of both, not its share.
    enough_faces = whole.faces * FRONT_END.lip_tick_ms >= _ENOUGH_MS
    result = judge(
        whole.curve, float(enough_faces), float(speech_ns >= _ENOUGH_MS * NS_PER_MS), whole.from_ns, end_ns,
        analyzer.calibration,
    )  # fmt: skip
    found: dict[str, Any] = {
        "file": str(path),
        "state": result.state,
        "offset_ms": _rounded(result.offset_ms),
        "offset_std_ms": _rounded(result.best.offset_std_ms) if result.best and result.offset_ms is not None else None,
        "confidence": round(result.best.confidence, 4) if result.best else None,
        "duration_s": round(duration_s if duration_s else (end_ns - whole.from_ns) / NS_PER_S, 3),
        "speech_s": round(speech_ns / NS_PER_S, 2),
        "damaged": damaged,
    }
    if window_ns is not None:
        found["windows"] = windows
    return found


def _window(result: WindowResult, origin_ns: int) -> dict[str, Any]:
    return {
        "t_s": round((result.from_ns - origin_ns) / NS_PER_S, 3),
        "offset_ms": _rounded(result.best.offset_ms) if result.best else None,
        "confidence": round(result.best.confidence, 4) if result.best else None,
        "state": result.state,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
