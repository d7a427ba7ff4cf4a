"""The flash-and-beep pattern: its times, and how flashes and beeps are detected and compared.

Conventions: times in seconds on one clock; light is linear and relative; an offset is how far the audio is ahead of the
video, here the time of the flash minus the time of its beep.

Method: the beep is a chirp, detected by its matched filter: noise, codecs and echoes hardly move its peak, and the
earliest strong peak is the direct sound. Flashes and beeps come at irregular intervals, so that only the true offset
lets most of them meet. A camera sees each flash begin in only one or two frames, but each time at another phase: all
frames, placed by the time since their beep, trace one fine edge, whose middle is the offset at any exposure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from device.records import RgbImage
from device.sync.robust_stats import spread

Doubles = npt.NDArray[np.float64]

FLASH_S = 0.2  # five frames of a camera at 25 Hz
BEEP_S = 0.05
LEAD_S = 1.0  # before the first and after the last
LONGEST_LAG_S = 2.5
MIN_PAIRS = 8
MAX_SCATTER_MS = 20.0  # a camera at 20 Hz with a short exposure gives 14

_SHORTEST_S, _MORE_S = 0.6, 0.8  # intervals are 0.6 to 1.4 s: fewer than two flashes a second
_GOLDEN = 0.5 * (5**0.5 - 1)  # its multiples are the least periodic
_LOW_HZ, _HIGH_HZ = 1000.0, 5000.0
_GRID = (12, 16)
_GAMMA = 2.2
_MEET_S = 0.05  # one frame of a camera at 20 Hz
_BEFORE, _AFTER = 3, 2  # frames around the first bright one that show the edge


def event_times_s(duration_s: float) -> Doubles:
    """When a film of that length flashes and beeps, before rounding to frames. Empty if it is too short."""
    count = max(int((duration_s - 2 * LEAD_S) / _SHORTEST_S) + 1, 0)
    times = LEAD_S + np.concatenate([[0.0], np.cumsum(_SHORTEST_S + _MORE_S * (np.arange(1, count + 1) * _GOLDEN % 1))])
    return times[times <= duration_s - LEAD_S]


def beep(rate_hz: int) -> npt.NDArray[np.complex128]:
    """The beep, whose real part is played: a rising tone with soft ends; its first sample is its time."""
    t = np.arange(round(BEEP_S * rate_hz)) / rate_hz
    phase = 2 * np.pi * (_LOW_HZ * t + (_HIGH_HZ - _LOW_HZ) / (2 * BEEP_S) * t**2)
    ends = np.clip(np.minimum(t, BEEP_S - t) / 0.004, 0, 1)
    return np.sin(0.5 * np.pi * ends) ** 2 * np.exp(1j * (phase - 0.5 * np.pi))


def light(rgb: RgbImage) -> Doubles:
    """Mean light of each part of an image [height, width, 3]: [parts], 0 to 1, without the camera's gamma."""
    step = max(min(rgb.shape[0] // 96, rgb.shape[1] // 128), 1)  # enough pixels for a mean
    linear = _LINEAR[rgb[::step, ::step]].sum(axis=2)
    rows, columns = (
        np.linspace(0, size, parts + 1).astype(int) for size, parts in zip(linear.shape, _GRID, strict=True)
    )
    sums = np.add.reduceat(np.add.reduceat(linear, rows[:-1], axis=0), columns[:-1], axis=1)
    return (sums / np.outer(np.diff(rows), np.diff(columns))).ravel() / 3


@dataclass(frozen=True, slots=True)
class Flash:
    """A flash: its approximate start, and the frames around it, from dark (0) to bright (1)."""

    t_s: float
    times_s: Doubles
    levels: Doubles


def find_flashes(times_s: Doubles, lights: Doubles) -> list[Flash]:
    """Detect flashes in frames at times [n] whose parts have the light [n, parts]; ignores slow changes of light."""
    if len(times_s) < _BEFORE + _AFTER + 2:
        return []
    track = lights @ _weights(lights)
    at = np.arange(_BEFORE, len(track) - _AFTER)
    rise = (track[at + 1] + track[at + 2] - track[at - 3] - track[at - 2]) / 2
    strong = _peaks(rise, 5)
    if not len(strong) or not (top := np.percentile(rise[strong], 90)) > 0:
        return []
    found = (_flash(times_s, track, int(at[k])) for k in strong if rise[k] > 0.4 * top)
    return [flash for flash in found if flash is not None]


def find_beeps(samples: npt.NDArray[np.floating], rate_hz: int) -> Doubles:
    """Detect where beeps begin in mono samples [n], in fractional samples: their direct sound, not their echoes."""
    strength = _matched(samples, beep(rate_hz))
    reach, echo = round(0.25 * rate_hz), round(0.02 * rate_hz)
    peaks = _peaks(strength, reach)
    if len(peaks):  # noise alone reaches 4.5 medians; without noise, the filter's own ripple remains
        peaks = peaks[strength[peaks] > max(6 * np.median(strength), 0.05 * strength.max())]
    return np.array([_between(strength, _first_arrival(strength, int(peak), echo)) for peak in peaks])


@dataclass(frozen=True, slots=True)
class Match:
    """The offset from flashes and beeps. `competing_pairs` is the number of pairs at the best wrong offset."""

    offset_ms: float
    offset_std_ms: float
    scatter_ms: float  # of single flashes
    pairs: int
    flashes: int
    beeps: int
    competing_pairs: int


def match(flashes: list[Flash], beeps_s: Doubles) -> Match | None:
    """The offset at which most flashes and beeps meet, and how well they do; None if no two meet."""
    flashes_s = np.array([flash.t_s for flash in flashes])
    lags = np.sort((flashes_s[:, None] - beeps_s[None, :]).ravel())
    lags = lags[np.abs(lags) <= LONGEST_LAG_S]
    if not len(lags):
        return None
    meeting = np.searchsorted(lags, lags + _MEET_S) - np.searchsorted(lags, lags - _MEET_S)
    best = int(meeting.argmax())
    lag = float(np.median(lags[np.abs(lags - lags[best]) <= _MEET_S]))
    others = meeting[np.abs(lags - lag) > 3 * _MEET_S]
    nearest = [int(np.abs(flash_s - beeps_s - lag).argmin()) for flash_s in flashes_s]
    pairs = [(f, float(beeps_s[b])) for f, b in zip(flashes, nearest, strict=True)]
    pairs = [(f, beep_s) for f, beep_s in pairs if abs(f.t_s - beep_s - lag) <= _MEET_S]
    offset_s, std_s = _edge(pairs, lag)
    scatter_s = spread(np.array([flash.t_s - beep_s for flash, beep_s in pairs]))
    return Match(
        1000 * offset_s, 1000 * std_s, 1000 * scatter_s, len(pairs), len(flashes), len(beeps_s),
        int(others.max()) if len(others) else 0,
    )  # fmt: skip


def problem(found: Match | None) -> str | None:
    """Why an offset is not reliable, in words for a user; None if it is."""
    if found is None or found.pairs < MIN_PAIRS:
        pairs, flashes, beeps = (found.pairs, found.flashes, found.beeps) if found else (0, 0, 0)
        return f"only {pairs} flashes have a beep ({flashes} flashes and {beeps} beeps seen, {MIN_PAIRS} pairs needed)"
    if found.pairs < 2 * found.competing_pairs or found.pairs < 0.5 * min(found.flashes, found.beeps):
        return f"{found.pairs} flashes and beeps match, but {found.competing_pairs} would match at another offset too"
    if found.scatter_ms > MAX_SCATTER_MS:
        return f"flashes and beeps scatter by {found.scatter_ms:.0f} ms, allowed is {MAX_SCATTER_MS:g}"
    return None


_LINEAR = (np.arange(256) / 255.0) ** _GAMMA


def _weights(lights: Doubles) -> Doubles:
    """Weight of each part by its fast brightening, because the screen may fill a small part of the image."""
    rises = lights[2:] - lights[:-2]
    weights = np.clip(np.percentile(rises, 97, axis=0) - 4 * np.median(np.abs(rises), axis=0), 0, None)
    return weights / weights.sum() if weights.sum() > 0 else np.full(lights.shape[1], 1 / lights.shape[1])


def _flash(times_s: Doubles, track: Doubles, k: int) -> Flash | None:
    """The flash whose edge is near frame `k`; None if neither side is steady enough."""
    seen = slice(k - _BEFORE, k + _AFTER + 1)
    dark, bright = (track[k - 3] + track[k - 2]) / 2, (track[k + 1] + track[k + 2]) / 2
    levels = (track[seen] - dark) / (bright - dark)
    if np.abs(levels[[0, 1]]).max() > 0.25 or np.abs(levels[[-2, -1]] - 1).max() > 0.25:
        return None
    levels = np.clip(levels, -0.1, 1.1)
    return Flash(float(times_s[k + _AFTER] - np.trapezoid(levels, times_s[seen])), times_s[seen], levels)


def _edge(pairs: list[tuple[Flash, float]], lag: float) -> tuple[float, float]:
    """Middle of the edge that the frames of all flashes trace, relative to their beeps, and its standard error."""
    middle, gaps = _middle(pairs, lag)
    count = len(pairs)
    if count < 3:
        return middle, _MEET_S
    without = np.array([_middle(pairs[:i] + pairs[i + 1 :], lag)[0] for i in range(count)])
    jackknife = (count - 1) / count * ((without - without.mean()) ** 2).sum()
    return middle, float(np.sqrt(jackknife + gaps))


def _middle(pairs: list[tuple[Flash, float]], lag: float) -> tuple[float, float]:
    """The middle, and its variance from gaps between the frames, anywhere in which the light may have changed."""
    since = np.concatenate([flash.times_s - beep_s for flash, beep_s in pairs])
    levels = np.concatenate([flash.levels for flash, _ in pairs])
    near = np.abs(since - lag) < 2 * _MEET_S
    order = np.argsort(since[near])
    since = np.concatenate([[lag - 2 * _MEET_S], since[near][order], [lag + 2 * _MEET_S]])
    levels = np.concatenate([[0.0], levels[near][order], [1.0]])
    gaps = np.diff(since) * np.diff(levels)
    return float(since[-1] - np.trapezoid(levels, since)), float((gaps**2).sum() / 12)


def _matched(samples: npt.NDArray[np.floating], shape: npt.NDArray[np.complex128]) -> Doubles:
    """Envelope of the correlation with a shape, in blocks to save memory."""
    size = 1 << 17
    step = size - len(shape)
    spectrum = np.fft.fft(shape, size).conj()
    strength = np.zeros(len(samples))
    for begin in range(0, len(samples), step):
        block = np.fft.ifft(np.fft.fft(samples[begin : begin + size], size) * spectrum)[:step]
        part = strength[begin : begin + step]
        part[:] = np.abs(block)[: len(part)]
    return strength


def _peaks(values: Doubles, reach: int) -> npt.NDArray[np.intp]:
    """Indices of positive values that are the largest within `reach` on both sides."""
    found: list[int] = []
    for begin in range(0, len(values), reach):
        k = begin + int(values[begin : begin + reach].argmax())
        around = values[max(k - reach, 0) : k + reach + 1]
        if values[k] > 0 and values[k] >= around.max() and not (found and k - found[-1] <= reach):
            found.append(k)
    return np.array(found, np.intp)


def _first_arrival(strength: Doubles, peak: int, echo: int) -> int:
    """The first peak of at least half the height, because echoes may add up to more than the direct sound."""
    begin = max(peak - echo, 1)
    part = strength[begin - 1 : peak + 2]
    tops = np.flatnonzero((part[1:-1] >= part[:-2]) & (part[1:-1] >= part[2:]) & (part[1:-1] >= 0.5 * strength[peak]))
    return begin + int(tops[0]) if len(tops) else peak


def _between(values: Doubles, k: int) -> float:
    """Peak of the parabola through a maximum and its neighbours."""
    if not 0 < k < len(values) - 1:
        return float(k)
    left, top, right = values[k - 1 : k + 2]
    curve = left - 2 * top + right
    return k + (0.5 * float((left - right) / curve) if curve < 0 else 0.0)
