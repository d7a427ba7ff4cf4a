"""How much of the analysis to skip when the computer cannot keep up. Pure: takes the time and the delay."""

from __future__ import annotations

from device.records import NS_PER_MS, NS_PER_S

MAX_STEP = 2  # 1: fewer face detections, 2: also every second block of lip windows
_LATE_NS = 700 * NS_PER_MS  # a block of the encoders may take some 100 ms on the smallest device
_EARLY_NS = 300 * NS_PER_MS
_FAR_BEHIND_NS = 1200 * NS_PER_MS
_UP_AFTER_NS = 2 * NS_PER_S  # each step must have had time to work before the next
_DOWN_AFTER_NS = 20 * NS_PER_S
_LONGEST_DOWN_AFTER_NS = 640 * NS_PER_S
_OVERLOADED_NS = 5 * NS_PER_S


class Load:
    """The load step: up while items wait too long in the queue, down after they have not for long enough.

    A step down that must be taken back doubles the time before the next attempt.
    """

    def __init__(self) -> None:
        self.step = 0
        self._changed_ns: int | None = None
        self._late_ns: int | None = None  # when an item was last late, or nearly late
        self._overloaded_ns: int | None = None
        self._was_down = False  # the last change
        self._dropped = 0
        self._down_after_ns = _DOWN_AFTER_NS

    def update(self, now_ns: int, waited_ns: int, dropped: int) -> int:
        """The step to use from now on. waited_ns: of the current item; dropped: the queue's total so far."""
        if dropped > self._dropped or waited_ns > _FAR_BEHIND_NS:
            self._overloaded_ns = now_ns
        late = waited_ns > _LATE_NS or dropped > self._dropped
        self._dropped = dropped
        if late or waited_ns > _EARLY_NS or self._late_ns is None:
            self._late_ns = now_ns
        since_ns = now_ns - self._changed_ns if self._changed_ns is not None else _LONGEST_DOWN_AFTER_NS
        if late and self.step < MAX_STEP and since_ns >= _UP_AFTER_NS:
            if self._was_down:
                again = since_ns < _DOWN_AFTER_NS
                self._down_after_ns = min(2 * self._down_after_ns, _LONGEST_DOWN_AFTER_NS) if again else _DOWN_AFTER_NS
            self.step, self._changed_ns, self._was_down = self.step + 1, now_ns, False
        elif self.step and now_ns - self._late_ns >= self._down_after_ns:
            self.step, self._changed_ns, self._was_down = self.step - 1, now_ns, True
            self._late_ns = now_ns
        return self.step

    def overloaded(self, now_ns: int) -> bool:
        """Whether items were recently lost for lack of time, or nearly so."""
        return self._overloaded_ns is not None and now_ns - self._overloaded_ns < _OVERLOADED_NS
