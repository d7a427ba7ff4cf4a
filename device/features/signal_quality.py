"""Faults in video and audio that do arrive: frozen, black, silent or clipped.

A sensor's noise makes no two frames and no two blocks of audio identical, so an exact repeat comes from a hanging
driver, a capture card without a signal or a muted microphone. A fault must hold for a while, by the items' own times,
and be absent for a while before it ends. A pause in the items restarts both delays.
Costs well below a millisecond per item, because frames are sampled on a coarse grid.
"""

from __future__ import annotations

import numpy as np

from device.pictures import brightness
from device.records import NS_PER_MS, NS_PER_S, Chunk, Fault, Frame, GrayImage

# Clipped audio carries less evidence, but not wrong evidence: the confidence takes care of it.
SPOILS_NUMBERS = frozenset({Fault.CAMERA_FROZEN, Fault.CAMERA_BLACK, Fault.MICROPHONE_SILENT})

_PAUSE_NS = NS_PER_S
_GRID_POINTS = 160  # along the longer side
_CHECK_EVERY_NS = 190 * NS_PER_MS
_KEPT_PICTURES = 4  # a hanging driver may return its few buffers in turn
_SAME_SHARE = 0.0002  # share of grid points that may differ, through noise of a lossy transport
_STILL_NS = 400 * NS_PER_MS  # some sources repeat single frames to keep up a rate
_FROZEN_AFTER_NS = 2 * NS_PER_S - _STILL_NS
_BLACK_AFTER_NS = NS_PER_S
_SILENT_AFTER_NS = 2 * NS_PER_S
_OVER_AFTER_NS = NS_PER_S // 2
_BLACK_MEAN, _BLACK_STD = 28.0, 7.0  # video black is 16, and a covered sensor adds noise
_SILENT_RANGE = 1e-5  # a third of the smallest 16-bit step
_CLIPPED_LEVEL = 0.985  # resampling rounds off clipped peaks
_CLIPPED_SHARE, _UNCLIPPED_SHARE = 0.02, 0.004
_CLIPPING_S = 1.0  # time constant of the mean


class _Held:
    """A condition that switches on after it has held for `on_ns`, and off after it has not for `off_ns`."""

    def __init__(self, on_ns: int, off_ns: int = _OVER_AFTER_NS) -> None:
        self._on_ns, self._off_ns = on_ns, off_ns
        self.on = False
        self._since_ns = self._last_ns = 0  # since when it has differed from `on`

    def update(self, t_ns: int, holds: bool) -> None:
        if holds is self.on or not 0 <= t_ns - self._last_ns <= _PAUSE_NS:
            self._since_ns = t_ns
        elif t_ns - self._since_ns >= (self._off_ns if self.on else self._on_ns):
            self.on, self._since_ns = holds, t_ns
        self._last_ns = t_ns


class PictureMonitor:
    """Detects frozen and black frames."""

    def __init__(self) -> None:
        self._frozen, self._black = _Held(_FROZEN_AFTER_NS), _Held(_BLACK_AFTER_NS)
        self._kept: list[GrayImage] = []
        self._new_ns = 0

    @property
    def fault(self) -> str | None:
        # Black frames are often repeated as well; black is the more useful fault.
        return Fault.CAMERA_BLACK if self._black.on else Fault.CAMERA_FROZEN if self._frozen.on else None

    def push(self, frame: Frame) -> None:
        grid = brightness(frame.picture, max(1, max(frame.picture.shape[:2]) // _GRID_POINTS))
        black = float(grid.mean()) < _BLACK_MEAN and float(grid.std()) < _BLACK_STD
        if self._is_new(grid) or frame.t_ns < self._new_ns:
            self._new_ns = frame.t_ns
        self._black.update(frame.t_ns, black)
        self._frozen.update(frame.t_ns, frame.t_ns - self._new_ns > _STILL_NS)

    def _is_new(self, grid: GrayImage) -> bool:
        most = _SAME_SHARE * grid.size
        if any(kept.shape == grid.shape and np.count_nonzero(kept != grid) <= most for kept in self._kept):
            return False
        self._kept = [*self._kept[1 - _KEPT_PICTURES :], grid]
        return True


class SoundMonitor:
    """Detects audio that is constant, and audio beyond full scale."""

    def __init__(self) -> None:
        self._silent = _Held(_SILENT_AFTER_NS)
        self._clipped = False
        self._clipped_share = 0.0

    @property
    def fault(self) -> str | None:
        return Fault.MICROPHONE_SILENT if self._silent.on else Fault.MICROPHONE_CLIPPED if self._clipped else None

    def push(self, chunk: Chunk) -> None:
        if not len(chunk.samples):
            return
        low, high = float(chunk.samples.min()), float(chunk.samples.max())
        self._silent.update(chunk.t_ns, high - low < _SILENT_RANGE)
        share = 0.0
        if max(high, -low) >= _CLIPPED_LEVEL:
            share = float(np.count_nonzero(np.abs(chunk.samples) >= _CLIPPED_LEVEL)) / len(chunk.samples)
        kept = float(np.exp(-len(chunk.samples) / chunk.rate_hz / _CLIPPING_S))
        self._clipped_share = kept * self._clipped_share + (1 - kept) * share
        self._clipped = self._clipped_share > (_UNCLIPPED_SHARE if self._clipped else _CLIPPED_SHARE)


class QualityMonitor:
    """Detects faults of both. Takes all items in any order; `fault` is the current fault, or None.

    About five frames a second are checked.
    """

    def __init__(self) -> None:
        self.pictures, self.sound = PictureMonitor(), SoundMonitor()
        self._checked_ns: int | None = None

    @property
    def fault(self) -> str | None:
        """A fault word; one in SPOILS_NUMBERS comes first."""
        found = [fault for fault in (self.pictures.fault, self.sound.fault) if fault]
        return next((fault for fault in found if fault in SPOILS_NUMBERS), found[0] if found else None)

    def push(self, item: Frame | Chunk) -> None:
        if isinstance(item, Frame):
            if self._checked_ns is None or not 0 <= item.t_ns - self._checked_ns < _CHECK_EVERY_NS:
                self._checked_ns = item.t_ns
                self.pictures.push(item)
        else:
            self.sound.push(item)
