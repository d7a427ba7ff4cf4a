"""What the measuring thread gives to the live view: microseconds per item, and nothing while nobody watches."""

from __future__ import annotations

from device.analysis.analyzer import Analyzer
from device.analysis.offset_tracker import OffsetTracker
from device.records import NS_PER_MS, Chunk, Frame
from device.reporting.live_view import Curve, LiveView, Scene
from device.state.rig import Rig
from device.sync.curve import TICK_MS

_SCENE_EVERY_NS = 190 * NS_PER_MS
_SPEECH_NS = 300 * NS_PER_MS  # the stretch behind the speech indicator


class LiveFeed:
    """Puts items, faces and curves into a LiveView while someone watches."""

    def __init__(self, view: LiveView) -> None:
        self._view = view
        self._next_ns = 0

    def item(self, item: Frame | Chunk, analyzer: Analyzer, now_ns: int) -> None:
        """Put an item that the analyzer has taken."""
        view = self._view
        if now_ns >= view.until_ns:  # not by a call: there are 75 items a second
            return
        view.put(item, now_ns)
        if now_ns >= self._next_ns:
            self._next_ns = now_ns + _SCENE_EVERY_NS
            view.scene = Scene(now_ns, analyzer.seen, analyzer.spoke_within(_SPEECH_NS))

    def curves(self, analyzer: Analyzer, tracker: OffsetTracker, rig: Rig | None, now_ns: int) -> None:
        """Put the curves behind the current report, on the scale of its offset."""
        if not self._view.is_watched(now_ns) or (found := tracker.curves()) is None:
            return
        zero_ms = analyzer.calibration.zero_offset_ms + (rig.bias_ms if rig else 0.0)
        first_ms = -analyzer.reach_ticks * TICK_MS - zero_ms
        self._view.curve = Curve(now_ns, round(first_ms, 2), TICK_MS, *found)
