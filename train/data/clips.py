"""The audio of a clip in one piece."""

from __future__ import annotations

import numpy as np

from device.features.contract import AUDIO_RATE_HZ
from device.records import NS_PER_S, Chunk


def join(chunks: list[Chunk]) -> tuple[np.ndarray[tuple[int], np.dtype[np.float32]], int]:
    """All samples in one array, placed by their times, and the time of the first one."""
    t_ns = chunks[0].t_ns
    starts = [round((chunk.t_ns - t_ns) * AUDIO_RATE_HZ / NS_PER_S) for chunk in chunks]
    samples = np.zeros(max(start + len(chunk.samples) for start, chunk in zip(starts, chunks, strict=True)), np.float32)
    end = 0
    for start, chunk in zip(starts, chunks, strict=True):
        # Chunk times are smooth to a sample or two; only a real gap may leave a hole.
        start = end if abs(start - end) < AUDIO_RATE_HZ // 50 else start
        end = start + len(chunk.samples)
        if end > len(samples):
            samples = np.pad(samples, (0, end - len(samples)))
        samples[start:end] = chunk.samples
    return samples, t_ns
