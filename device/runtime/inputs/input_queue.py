"""The bounded queue between the source threads and the measuring thread.

Frames and chunks have separate limits, so that a slow consumer never loses one kind because of the other. Items are
taken in the order in which they were put; only their time stamps say which belong together.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

from device.clock import Clock
from device.features.chunks import ends_step
from device.records import Chunk, Frame

MAX_FRAMES = 40  # 1.6 s at 25 fps
MAX_PICTURE_BYTES = 64_000_000  # 1.6 s at 25 fps and 720p; fewer of larger frames
MAX_CHUNKS = 100  # 2 s of 20 ms blocks, 5 s of a microphone's


@dataclass(frozen=True, slots=True)
class QueuedItem:
    """An item with its source, the session of that source, and its number in order of arrival."""

    item: Frame | Chunk
    part: str
    session: int
    queued_ns: int
    number: int


class InputQueue:
    """A queue of bounded numbers of frames and chunks. Drops and counts the oldest, or makes the producer wait.

    `changed` guards it, and whatever else its users must change together with it.
    """

    def __init__(
        self, clock: Clock, *, drop_oldest: bool, max_frames: int = MAX_FRAMES, max_chunks: int = MAX_CHUNKS
    ) -> None:
        self.changed = threading.Condition()
        self.video_dropped = self.audio_dropped = 0
        self.overflowed = 0  # the part of both that was dropped here
        self._clock, self._drop_oldest = clock, drop_oldest
        self._max_frames, self._max_chunks = max_frames, max_chunks
        self._frames: deque[QueuedItem] = deque()
        self._chunks: deque[QueuedItem] = deque()
        self._picture_bytes = self._count = 0
        self._closed = False
        self._gathering = threading.Condition()
        self._audio_arrived = False

    def put(self, item: Frame | Chunk, part: str = "", session: int = 0) -> bool:
        """Add an item; False once the consumer has closed the queue."""
        with self.changed:
            items = self._frames if isinstance(item, Frame) else self._chunks
            if not self._drop_oldest:
                self._clock.wait_for(self.changed, lambda: not self._is_full(items) or self._closed)
            if self._closed:
                return False
            while self._is_full(items):
                self._picture_bytes -= _picture_bytes(items.popleft().item)
                self.overflowed += 1
                self.count_dropped(item)
            self._count += 1
            self._picture_bytes += _picture_bytes(item)
            items.append(QueuedItem(item, part, session, self._clock.now_ns(), self._count))
            self.changed.notify_all()
        if isinstance(item, Chunk) and ends_step(item):
            with self._gathering:
                self._audio_arrived = True
                self._gathering.notify_all()
        return True

    def count_dropped(self, like: Frame | Chunk, count: int = 1) -> None:
        """Count lost items of this kind."""
        with self.changed:
            if isinstance(like, Frame):
                self.video_dropped += count
            else:
                self.audio_dropped += count

    def get(self, timeout_s: float) -> QueuedItem | None:
        """The next item; None at the end. Raises TimeoutError if nothing comes in time."""
        with self.changed:
            if not self._clock.wait_for(
                self.changed, lambda: bool(self._frames or self._chunks or self._closed), timeout_s
            ):
                raise TimeoutError
            waiting_items = [items for items in (self._frames, self._chunks) if items]
            if not waiting_items:
                return None
            self.changed.notify_all()
            given = min(waiting_items, key=lambda items: items[0].number).popleft()
            self._picture_bytes -= _picture_bytes(given.item)
            return given

    @property
    def waiting(self) -> bool:
        """Whether `get` would return at once."""
        return bool(self._frames or self._chunks)

    def gather(self, timeout_s: float) -> None:
        """Let items gather until audio comes, because each wake-up costs more than the work for one item."""
        with self._gathering:
            self._clock.wait_for(self._gathering, lambda: self._audio_arrived or self._closed, timeout_s)
            self._audio_arrived = False

    def fill(self) -> float:
        """Fill level of the fuller lane: 0 is empty, 1 is full."""
        return max(
            len(self._frames) / self._max_frames, self._picture_bytes / MAX_PICTURE_BYTES,
            len(self._chunks) / self._max_chunks,
        )  # fmt: skip

    def _is_full(self, items: deque[QueuedItem]) -> bool:
        if items is self._chunks:
            return len(items) >= self._max_chunks
        return len(items) >= self._max_frames or self._picture_bytes >= MAX_PICTURE_BYTES

    def close(self, *, discard: bool = False) -> None:
        with self.changed:
            self._closed = True
            if discard:
                self._frames.clear()
                self._chunks.clear()
                self._picture_bytes = 0
            self.changed.notify_all()


def _picture_bytes(item: Frame | Chunk) -> int:
    return item.picture.nbytes if isinstance(item, Frame) else 0
