"""Blocks of sound joined to longer ones: what follows costs its calls rather than its samples."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from device.records import NS_PER_S, Chunk

_MAX_JOIN_ERROR_NS = 500_000  # less than 16 kHz can show in a mel row; beyond, the joint's own time must be kept


class ChunkJoiner:
    """Chunks in, chunks of at least `length_ns` out; a gap, a jump or another rate ends one early.

    Joined chunks have the number and time of their first part, so their samples are off by less than 0.5 ms.
    """

    def __init__(self, length_ns: int) -> None:
        self._length_ns = length_ns
        self._parts: list[Chunk] = []
        self._held_samples = 0

    def push(self, chunk: Chunk) -> Iterator[Chunk]:
        """Take one; give what is long enough, or what this one does not continue."""
        if self._parts and not self._continues(chunk):
            yield from self.finish()
        self._parts.append(chunk)
        self._held_samples += len(chunk.samples)
        if self._held_samples * NS_PER_S >= self._length_ns * chunk.rate_hz:
            yield from self.finish()

    def finish(self) -> Iterator[Chunk]:
        """What is held, however short."""
        parts, self._parts, self._held_samples = self._parts, [], 0
        if parts:
            first = parts[0]
            samples = np.concatenate([part.samples for part in parts])
            yield Chunk(first.seq, first.t_ns, first.rate_hz, samples)

    def _continues(self, chunk: Chunk) -> bool:
        first = self._parts[0]
        expected_ns = first.t_ns + self._held_samples * NS_PER_S // first.rate_hz
        return chunk.rate_hz == first.rate_hz and abs(chunk.t_ns - expected_ns) <= _MAX_JOIN_ERROR_NS
