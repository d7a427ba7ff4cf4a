"""Simulated rooms: the impulse response between a mouth and a microphone. The direct sound stays where it is.

Model: exponentially decaying noise, with a shorter decay at high frequencies and a few discrete early reflections.
Source: Moorer, "About This Reverberation Business", 1979.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from device.features.contract import AUDIO_RATE_HZ

Floats = npt.NDArray[np.float32]

_DECAY_60_DB = 6.9  # in nats of amplitude
_CROSSOVER_HZ = (1000.0, 3000.0)
_HIGH_DECAY = (0.4, 1.0)  # relative to that of the low frequencies
_GAP_S = 0.008  # at most, from the direct sound to the reverberation
_REFLECTIONS, _REFLECTION_S = 6, (0.001, 0.03)  # fewer than this, between these times
_REFLECTION_LEVEL = 0.5  # at most, relative to all of the reverberation


def impulse_response(random: np.random.Generator, decay_s: float, level_db: float) -> Floats:
    """The direct sound, 1.0 at the first sample, and reverberation.

    decay_s: until the reverberation has fallen by 60 dB. level_db: its energy relative to the direct sound's.
    """
    count = max(round(decay_s * AUDIO_RATE_HZ), 1)
    t_s = np.arange(count) / AUDIO_RATE_HZ
    spectrum, hz = np.fft.rfft(random.standard_normal(count)), np.fft.rfftfreq(count, 1 / AUDIO_RATE_HZ)
    below = hz < random.uniform(*_CROSSOVER_HZ)
    low, high = (np.fft.irfft(spectrum * band, count) for band in (below, ~below))
    tail = low * np.exp(-_DECAY_60_DB * t_s / decay_s)
    tail += high * np.exp(-_DECAY_60_DB * t_s / (decay_s * random.uniform(*_HIGH_DECAY)))
    tail[: 1 + round(random.uniform(0, _GAP_S) * AUDIO_RATE_HZ)] = 0
    energy = np.sqrt((tail**2).sum())
    for _ in range(int(random.integers(_REFLECTIONS))):
        place = round(random.uniform(*_REFLECTION_S) * AUDIO_RATE_HZ)
        if place < count:
            tail[place] += random.uniform(-_REFLECTION_LEVEL, _REFLECTION_LEVEL) * energy
    tail *= 10 ** (level_db / 20) / (np.sqrt((tail**2).sum()) + 1e-9)
    tail[0] = 1.0
    return tail.astype(np.float32)


def convolve(samples: Floats, response: Floats) -> Floats:
    """The samples as heard in a room, as many as before."""
    size = 1 << (len(samples) + len(response) - 1).bit_length()
    heard = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(response, size), size)
    return heard[: len(samples)].astype(np.float32)
