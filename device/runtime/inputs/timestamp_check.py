"""Which items of a live source to reject: impossible times, and invalid frames or audio. Pure."""

from __future__ import annotations

import numpy as np

from device.features.contract import AUDIO_RATE_HZ
from device.pictures import Yuv420
from device.records import NS_PER_MS, NS_PER_S, Chunk, Frame

_FUTURE_NS = 500 * NS_PER_MS  # a sound server's times are off by this much at the start
_PAST_NS = 5 * NS_PER_S
_JUMP_NS = 80 * NS_PER_MS  # well above the jitter of blocks and frames, below what changes a verdict
_MIN_PX = 16


def usable(item: Frame | Chunk) -> bool:
    """Whether an item is valid: a colour frame, or finite mono audio at the front end's rate."""
    if isinstance(item, Frame):
        picture = item.picture
        whole = isinstance(picture, Yuv420) or (picture.dtype == np.uint8 and picture.ndim == 3)
        return whole and picture.shape[2] == 3 and min(picture.shape[:2]) >= _MIN_PX
    samples = item.samples
    right = item.rate_hz == AUDIO_RATE_HZ and samples.dtype == np.float32 and samples.ndim == 1 and len(samples)
    return bool(right and np.isfinite(samples).all())


class Stamps:
    """Checks the times of one open source, one by one.

    Rejects times that do not rise, lie in the future or long ago (a driver's 0), or leap ahead of their arrival. If two
    items in a row leap the same way, the clock has changed: `epoch` counts these changes, and items from before and
    after one must not be combined.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self._last_ns: int | None = None
        self._min_lag_ns: int | None = None  # from capture to arrival
        self._leaps = 0  # in a row

    def accept(self, t_ns: int, now_ns: int) -> bool:
        """Whether to use an item with this time that arrives now."""
        lag_ns = now_ns - t_ns
        if not -_FUTURE_NS <= lag_ns <= _PAST_NS or t_ns == self._last_ns:
            return False
        backward = self._last_ns is not None and t_ns < self._last_ns
        forward = self._min_lag_ns is not None and lag_ns < self._min_lag_ns - _JUMP_NS
        if backward or forward:
            self._leaps += 1
            if self._leaps < 2:
                return False
            self.epoch += 1
            self._min_lag_ns = None
        self._leaps = 0
        self._last_ns = t_ns
        self._min_lag_ns = lag_ns if self._min_lag_ns is None else min(self._min_lag_ns, lag_ns)
        return True
