"""What camera and microphone deliver now, for viewers of the page: only the latest, and only while someone watches.

The measuring thread puts references to existing data into bounded slots and goes on. The viewer takes them in a thread
of its own and does all the work. Nothing here waits, and nothing is kept while nobody watches.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from device.records import Chunk, Frame, SeenFace

_MAX_CHUNKS = 100  # 2 s of 20 ms blocks

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Scene:
    """The faces in view, and whether someone is speaking; None where unknown."""

    put_ns: int
    faces: tuple[SeenFace, ...]
    speech: bool | None


@dataclass(frozen=True, slots=True)
class Curve:
    """The last window's evidence in nats and the current probability of each candidate offset from `first_ms` on."""

    put_ns: int
    first_ms: float
    step_ms: float
    evidence: Floats
    probability: Floats


class LiveView:
    """Slots between one writing and one reading thread. Each slot is replaced as a whole, so none needs a lock."""

    def __init__(self) -> None:
        self.until_ns = 0  # nobody watches from then on
        self._chunks: deque[Chunk] = deque(maxlen=_MAX_CHUNKS)
        self._clear()

    def _clear(self) -> None:
        self.frame: tuple[int, Frame] | None = None  # with the time at which it was put, on the clock
        self.frames = 0  # number of frames put since someone watches
        self.scene: Scene | None = None
        self.curve: Curve | None = None
        self._chunks.clear()

    # For the viewer

    def watch_until(self, until_ns: int) -> None:
        """Keep everything that is put until then."""
        self.until_ns = until_ns

    def leave(self) -> None:
        """Nobody watches any more."""
        self.until_ns = 0
        self._clear()

    def pop_chunks(self) -> list[Chunk]:
        """The audio since the last call, at most two seconds."""
        return [self._chunks.popleft() for _ in range(len(self._chunks))]

    # For the measuring thread

    def is_watched(self, now_ns: int) -> bool:
        return now_ns < self.until_ns

    def put(self, item: Frame | Chunk, now_ns: int) -> None:
        if isinstance(item, Frame):
            self.frame = now_ns, item
            self.frames += 1
        else:
            self._chunks.append(item)
