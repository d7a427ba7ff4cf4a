"""Simulated clocks: a microphone whose crystal is off and wanders, jitter in bursts, and lost samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from device.capture.microphones.audio_clock import AudioClock, Placed, Stamp
from device.records import NS_PER_MS, NS_PER_S

Times = npt.NDArray[np.int64]  # ns on the monotonic clock
Errors = npt.NDArray[np.float64]

START_NS = 5_000 * NS_PER_S  # since boot
SUSPENDED_NS = 700 * NS_PER_S  # before the start: the boot clock is ahead by so much
EPOCH_NS = 1_800_000_000 * NS_PER_S
RATE_HZ = 48_000


@dataclass(frozen=True)
class Crystal:
    """How much too fast a clock runs: a constant, a warming up, and a slow swing with the room's temperature."""

    ppm: float
    warming_ppm: float = 8.0
    warming_s: float = 900.0
    swing_ppm: float = 3.0
    swing_period_s: float = 5400.0

    def times_ns(self, count: int, period_s: float) -> Times:
        """When its ticks of nominally `period_s` really come."""
        t_s = np.arange(count) * period_s
        swing = self.swing_ppm * np.sin(2 * np.pi * t_s / self.swing_period_s)
        fast_ppm = self.ppm + self.warming_ppm * (1 - np.exp(-t_s / self.warming_s)) + swing
        return (START_NS + np.cumsum(period_s * (1 - fast_ppm * 1e-6)) * NS_PER_S).astype(np.int64)

    def ppm_at(self, t_s: float) -> float:
        swing = self.swing_ppm * np.sin(2 * np.pi * t_s / self.swing_period_s)
        return float(self.ppm + self.warming_ppm * (1 - np.exp(-t_s / self.warming_s)) + swing)


def jitter_ns(
    times_ns: Times, rng: np.random.Generator, *, quiet_ms: float = 0.2, burst_ms: float = 8.0, share: float = 0.15
) -> Times:
    """Lateness: a little always, and up to `burst_ms` in bursts of 0.2 to 3 s that fill about `share` of the time."""
    late_ms = np.abs(rng.normal(0, quiet_ms, len(times_ns)))
    seconds = (times_ns - times_ns[0]) / NS_PER_S
    bursts = max(round(share * seconds[-1] / 1.6), 1)
    for start_s, length_s in zip(rng.uniform(0, seconds[-1], bursts), rng.uniform(0.2, 3, bursts), strict=True):
        first, end = np.searchsorted(seconds, [start_s, start_s + length_s])
        late_ms[first:end] = rng.uniform(0, burst_ms, end - first)
    return np.asarray(late_ms * NS_PER_MS, np.int64)


def stamps(
    adc_ns: Times, arrival_ns: Times, count: int, *, domain: str = "monotonic", real_step_ns: Times | int = 0,
    suspended_ns: Times | int = 0,
) -> Iterator[Stamp]:  # fmt: skip
    """Stamps of blocks of `count` samples. `adc_ns` is monotonic, and told on the driver's `domain`; 'none' is 0."""
    ahead = SUSPENDED_NS + np.asarray(suspended_ns) + np.zeros_like(adc_ns)
    real = EPOCH_NS + np.asarray(real_step_ns) + ahead
    told = {"monotonic": adc_ns, "boottime": adc_ns + ahead, "realtime": adc_ns + real, "none": 0 * adc_ns}[domain]
    rows = (told, arrival_ns, arrival_ns + ahead, arrival_ns + real)
    for adc, mono, boot, wall in zip(*(row.tolist() for row in rows), strict=True):
        yield Stamp(count, adc, mono, boot, wall)


def place(clock: AudioClock, given: Iterable[Stamp]) -> list[Placed | None]:
    """All that the clock places, block by block; checks its contract on the way."""
    out: list[Placed | None] = []
    last: Placed | None = None
    for stamp in given:
        for placed in clock.push(stamp):
            out.append(placed)
            if placed is None:
                continue
            assert last is None or (placed.t_ns > last.t_ns and placed.run - last.run in (0, 1))
            last = placed
    return out


def errors_ms(placed: list[Placed | None], true_ns: Times) -> Errors:
    """Placed minus true, for each block that was placed at all; NaN for those left out."""
    given = np.array([np.nan if one is None else one.t_ns - true for one, true in zip(placed, true_ns, strict=False)])
    return given / NS_PER_MS
