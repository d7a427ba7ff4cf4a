"""The reliability of the confidence and the worst windows, for people who watch a training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from device.bundles.calibration import Calibration
from device.sync.curve import TICK_MS
from train.evaluation.calibration import reliability
from train.evaluation.metrics import FRAME_MS, has_speech, is_right
from train.evaluation.tracks import Track, window_curve, window_parts, windows

WINDOW_S = 2.0
_SEARCH_TICKS = 60
_WORST = 20


def watched(tracks: Sequence[Track], truths_ms: Sequence[float], calibration: Calibration) -> dict[str, Any]:
    """`reliability` of windows of 2 s, and the `worst` 20 with their curves, furthest from the truth first."""
    found: list[tuple[float, dict[str, Any]]] = []
    sure, right = [], []
    for t, truth_ms in zip(tracks, truths_ms, strict=True):
        parts = list(window_parts(t, WINDOW_S))
        measured = windows(t, truth_ms, window_s=WINDOW_S, search_ms=_SEARCH_TICKS * TICK_MS, calibration=calibration,
                           random=np.random.default_rng(0), max_shift_ms=0.0)  # fmt: skip
        for part, window in zip(parts, measured, strict=True):
            if not has_speech(window) or not np.isfinite(window.error_ms):
                continue
            sure.append(window.confidence)
            right.append(is_right(window))
            curve = window_curve(t, part, _SEARCH_TICKS)
            found.append((abs(window.error_ms), {
                "clip": t.clip.name, "at_s": round((t.lips_first + part.start) * FRAME_MS / 1000, 2),
                "error_ms": round(window.error_ms, 1), "confidence": round(window.confidence, 3),
                "truth_ms": round(truth_ms, 1), "curve": [round(float(value), 2) for value in curve],
            }))  # fmt: skip
    found.sort(key=lambda each: -each[0])
    bins = reliability(np.array(sure), np.array(right, np.bool_))
    return {"reliability": [asdict(each) for each in bins], "worst": [row for _, row in found[:_WORST]]}
