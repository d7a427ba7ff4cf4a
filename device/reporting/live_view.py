"""What is seen and heard now, for whoever looks on: only the latest, and only while somebody looks.

The thread that measures puts references to what it has anyway into bounded slots and goes on; whoever looks takes them
in a thread of its own and does all the work. Nothing here waits, and nothing is kept once nobody looks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from device.records import Chunk, Frame, SeenFace

_MAX_CHUNKS = 100  # 2 s of 20 ms blocks

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Scene:
    """Who is in the picture, and whether somebody speaks; None where that is not known."""

    put_ns: int
    faces: tuple[SeenFace, ...]
    speech: bool | None


@dataclass(frozen=True, slots=True)
class Curve:
    """For each candidate offset from `first_ms` on: the last window's evidence in nats, and its probability by now."""

    put_ns: int
    first_ms: float
    step_ms: float
    evidence: Floats
    probability: Floats


class LiveView:
    """Slots between one thread that puts and one that looks; each slot is replaced whole, so none needs a lock."""

    def __init__(self) -> None:
        self._until_ns = 0
        self._chunks: deque[Chunk] = deque(maxlen=_MAX_CHUNKS)
        self._clear()

    def _clear(self) -> None:
        self.frame: tuple[int, Frame] | None = None  # and when it was put, on the clock
        self.frames = 0  # put so far, since somebody looks
        self.scene: Scene | None = None
        self.curve: Curve | None = None
        self._chunks.clear()

    # For whoever looks

    def look(self, until_ns: int) -> None:
        """Have everything put until then."""
        self._until_ns = until_ns

    def leave(self) -> None:
        """Nobody looks any more."""
        self._until_ns = 0
        self._clear()

    def take_chunks(self) -> Iterator[Chunk]:
        """The sound since the last call, two seconds of it at most."""
        while self._chunks:
            yield self._chunks.popleft()

    # For whoever puts

    def wanted(self, now_ns: int) -> bool:
        return now_ns < self._until_ns

    def put(self, item: Frame | Chunk, now_ns: int) -> None:
        if isinstance(item, Frame):
            self.frame = now_ns, item
            self.frames += 1
        else:
            self._chunks.append(item)
