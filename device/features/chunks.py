"""Joins chunks of audio into longer ones, because later stages cost per call rather than per sample.

Joined chunks end on a time grid that the audio encoder's blocks also end on, so that nothing waits for the rest of one.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from device.features.contract import AUDIO_RATE_HZ, AUDIO_TICK_NS, FRONT_END
from device.records import NS_PER_MS, NS_PER_S, Chunk

_STEP_NS = 100 * NS_PER_MS  # longer chunks cost less, but come later
# An encoder block ends with the tick before a whole second's; the windows of its last row reach a little further.
_PHASE_NS = (
    (FRONT_END.audio_window_ticks // 2 - 1) * AUDIO_TICK_NS
    + FRONT_END.stft_window_samples * NS_PER_S // (2 * AUDIO_RATE_HZ)
    + NS_PER_MS  # margin for rounding
) % _STEP_NS
_MAX_JOIN_ERROR_NS = 500_000  # less than 16 kHz can show in a mel row; beyond, the chunk's own time must be kept


def ends_step(chunk: Chunk) -> bool:
    """Whether a step of the grid ends within this chunk."""
    end_ns = chunk.t_ns + len(chunk.samples) * NS_PER_S // chunk.rate_hz
    return (end_ns - _PHASE_NS) // _STEP_NS > (chunk.t_ns - _PHASE_NS) // _STEP_NS


class ChunkJoiner:
    """Joins chunks so that each ends a step of the grid; a gap, a jump or another rate ends one early.

    Joined chunks have the number and time of their first part, so their samples are off by less than 0.5 ms.
    """

    def __init__(self) -> None:
        self._parts: list[Chunk] = []
        self._held_samples = 0

    def push(self, chunk: Chunk) -> Iterator[Chunk]:
        """Take one chunk; yield complete ones, or the held one if the new chunk does not continue it."""
        if self._parts and not self._continues(chunk):
            yield from self.finish()
        self._parts.append(chunk)
        self._held_samples += len(chunk.samples)
        if ends_step(chunk):
            yield from self.finish()

    def finish(self) -> Iterator[Chunk]:
        """Yield the held chunk, however short."""
        parts, self._parts, self._held_samples = self._parts, [], 0
        if parts:
            first = parts[0]
            samples = np.concatenate([part.samples for part in parts])
            yield Chunk(first.seq, first.t_ns, first.rate_hz, samples)

    def _continues(self, chunk: Chunk) -> bool:
        first = self._parts[0]
        expected_ns = first.t_ns + self._held_samples * NS_PER_S // first.rate_hz
        return chunk.rate_hz == first.rate_hz and abs(chunk.t_ns - expected_ns) <= _MAX_JOIN_ERROR_NS
