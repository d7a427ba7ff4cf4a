"""Voice activity: WebRTC's detector on the 10 ms grid of the common clock.

A tick counts as speech if the detector fires within 50 ms of it, because lips move just before and after the sound.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import webrtcvad

from device.features.contract import AUDIO_RATE_HZ, AUDIO_TICK_NS
from device.records import NS_PER_S, Chunk

_BLOCK_SAMPLES = AUDIO_RATE_HZ * 30 // 1000
_BLOCK_TICKS = 3
_REACH_TICKS = 5
_AGGRESSIVENESS = 2
_MIN_LEVEL = 10 ** (-60 / 20)  # full scale is 1: below -60 dB nothing counts as speech, whatever the detector says


class SpeechStream:
    """Chunks in, (first tick, speech flags) out; flags come one block (30 ms) at a time."""

    def __init__(self) -> None:
        self._vad = webrtcvad.Vad(_AGGRESSIVENESS)
        self._samples = np.empty(0, np.float32)
        self._tick: int | None = None  # of the first buffered sample
        self._classified_to: int | None = None

    def push(self, chunk: Chunk) -> tuple[int, npt.NDArray[np.bool_]]:
        """Return the flags of the blocks that this chunk completes.

        A gap skips its ticks; no tick is returned twice.
        """
        t_ns = chunk.t_ns - len(self._samples) * NS_PER_S // chunk.rate_hz
        # Within a tick it is rounding, or a clock off by some ppm; beyond that, a new block starts here.
        if self._tick is None or abs(t_ns - self._tick * AUDIO_TICK_NS) > AUDIO_TICK_NS:
            self._samples = np.empty(0, np.float32)
            self._tick = round(chunk.t_ns / AUDIO_TICK_NS)
        self._samples = np.concatenate([self._samples, chunk.samples])
        count = len(self._samples) // _BLOCK_SAMPLES
        blocks = self._samples[: count * _BLOCK_SAMPLES].reshape(count, _BLOCK_SAMPLES)
        self._samples = self._samples[count * _BLOCK_SAMPLES :]
        flags = np.repeat(np.array(self._speaks(blocks), np.bool_), _BLOCK_TICKS)
        first = self._tick if self._classified_to is None else max(self._tick, self._classified_to)
        flags = flags[first - self._tick :]
        self._tick += count * _BLOCK_TICKS
        self._classified_to = first + len(flags)
        return first, flags

    def _speaks(self, blocks: npt.NDArray[np.float32]) -> list[bool]:
        loud = np.sqrt(np.mean(blocks**2, axis=1)) >= _MIN_LEVEL
        pcm = np.clip(np.rint(blocks * 32767), -32768, 32767).astype("<i2")
        return [
            heard and bool(self._vad.is_speech(block.tobytes(), AUDIO_RATE_HZ))
            for heard, block in zip(loud.tolist(), pcm, strict=True)
        ]


class SpeechMemory:
    """The flags of the last `ticks` ticks, for queries about any stretch of them."""

    def __init__(self, ticks: int) -> None:
        self._tick_of = np.full(ticks, -1 << 62, np.int64)  # tick k is stored at k modulo ticks
        self._flags = np.zeros(ticks, np.bool_)
        self._end = -1 << 62

    def add(self, first: int, flags: npt.NDArray[np.bool_]) -> None:
        """Add flags of ticks after all earlier ones."""
        if first > self._end:  # the ticks in between are silent
            self._flags[np.arange(max(self._end, first - len(self._flags)), first) % len(self._flags)] = False
        ticks = first + np.arange(len(flags))
        at = ticks % len(self._flags)
        self._tick_of[at], self._flags[at] = ticks, flags
        self._end = max(self._end, first + len(flags))

    def between(self, first: int, end: int) -> npt.NDArray[np.bool_]:
        """The flags from `first` to before `end`, without unknown ticks."""
        ticks = np.arange(max(first, self._end - len(self._flags)), min(end, self._end))
        at = ticks % len(self._flags)
        return self._flags[at][self._tick_of[at] == ticks]

    def newest(self, ticks: int) -> npt.NDArray[np.bool_]:
        """The flags of the last ticks, none before any were added; unknown ones are silent. Cheaper than `between`."""
        wanted = ticks if self._end >= 0 else 0
        return self._flags.take(np.arange(self._end - wanted, self._end), mode="wrap")


def widen(flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Also set the flags of ticks within 50 ms of one that is set."""
    kernel = np.ones(2 * _REACH_TICKS + 1)
    return np.convolve(flags, kernel, "same") > 0.5 if len(flags) >= len(kernel) else np.full_like(flags, flags.any())
