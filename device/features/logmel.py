"""Log-mel energies on the 10 ms grid of the common clock, minus each band's running mean.

Conventions: row k is centred on time k * 10 ms. Rows are [ticks, bands], float32.
Method: Hann window, power spectrum, triangular mel filters (HTK scale), log, minus a causal running mean that makes the
result independent of gain and of the microphone's frequency response. The rows do not depend on how the samples are
split into chunks.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from device.features.contract import AUDIO_TICK_NS, FRONT_END
from device.records import NS_PER_S, Chunk

Rows = npt.NDArray[np.float32]

_MAX_JOIN_ERROR_NS = 20_000_000  # a chunk further than this from the end of the last one follows a gap, not jitter
_HISTORY_SAMPLES = FRONT_END.audio_rate_hz * _MAX_JOIN_ERROR_NS // NS_PER_S  # a corrected clock may go back this far


@cache
def mel_filters() -> npt.NDArray[np.float32]:
    """Triangular filters [stft_size // 2 + 1, bands], peak 1, equally spaced on the HTK mel scale."""
    low, high = (2595 * np.log10(1 + f / 700) for f in (FRONT_END.mel_low_hz, FRONT_END.mel_high_hz))
    edges_hz = 700 * (10 ** (np.linspace(low, high, FRONT_END.mel_bands + 2) / 2595) - 1)
    bins_hz = np.fft.rfftfreq(FRONT_END.stft_size, 1 / FRONT_END.audio_rate_hz)[:, None]
    rising = (bins_hz - edges_hz[:-2]) / (edges_hz[1:-1] - edges_hz[:-2])
    falling = (edges_hz[2:] - bins_hz) / (edges_hz[2:] - edges_hz[1:-1])
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


@cache
def _window() -> npt.NDArray[np.float32]:
    return np.hanning(FRONT_END.stft_window_samples + 1)[:-1].astype(np.float32)


def log_mel(samples: npt.NDArray[np.float32]) -> Rows:
    """Log-mel energies of windows [..., stft_window_samples] of full-scale-1 samples, without level correction."""
    spectrum = np.fft.rfft(samples * _window(), FRONT_END.stft_size)
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32) / FRONT_END.stft_window_samples
    return np.log(power @ mel_filters() + FRONT_END.mel_floor)


class LevelTracker:
    """Subtracts the running mean from log-mel rows; keeps its state between calls. Also works on a batch of streams."""

    def __init__(self) -> None:
        prior_ticks = FRONT_END.level_prior_s * 1000 / FRONT_END.audio_tick_ms
        self._keep = float(np.exp(-FRONT_END.audio_tick_ms / 1000 / FRONT_END.level_time_constant_s))
        self._weight = prior_ticks
        self._sum: float | npt.NDArray[np.float32] = prior_ticks * FRONT_END.level_prior_log

    def __call__(self, rows: Rows) -> Rows:
        """Level-corrected copy of rows [..., ticks, bands]."""
        means, weights = np.empty_like(rows), np.empty((rows.shape[-2], 1), np.float32)
        for tick in range(rows.shape[-2]):  # only this part depends on the previous tick
            weights[tick] = self._weight = self._weight * self._keep + 1
            means[..., tick, :] = self._sum = self._sum * self._keep + rows[..., tick, :]
        means /= weights
        out: Rows = np.subtract(rows, means, out=means)
        out *= np.float32(FRONT_END.level_scale)
        return out


class LogMelStream:
    """Chunks in, (first tick, rows) out; a gap in the audio skips its ticks and starts a new run of rows."""

    def __init__(self) -> None:
        self._level = LevelTracker()
        self._samples = np.empty(0, np.float32)
        self._t_ns = 0  # of the first buffered sample
        self._next_tick: int | None = None

    def push(self, chunk: Chunk) -> tuple[int, Rows]:
        """Return the rows that this chunk completes. Raises ValueError if its rate is not the contract's."""
        if chunk.rate_hz != FRONT_END.audio_rate_hz:
            raise ValueError(f"the front end needs {FRONT_END.audio_rate_hz} Hz, not {chunk.rate_hz} Hz")
        held_ns = round(len(self._samples) * NS_PER_S / chunk.rate_hz)
        if self._next_tick is None or abs(self._t_ns + held_ns - chunk.t_ns) > _MAX_JOIN_ERROR_NS:
            self._samples = chunk.samples
            self._t_ns = chunk.t_ns
            half_window_ns = FRONT_END.stft_window_samples * NS_PER_S // (2 * chunk.rate_hz)
            first = -(-(self._t_ns + half_window_ns) // AUDIO_TICK_NS)
            self._next_tick = first if self._next_tick is None else max(first, self._next_tick)
        else:
            self._samples = np.concatenate([self._samples, chunk.samples])
            self._t_ns = chunk.t_ns - held_ns
        return self._drain(chunk.rate_hz)

    def _drain(self, rate_hz: int) -> tuple[int, Rows]:
        assert self._next_tick is not None
        first, width = self._next_tick, FRONT_END.stft_window_samples
        hop = AUDIO_TICK_NS * rate_hz // NS_PER_S
        start = round((first * AUDIO_TICK_NS - self._t_ns) * rate_hz / NS_PER_S) - width // 2
        # Ticks before the first sample are missing after a correction larger than the history.
        missing = max(-(start // hop), 0)
        first, start = first + missing, start + missing * hop
        count = max((len(self._samples) - start - width) // hop + 1, 0)
        rows = np.empty((0, FRONT_END.mel_bands), np.float32)
        if count:
            # a view of overlapping windows; NumPy's functions for that take longer than the transform
            size = self._samples.itemsize
            windows = np.ndarray((count, width), np.float32, self._samples, start * size, (hop * size, size))
            rows = self._level(log_mel(windows))
        spent = min(max(start + count * hop - _HISTORY_SAMPLES, 0), len(self._samples))
        self._samples = self._samples[spent:]
        self._t_ns += round(spent * NS_PER_S / rate_hz)
        self._next_tick = first + count
        return first, rows
