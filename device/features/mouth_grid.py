"""Mouth crops on the 25 Hz grid of the common clock, whatever the camera's rate.

Tick k is the image at time k * 40 ms, a linear blend of the frames before and after it. Ticks without a face, inside a
gap, or between two tracks are blank and marked invalid.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from device.features.contract import FRONT_END, LIP_TICK_NS
from device.features.mouth import MouthCrop
from device.records import NS_PER_MS, GrayImage

Crops = npt.NDArray[np.uint8]  # [ticks, height, width]
Flags = npt.NDArray[np.bool_]  # [ticks]

_LEVELS = np.arange(256, dtype=np.float64)
_MAX_GAP_NS = FRONT_END.lip_max_frame_gap_ms * NS_PER_MS


class LipGrid:
    """Mouth crops in time order in, (first tick, crops, valid) out."""

    def __init__(self, crop_px: int = FRONT_END.crop_px) -> None:
        self._blank = np.zeros((crop_px, crop_px), np.uint8)
        self._before: MouthCrop | None = None
        self._next_tick = 0

    def push(self, after: MouthCrop) -> tuple[int, Crops, Flags]:
        """Return the ticks up to this crop's time that have not been returned yet."""
        before, self._before = self._before, after
        first = self._next_tick if before else -(-after.t_ns // LIP_TICK_NS)
        end = after.t_ns // LIP_TICK_NS + 1
        # A recording that jumps ahead by hours must not fill the memory with blank ticks.
        first = max(first, -(-(after.t_ns - 10 * _MAX_GAP_NS) // LIP_TICK_NS))
        self._next_tick = max(end, first)
        pictures = [_blend(before, after, tick * LIP_TICK_NS) for tick in range(first, end)]
        crops = [self._blank if picture is None else picture for picture in pictures]
        shape = (0, *self._blank.shape)
        return (
            first,
            np.stack(crops) if crops else np.empty(shape, np.uint8),
            np.array([picture is not None for picture in pictures], np.bool_),
        )


def _blend(before: MouthCrop | None, after: MouthCrop, t_ns: int) -> GrayImage | None:
    if after.t_ns == t_ns:
        return after.crop
    if before is None or before.crop is None or after.crop is None or before.track != after.track:
        return None
    gap_ns = after.t_ns - before.t_ns
    if gap_ns > _MAX_GAP_NS:
        return None
    weight = (t_ns - before.t_ns) / gap_ns
    return np.asarray(cv2.addWeighted(before.crop, 1 - weight, after.crop, weight, 0), np.uint8)


def normalize(crops: Crops) -> npt.NDArray[np.float32]:
    """Normalise each crop of [..., height, width] to mean 0 and about unit contrast, within [-3, 3]."""
    size = crops.shape[-2:]
    out = np.empty(crops.shape, np.float32)
    # There are only 256 levels: each crop's are computed once and then looked up.
    for crop, normal in zip(crops.reshape(-1, *size), out.reshape(-1, *size), strict=True):
        mean, contrast = cv2.meanStdDev(crop)
        normal_levels = (_LEVELS - mean) / max(contrast.item(), FRONT_END.crop_contrast_floor)
        cv2.LUT(crop, np.clip(normal_levels, -3, 3, dtype=np.float32), normal)
    return out
