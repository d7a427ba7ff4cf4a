"""Locks exposure, white balance and focus: the camera settles them, then they are held.

While a camera adjusts itself, brightness, blur and the size of the face change, and the lip encoder takes that for
movement. So the automatic controls run for a moment after the start, then their values are held, with the exposure
limited to MAX_EXPOSURE_US, because a long one blurs the mouth. If the image has been much brighter, darker or less
sharp for more than a second, they run again. A camera that does not report its values (most USB cameras) stays
automatic.

Control names and numbers are libcamera's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from device.records import NS_PER_S

Controls: TypeAlias = dict[str, object]

MAX_EXPOSURE_US = 20_000  # half a frame at 25 fps, a "180 degree shutter" in film terms
MIN_SETTLE_NS = NS_PER_S
MAX_SETTLE_NS = 5 * NS_PER_S
CHANGED_FOR_NS = NS_PER_S
_BRIGHTER = 1.5  # by this factor, or darker by as much; images are gamma-coded, so about twice the light
_DARK = 8.0  # of 255: below it only noise changes
_MIN_SHARPNESS_RATIO = 0.5
_AE_SHORT, _AE_SEARCHING, _AF_MANUAL, _AF_CONTINUOUS, _AF_SCANNING = 1, 1, 0, 2, 1


class ExposureLock:
    """Decides which controls to set, and when.

    limits: the camera's controls, each with its lowest, highest and default value.
    """

    def __init__(self, limits: Mapping[str, tuple[object, object, object]]) -> None:
        self._limits = limits
        self._since_ns: int | None = None  # start of the automatic phase; None before the first frame
        self._locked: tuple[float, float | None] | None = None  # brightness and sharpness when they were locked
        self._changed_since_ns: int | None = None

    def automatic(self) -> Controls:
        """The controls that let the camera adjust itself. Exposure and gain of 0 release the held values."""
        wanted: Controls = {"AeEnable": True, "ExposureTime": 0, "AnalogueGain": 0.0, "AeExposureMode": _AE_SHORT}
        wanted |= {"AwbEnable": True, "AfMode": _AF_CONTINUOUS}
        return {name: value for name, value in wanted.items() if name in self._limits}

    def observe(self, t_ns: int, metadata: Mapping[str, object], brightness: float) -> Controls:
        """Take one frame's time, metadata and mean brightness (0 to 255); return the controls to set, often none."""
        if self._since_ns is None:
            self._since_ns = t_ns
        sharpness = _number(metadata, "FocusFoM")
        if self._locked is None:
            if not self._settled(t_ns - self._since_ns, metadata):
                return {}
            self._locked, self._changed_since_ns = (brightness, sharpness), None
            return self._lock(metadata)
        if not _changed(self._locked, (brightness, sharpness)):
            self._changed_since_ns = None
            return {}
        if self._changed_since_ns is None:
            self._changed_since_ns = t_ns
        if t_ns - self._changed_since_ns < CHANGED_FOR_NS:
            return {}
        self._locked, self._since_ns = None, t_ns
        return self.automatic()

    def _settled(self, for_ns: int, metadata: Mapping[str, object]) -> bool:
        moving = metadata.get("AeState") == _AE_SEARCHING or metadata.get("AeLocked") is False
        moving = moving or metadata.get("AfState") == _AF_SCANNING
        return for_ns >= (MAX_SETTLE_NS if moving else MIN_SETTLE_NS)

    def _lock(self, metadata: Mapping[str, object]) -> Controls:
        controls: Controls = {}
        exposure_us, gain = _number(metadata, "ExposureTime"), _number(metadata, "AnalogueGain")
        if exposure_us and gain and {"AeEnable", "ExposureTime", "AnalogueGain"} <= set(self._limits):
            shorter = max(1.0, exposure_us / MAX_EXPOSURE_US)
            highest = self._limits["AnalogueGain"][1]
            gain = min(gain * shorter, highest) if isinstance(highest, int | float) else gain
            controls |= {"AeEnable": False, "ExposureTime": round(exposure_us / shorter), "AnalogueGain": gain}
        if "ColourGains" in metadata and {"AwbEnable", "ColourGains"} <= set(self._limits):
            controls |= {"AwbEnable": False, "ColourGains": metadata["ColourGains"]}
        if "LensPosition" in metadata and {"AfMode", "LensPosition"} <= set(self._limits):
            controls |= {"AfMode": _AF_MANUAL, "LensPosition": metadata["LensPosition"]}
        return controls


def _number(metadata: Mapping[str, object], name: str) -> float | None:
    value = metadata.get(name)
    return float(value) if isinstance(value, int | float) else None


def _changed(locked: tuple[float, float | None], seen: tuple[float, float | None]) -> bool:
    before, now = max(locked[0], _DARK), max(seen[0], _DARK)
    if not 1 / _BRIGHTER < now / before < _BRIGHTER:
        return True
    return locked[1] is not None and seen[1] is not None and seen[1] < _MIN_SHARPNESS_RATIO * locked[1]
