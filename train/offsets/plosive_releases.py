"""Releases of /p b m/ in prepared clips: when the lips part, and when it sounds, each in ms on the clip's own clock.

Lips: the inner lips' gap relative to the mouth's width, from the clip's own closed to its own wide. A release is a
closed tick before a rise. Lips part at nearly constant speed, so the line through the first two open ticks is
extrapolated back to where they were closed, no further than that closed tick. Ticks are 40 ms apart, but the crossing
is finer.
Sound: energy of 1 to 7 kHz, above any voicing that passes through shut lips. A burst is a rise within a few
milliseconds out of 30 ms of closure; of several (the burst, then the voice) the first one counts.
Neither depends on what is said: most parting lips and most rises in the sound are something else, and no release is
certain by itself. `train.offsets.physical_zero` finds the peak of the true pairs among all pairs.
Source: Fujimura, Bilabial stop and nasal consonants: a motion picture study, 1961 (lips part as the burst sounds);
Löfqvist and Gracco, Lip and jaw kinematics in bilabial stop consonant production, 1997 (their speed at release).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from device.features.contract import AUDIO_RATE_HZ, FRONT_END
from train.data.landmarks import opening

Times = npt.NDArray[np.float64]  # ms

_CLOSED: Final = 0.2  # of the way from the clip's closed to its wide mouth
_FIRST_STEP: Final = 0.1  # how much wider the first open tick is
_WIDE_STEP: Final = 0.35  # and the widest of the first three
_MIN_RANGE: Final = 0.02  # of a mouth's width: below it the mouth never opens, and its range is noise

_WINDOW, _HOP, _FFT = 96, 16, 128  # samples: 6 ms, every ms
_BAND_HZ: Final = (1000.0, 7000.0)
_CLOSURE, _SETTLE = 30, 4  # hops: the length of the closure; and how far before the rise it may end
_SOON, _LATER = 10, 60  # hops within which the burst, and the vowel behind it, must follow
_BURST_DB, _VOWEL_DB = 5.0, 12.0
_GROUP = 70  # hops: a later rise within this belongs to the same release


def lip_openings_ms(lip_points: npt.NDArray[np.float32], first_tick: int) -> Times:
    """When lips part, from landmarks [ticks, 40, 2] (NaN where unknown), of which the first is at `first_tick`."""
    wide = opening(lip_points)
    if len(wide) < 5 or not np.isfinite(wide).any():
        return np.empty(0)
    low, high = np.nanpercentile(wide, (2, 90))
    if not high - low > _MIN_RANGE:
        return np.empty(0)
    gap = (wide - low) / (high - low)
    closed = np.arange(1, len(gap) - 3)
    with np.errstate(invalid="ignore"):  # comparisons with unknown ticks are false
        level = np.minimum(gap[closed], gap[closed - 1])
        widest = np.max([gap[closed + k] for k in (1, 2, 3)], axis=0)
        first = gap[closed + 1] - level
        is_release = (gap[closed] < _CLOSED) & (gap[closed + 1] - gap[closed] > _FIRST_STEP)
        is_release &= widest - level >= _WIDE_STEP
    is_release[1:] &= ~is_release[:-1]  # the first open tick may still look closed: the earlier one saw it part
    closed, first = closed[is_release], first[is_release]
    speed = np.maximum(gap[closed + 2] - gap[closed + 1], first)
    return np.asarray((first_tick + closed + 1 - first / speed) * FRONT_END.lip_tick_ms, np.float64)


def burst_onsets_ms(samples: npt.NDArray[np.float32], t_ms: float) -> Times:
    """When it sounds after a closure; samples at 16 kHz, within [-1, 1], of which the first is at `t_ms`."""
    if len(samples) < _WINDOW + _HOP * (_CLOSURE + _SETTLE + _LATER + 20):
        return np.empty(0)
    energy_db = _band_db(samples)
    shut_db = _running_max(energy_db, _CLOSURE)
    at = np.arange(_CLOSURE + _SETTLE, len(energy_db) - _LATER - 12)
    before_db = shut_db[at - _SETTLE - _CLOSURE]
    is_rise = _running_max(energy_db, _SOON)[at] - before_db > _BURST_DB
    is_rise &= _running_max(energy_db, _LATER)[at] - before_db > _VOWEL_DB
    is_rise &= energy_db[at - _SETTLE] - before_db < _BURST_DB / 2
    found: list[float] = []
    last = -_GROUP
    for index in at[is_rise]:
        if index - last >= _GROUP:
            near = np.arange(index - _SETTLE, index + _SOON + 1)
            last = index
            found.append(float(near[np.argmax(energy_db[near + 3] - energy_db[near - 3])]))
    return t_ms + (np.array(found) * _HOP + _WINDOW / 2) * 1000 / AUDIO_RATE_HZ


def _band_db(samples: npt.NDArray[np.float32]) -> Times:
    frames = np.lib.stride_tricks.sliding_window_view(samples, _WINDOW)[::_HOP] * np.hanning(_WINDOW)
    power = np.abs(np.fft.rfft(frames, _FFT, axis=1)) ** 2
    low, high = (round(f_hz * _FFT / AUDIO_RATE_HZ) for f_hz in _BAND_HZ)
    return np.asarray(10 * np.log10(power[:, low : high + 1].sum(1) + 1e-9))


def _running_max(values: Times, count: int) -> Times:
    """Element k is the maximum of `count` values from k on."""
    return np.asarray(np.lib.stride_tricks.sliding_window_view(values, count).max(1))
