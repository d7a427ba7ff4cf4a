"""Detects audio that contains itself a second time, about as loud and a little later, as from a loudspeaker nearby.

Such an echo makes two offsets true. If it comes 60 to 140 ms later, their evidence merges into one hill in the middle,
where nothing is true. Earlier echoes are within the tolerance; later ones give two hills, which the posterior handles.

Method: an echo multiplies the spectrum by a comb, so the cepstrum (the spectrum of the log spectrum) peaks at its lag.
Reverberation spreads over all lags and has no such peak.
Source: Bogert, Healy and Tukey, "The quefrency alanysis of time series for echoes", 1963.
"""

from __future__ import annotations

from collections import deque
from functools import cache

import numpy as np
import numpy.typing as npt

from device.features.contract import AUDIO_RATE_HZ
from device.records import NS_PER_S, Chunk

Floats = npt.NDArray[np.float32]

_RATE_HZ = AUDIO_RATE_HZ // 2  # a loudspeaker's echo is faithful below 4 kHz
_WINDOW, _HOP = 8192, 4096  # samples at this rate: 1.02 and 0.51 s
_LEAST_WINDOWS, _MOST_WINDOWS = 2, 5  # of which the log spectrum is a mean
_BAND = slice(100 * _WINDOW // _RATE_HZ, _WINDOW // 2)
_LAGS = slice(55 * _RATE_HZ // 1000, 145 * _RATE_HZ // 1000)  # in samples
_PAUSE_LEVEL = 0.1  # of the highest recent level; quieter windows are pauses
_LEVEL_DECAY = 0.97  # a window
_MAX_JOIN_ERROR_NS = 20_000_000
_FLOOR = 1e-12

# The peak that an echo 4 dB below the direct sound gives, at lag 0 and per second of lag: measured on 12 recordings.
# Such an echo moves the offset by 15 ms, an equal one by 25 to 50 ms. In 600 recordings without an echo, no peak was
# above 0.27.
_PEAK, _PEAK_PER_S = 1.39, -3.0
_OFF_SHARE = 0.85  # hysteresis


class EchoDetector:
    """Takes the chunks of one stream of audio at 16 kHz. `on` says whether there is a strong echo now."""

    def __init__(self) -> None:
        self.on = False
        self._level = 0.0
        self._end_ns: int | None = None
        self._samples = np.empty(0, np.float32)
        self._log_spectra: deque[Floats] = deque(maxlen=_MOST_WINDOWS)

    def push(self, chunk: Chunk) -> None:
        if self._end_ns is not None and abs(chunk.t_ns - self._end_ns) > _MAX_JOIN_ERROR_NS:
            self._samples = np.empty(0, np.float32)
            self._log_spectra.clear()
        self._end_ns = chunk.t_ns + len(chunk.samples) * NS_PER_S // chunk.rate_hz
        self._samples = np.concatenate([self._samples, chunk.samples])
        while len(self._samples) >= 2 * _WINDOW:
            self._add(self._samples[: 2 * _WINDOW])
            self._samples = self._samples[2 * _HOP :]

    def _add(self, samples: Floats) -> None:
        window = (samples[::2] + samples[1::2]) / 2
        level = float(np.sqrt(np.mean(np.square(window))))
        self._level = max(level, self._level * _LEVEL_DECAY)
        if level <= _PAUSE_LEVEL * self._level:
            return
        spectrum = np.fft.rfft(window * _hann(_WINDOW))[_BAND]
        self._log_spectra.append(np.log(spectrum.real**2 + spectrum.imag**2 + _FLOOR).astype(np.float32))
        if len(self._log_spectra) >= _LEAST_WINDOWS:
            peak = (_cepstrum(np.mean(self._log_spectra, axis=0)) / _thresholds()).max()
            self.on = bool(peak >= (_OFF_SHARE if self.on else 1.0))


def _cepstrum(log_spectrum: Floats) -> Floats:
    """Amplitude of the log spectrum's ripple for each lag in _LAGS."""
    taper = _hann(len(log_spectrum))
    ripple = np.fft.rfft((log_spectrum - log_spectrum.mean()) * taper, _WINDOW)[_LAGS]
    return (2 / taper.sum() * np.abs(ripple)).astype(np.float32)


@cache
def _hann(size: int) -> Floats:
    return np.hanning(size).astype(np.float32)


@cache
def _thresholds() -> Floats:
    lags_s = np.arange(_LAGS.start, _LAGS.stop) / _RATE_HZ
    return (_PEAK + _PEAK_PER_S * lags_s).astype(np.float32)
