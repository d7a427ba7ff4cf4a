"""Mouth opening against voice: the baseline that needs no training, with which this project began.

Method: the mouth's aspect ratio at each frame, from lip landmarks; the loudness of the voice, or its presence, at each
10 ms; Pearson's correlation of the two over a window, for each candidate offset. The highest one is the answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from device.features.contract import AUDIO_TICKS_PER_LIP_TICK
from train.comparison.estimators import Curve, Floats, peak_ticks
from train.data.shards import LIP_REACH, Clip, front_end

VOICES = ("loudness", "level while active", "activity")
_LANDMARK_MACS = 37e6  # per frame
_MIN_HEARD = 0.9  # correlations over little more than half of a window are too often high
_SPEECH_BANDS = slice(5, 30)  # of the log-mel rows: about 0.3 to 3.6 kHz


def aspect_ratio(lip_points: Floats) -> Floats:
    """Openness of a mouth: [..., 40, 2] lip landmarks to the inner lips' mean distance over the mouth's width."""
    inner = lip_points[..., 20:, :]
    gap = np.linalg.norm(inner[..., 1:10, :] - inner[..., 19:10:-1, :], axis=-1).mean(-1)
    width = np.linalg.norm(inner[..., 10, :] - inner[..., 0, :], axis=-1)
    return np.asarray(gap / np.maximum(width, 1e-3), np.float32)


def correlation(opening: Floats, voice: Floats) -> Floats:
    """Pearson's correlation of [n] with each column of [n, candidates], where both are known (not NaN).

    0 where less than nine tenths are known, or where either is constant.
    """
    known = np.isfinite(opening)[:, None] & np.isfinite(voice)
    count = np.maximum(known.sum(0), 1)
    x = np.where(known, opening[:, None], 0.0)
    y = np.where(known, voice, 0.0)
    x = np.where(known, x - x.sum(0) / count, 0.0)
    y = np.where(known, y - y.sum(0) / count, 0.0)
    size = np.sqrt((x**2).sum(0) * (y**2).sum(0))
    found = (x * y).sum(0) / np.maximum(size, 1e-9)
    return np.where((known.mean(0) >= _MIN_HEARD) & (size > 1e-6), found, 0.0).astype(np.float32)


@dataclass(frozen=True, slots=True)
class MouthOpeningEstimator:
    """Correlates the mouth opening with one of three measures of the voice.

    `activity`: the voice activity detector's yes or no. `loudness`: the level of the log-mel rows.
    `level while active`: that of the speech bands while the detector says yes, otherwise the lowest.
    """

    voice: str = "activity"
    macs_per_s: float | None = 25 * _LANDMARK_MACS

    @property
    def name(self) -> str:
        return f"mouth opening and voice {self.voice}"

    def study(self, clip: Clip) -> Curve:
        _, lips_first, valid, rows, audio_first = front_end(clip)
        opening = np.where(valid, aspect_ratio(clip.lip_points), np.nan)
        shift = round(clip.shift_ms / 10)
        active = clip.is_speech(audio_first + np.arange(len(rows)) - shift)
        if self.voice == "activity":
            heard = active.astype(np.float32)
        elif self.voice == "loudness":
            heard = rows.mean(1)
        else:
            level = rows[:, _SPEECH_BANDS].mean(1)
            heard = np.where(active, level, level.min())

        def curve(part: slice, search_ticks: int, shift_ticks: int) -> Floats:
            ticks = np.arange(part.start, part.stop + 2 * LIP_REACH)
            centre = (lips_first + ticks) * AUDIO_TICKS_PER_LIP_TICK - (audio_first - shift_ticks)
            column = centre[:, None] + search_ticks - np.arange(2 * search_ticks + 1)[None]
            inside = np.clip(column, 0, len(heard) - 1)
            return correlation(opening[ticks], np.where(column == inside, heard[inside], np.nan))

        return curve

    def offset_ticks(self, curve: Floats) -> float | None:
        return peak_ticks(curve)
