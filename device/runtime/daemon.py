"""The daemon: a source in one thread, the numeric chain in another, a report each second of what was captured.

At real-time pace the queue between the two is bounded and drops the oldest, counted; at full speed it waits instead.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from device.config import MeasureSettings
from device.records import NS_PER_S, Chunk, Frame, Report, State
from device.runtime.analyzer import Analyzer, SlidingWindow
from device.runtime.reporter import Reporter
from device.sync.track import LipEvidence
from device.towers.bundle import Bundle

QUEUE_ITEMS = 128  # about 2 s of 25 fps video and 20 ms blocks of sound
_POLL_S = 0.2  # how soon a waiting daemon notices `stop`: a signal handler must not take the queue's lock
_CHAIN_S = 3.0  # more than the numeric chain holds back, beside the search range


class Handover:
    """A queue between two threads of at most `size` items: drops the oldest, counted, or makes the giver wait."""

    def __init__(self, size: int, *, drop_oldest: bool) -> None:
        self._items: deque[Frame | Chunk] = deque()
        self._size, self._drop_oldest = size, drop_oldest
        self._changed = threading.Condition()
        self._closed = False
        self.video_dropped = self.audio_dropped = 0

    def put(self, item: Frame | Chunk) -> bool:
        """Hand one over; False when nobody takes any more."""
        with self._changed:
            while len(self._items) >= self._size and not self._drop_oldest and not self._closed:
                self._changed.wait()
            if self._closed:
                return False
            if len(self._items) >= self._size:
                if isinstance(self._items.popleft(), Frame):
                    self.video_dropped += 1
                else:
                    self.audio_dropped += 1
            self._items.append(item)
            self._changed.notify_all()
            return True

    def get(self, timeout_s: float) -> Frame | Chunk | None:
        """The next item; None at the end. Raises TimeoutError when nothing comes in time."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._items or self._closed, timeout_s):
                raise TimeoutError
            if not self._items:
                return None
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def close(self, *, discard: bool = False) -> None:
        with self._changed:
            self._closed = True
            if discard:
                self._items.clear()
            self._changed.notify_all()


def paced(items: Iterable[Frame | Chunk], stopped: threading.Event) -> Iterator[Frame | Chunk]:
    """The items of a recording, each when its time has come."""
    start_ns: int | None = None
    for item in items:
        now_ns = time.monotonic_ns()
        start_ns = now_ns - item.t_ns if start_ns is None else start_ns
        if stopped.wait(max(start_ns + item.t_ns - now_ns, 0) / NS_PER_S):
            return
        yield item


class Daemon:
    """Runs one source to its end, or until `stop`."""

    def __init__(
        self,
        bundle: Bundle,
        face_model: Path,
        settings: MeasureSettings,
        publish: Callable[[Report, float | None], None],
    ) -> None:
        """`publish` takes each report and the time in the recording, in seconds from its first item."""
        self._analyzer = Analyzer(bundle, face_model, search_ms=settings.search_ms)
        self._window = SlidingWindow(settings.window_s)
        self._reporter = Reporter(bundle.label, settings.profile, settings.window_s)
        self._settings, self._publish = settings, publish
        self._stopped = threading.Event()
        self._next_report_ns: int | None = None
        self._alarm_ns: int | None = None  # the recording's time by which evidence must have come
        self._seen_ns = 0  # time of the newest item
        self._origin_ns: int | None = None
        self._pace_ns: int | None = None  # monotonic time less the recording's time

    def stop(self) -> None:
        """End soon; safe in a signal handler."""
        self._stopped.set()

    def run(self, items: Iterable[Frame | Chunk], *, realtime: bool) -> None:
        """Measure until the source ends. What the source raises is raised here, after the reports of what it gave."""
        queue = Handover(QUEUE_ITEMS, drop_oldest=realtime)
        failure: list[BaseException] = []

        def read() -> None:
            try:
                for item in paced(items, self._stopped) if realtime else items:
                    if self._stopped.is_set() or not queue.put(item):
                        return
            except BaseException as error:
                failure.append(error)
            finally:
                queue.close()

        reader = threading.Thread(target=read, name="source", daemon=True)
        reader.start()
        try:
            self._analyze(queue, realtime)
        finally:
            self._stopped.set()
            queue.close(discard=True)
            with suppress(RuntimeError):
                reader.join(timeout=1.5)
        if failure:
            raise failure[0]

    def _analyze(self, queue: Handover, realtime: bool) -> None:
        quiet_since_s = time.monotonic()
        while not self._stopped.is_set():
            try:
                item = queue.get(_POLL_S)
            except TimeoutError:
                if realtime and time.monotonic() - quiet_since_s >= self._settings.stalled_after_s:
                    quiet_since_s = time.monotonic()
                    self._send(queue, state=State.STALLED)
                continue
            if item is None:
                self._take(queue, self._analyzer.finish())
                return
            self._origin_ns = item.t_ns if self._origin_ns is None else self._origin_ns
            if realtime and self._pace_ns is None:
                self._pace_ns = time.monotonic_ns() - item.t_ns
            self._take(queue, self._analyzer.push(item))
            self._watch(queue, item.t_ns)
            quiet_since_s = time.monotonic()

    def _take(self, queue: Handover, rows: Iterable[LipEvidence]) -> None:
        for row in rows:
            self._window.push(row)
            self._alarm_ns = max(self._alarm_ns or row.t_ns, row.t_ns + self._patience_ns)
            self._report_when_due(queue, row.t_ns)

    def _watch(self, queue: Handover, t_ns: int) -> None:
        """Say so when one of the two tracks goes on alone, which gives no evidence and so no other report."""
        jumped = t_ns - self._seen_ns > NS_PER_S
        self._seen_ns = t_ns
        if self._alarm_ns is None or jumped:
            self._alarm_ns = t_ns + self._patience_ns
        if t_ns >= self._alarm_ns:
            self._alarm_ns = t_ns + round(self._settings.stalled_after_s * NS_PER_S)
            self._send(queue, state=State.STALLED, t_ns=t_ns)

    @property
    def _patience_ns(self) -> int:
        settings = self._settings
        return round((settings.stalled_after_s + settings.search_ms / 1000 + _CHAIN_S) * NS_PER_S)

    def _report_when_due(self, queue: Handover, t_ns: int) -> None:
        every_ns = round(self._settings.report_every_s * NS_PER_S)
        if self._next_report_ns is None:
            self._next_report_ns = t_ns + every_ns
        if t_ns < self._next_report_ns:
            return
        self._next_report_ns += every_ns
        if self._next_report_ns <= t_ns:  # after a jump in time the missed reports are not made up for
            self._next_report_ns = t_ns + every_ns
        behind_ns = time.monotonic_ns() - self._pace_ns - t_ns if self._pace_ns is not None else 0
        if behind_ns <= self._patience_ns:  # live, yesterday's offset helps nobody
            self._send(queue, t_ns=t_ns)

    def _send(self, queue: Handover, *, state: State | None = None, t_ns: int | None = None) -> None:
        result = self._window.result(self._analyzer) if state is None else None
        filled = result is not None and result.to_ns - result.from_ns >= 0.8 * self._settings.window_s * NS_PER_S
        if result is not None and not filled and result.state is not State.MEASURING:
            state = State.STARTING
        captured = self._pace_ns + result.to_ns if self._pace_ns is not None and result else None
        report = self._reporter.report(
            result, state=state, faces=self._analyzer.faces if result else None, video_dropped=queue.video_dropped,
            audio_dropped=queue.audio_dropped, captured_ns=captured,
        )  # fmt: skip
        origin_ns = self._origin_ns or 0
        self._publish(report, (t_ns - origin_ns) / NS_PER_S if t_ns is not None else None)
