"""From placed blocks at the microphone's rate to mono chunks at the model's rate, each with its own time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import av
import numpy as np
import numpy.typing as npt

from device.capture.microphones.audio_clock import Placed
from device.records import NS_PER_S, Chunk, Samples

CHUNK_MS = 50  # on a small computer each chunk costs more than its samples do
LEVEL_TIME_CONSTANT_S = 2.0
LOUDER = 4.0  # in power: 6 dB


class ChannelChoice:
    """Chooses one of several channels: the loudest over the past few seconds.

    Not their mean: on a stereo card with one microphone, half is silence or hum; the wires of a balanced microphone
    cancel each other; two capsules some centimetres apart comb-filter the speech. Another channel is chosen only once
    it is louder by 6 dB, so that the choice is stable.
    """

    def __init__(self, channels: int, rate_hz: int) -> None:
        self._power = np.zeros(channels)
        self._rate_hz = rate_hz
        self._chosen = 0

    def __call__(self, samples: npt.NDArray[np.float32]) -> Samples:
        """Samples [n, channels] to [n]."""
        weight = min(len(samples) / (LEVEL_TIME_CONSTANT_S * self._rate_hz), 1.0)
        self._power += weight * (samples.var(axis=0) - self._power)
        loudest = int(self._power.argmax())
        if self._power[loudest] > LOUDER * self._power[self._chosen]:
            self._chosen = loudest
        return np.ascontiguousarray(samples[:, self._chosen])


class PlacedSound:
    """Consecutive placed blocks in, chunks of CHUNK_MS out, with rising times and sequence numbers without gaps.

    A chunk's time is that of its first sample, interpolated between the times of the blocks. libswresample compensates
    its own delay: a click stays where it was. A new run begins with an empty resampler.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        self._from_hz, self._to_hz = from_hz, to_hz
        self._resampler: av.AudioResampler | None = None
        self._run = 0
        self._taken = self._given = 0  # samples of this run, in and out, each at its own rate
        self._places: deque[tuple[int, int]] = deque()  # number of a block's first sample in this run, and its time
        self._seq = 0

    def feed(self, samples: Samples, placed: Placed) -> Iterator[Chunk]:
        if self._resampler is None or placed.run != self._run:
            yield from self.flush()
            size = self._to_hz * CHUNK_MS // 1000
            self._resampler = av.AudioResampler("flt", "mono", self._to_hz, frame_size=size)
            self._run, self._taken, self._given = placed.run, 0, 0
            self._places.clear()
        self._places.append((self._taken, placed.t_ns))
        self._taken += len(samples)
        frame = av.AudioFrame.from_ndarray(samples[None, :], format="flt", layout="mono")
        frame.sample_rate = self._from_hz
        yield from self._resample(frame)

    def flush(self) -> Iterator[Chunk]:
        if self._resampler is not None:
            yield from self._resample(None)
            self._resampler = None

    def _resample(self, frame: av.AudioFrame | None) -> Iterator[Chunk]:
        assert self._resampler is not None
        for block in self._resampler.resample(frame):
            samples = np.asarray(block.to_ndarray()[0], np.float32)
            yield Chunk(self._seq, self._time_ns(), self._to_hz, samples)
            self._seq += 1
            self._given += len(samples)

    def _time_ns(self) -> int:
        at = self._given * self._from_hz / self._to_hz
        while len(self._places) > 1 and self._places[1][0] <= at:
            self._places.popleft()
        number, t_ns = self._places[0]
        if len(self._places) == 1:
            return t_ns + round((at - number) * NS_PER_S / self._from_hz)
        next_number, next_ns = self._places[1]
        return t_ns + round((at - number) * (next_ns - t_ns) / (next_number - number))
