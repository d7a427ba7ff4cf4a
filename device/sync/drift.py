"""From measured offsets to drift and steps: one report at a time, bounded memory, no clock.

Conventions: t_s is the end of a report's window on the stream's clock; 1 ppm is 0.001 ms/s; a step is the new offset
minus the old one.
Drift: reports are grouped into blocks of 20 s, each with a robust mean. The drift is a robust line through the blocks
of the last two hours. Its error comes from the scatter of the blocks: what overlapping windows share within a block is
counted once, and what neighbouring blocks share shows in their residuals.
Steps: a sequential likelihood-ratio test (Page, "Continuous inspection schemes", Biometrika 41, 1954; for an unknown
size Lorden, Annals of Mathematical Statistics 42, 1971) of "shifted by d since report k" against "no change". A report
is either normal noise or, with the recent share of outliers, a wrong number from anywhere in the search range. So
outliers count only where they agree. A report adds only the part of its window that is new.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, replace
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np

from device.records import DriftClass
from device.sync.robust_stats import Doubles, Line, centre, line, spread

PPM_PER_MS_PER_S = 1000.0
CALL_SIGMA = 3.7  # more than the usual 3, because the test repeats every 20 s, all day

_BLOCK_S = 20.0
_MAX_BLOCKS = 360  # two hours, to follow a drift that changes with the temperature
_MIN_BLOCKS = 12
_MAX_STD_PPM = 50.0  # a slope with a larger error is not reported
_MAX_GAP_S = 300.0  # after a longer gap, drift and step cannot be told apart
_RECENT = 120
# The newest reports, and those of the last few windows, may belong to a new level: they count neither as noise nor as
# outliers.
_NEWEST = 12
_NEWEST_WINDOWS = 2.4
_MIN_LEVEL = 10
_MIN_STEP_MS = 25.0
_MIN_NOISE_MS = 3.0  # offsets lie on a grid of 10 ms
# outliers may gather near the right value: the wider, the sooner two of them look like a step
_OUTLIER_RANGE_MS = 800.0
_STEP_EVIDENCE = 14.0  # nats, for a step as small as the noise: e^-14 per report is below one false step a day


@dataclass(frozen=True, slots=True)
class Drift:
    """Drift and step after a report. Unknown is None; `step` is set only for the report that decided it."""

    kind: DriftClass = DriftClass.UNKNOWN
    drift_ppm: float | None = None
    drift_std_ppm: float | None = None
    step_ms: float | None = None
    step_t_s: float | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """One report: its time, its offset, and the deviation from the expected offset (0 while none was expected)."""

    t_s: float
    offset_ms: float
    offset_std_ms: float
    surprise_ms: float


@dataclass(frozen=True, slots=True)
class Block:
    """The summary of 20 s of reports."""

    t_s: float
    offset_ms: float
    looks: float


Row = TypeVar("Row", Observation, Block)


@dataclass(frozen=True, slots=True)
class DriftState:
    """Everything that is kept between reports and over a restart."""

    recent: tuple[Observation, ...] = ()
    filling: tuple[Observation, ...] = ()  # of the block that is not yet complete
    blocks: tuple[Block, ...] = ()
    slope_ms_per_s: float = 0.0
    slope_std_ms_per_s: float | None = None  # None: the slope is unknown
    stepped: bool = False

    def to_dict(self) -> dict[str, Any]:
        rows = {name: [astuple(row) for row in getattr(self, name)] for name in ("recent", "filling", "blocks")}
        slope = {"slope_ms_per_s": self.slope_ms_per_s, "slope_std_ms_per_s": self.slope_std_ms_per_s}
        return rows | slope | {"stepped": self.stepped}

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> DriftState:
        """The inverse of `to_dict`; also accepts a state that went through JSON.

        Raises KeyError, TypeError or ValueError if `found` is not a valid state.
        """
        slope_std = found["slope_std_ms_per_s"]
        return cls(
            recent=_rows(Observation, found["recent"]),
            filling=_rows(Observation, found["filling"]),
            blocks=_rows(Block, found["blocks"]),
            slope_ms_per_s=_finite(found["slope_ms_per_s"]),
            slope_std_ms_per_s=None if slope_std is None else _finite(slope_std),
            stepped=bool(found["stepped"]),
        )


def _finite(value: float) -> float:
    if not np.isfinite(value):
        raise ValueError(f"{value} is not finite")
    return float(value)


def _rows(kind: type[Row], found: list[list[float]]) -> tuple[Row, ...]:
    rows = tuple(kind(*map(_finite, row)) for row in found)
    if any(later.t_s <= earlier.t_s for earlier, later in pairwise(rows)):
        raise ValueError("times do not rise")
    return rows


def update(
    state: DriftState, t_s: float, offset_ms: float, offset_std_ms: float, *, window_s: float,
    slope_ms_per_s: float | None = None,
) -> tuple[DriftState, Drift]:  # fmt: skip
    """Take one measured offset, found in the `window_s` seconds before `t_s`.

    slope_ms_per_s: how fast the offset is known to run before the reports can show it. A deviation along this slope is
    not a step; while only this slope is known, no step is looked for.
    A repeated time is ignored. A time that goes back, or a gap of more than five minutes, starts again.
    Raises ValueError if a number is not finite.
    """
    if not np.isfinite([t_s, offset_ms, offset_std_ms]).all():
        raise ValueError("an offset and its time must be finite")
    if state.recent:
        passed_s = t_s - state.recent[-1].t_s
        if passed_s == 0:
            return state, current_drift(state)
        if not 0 < passed_s <= _MAX_GAP_S:
            state = DriftState()
    if slope_ms_per_s is not None and state.slope_std_ms_per_s is None:
        state = _add(state, Observation(t_s, offset_ms, offset_std_ms, 0.0), window_s)
        return state, current_drift(state)
    level_ms = _level_ms(state, t_s)
    seen = Observation(t_s, offset_ms, offset_std_ms, 0.0 if level_ms is None else offset_ms - level_ms)
    state = _add(state, seen, window_s)
    onset = _onset(state, window_s)
    if onset is None:
        return state, current_drift(state)
    since = state.recent[onset:]
    new_ms = centre(_offsets(since), _noise_ms(state.recent[:onset]))
    old_ms = since[-1].offset_ms - since[-1].surprise_ms
    fresh = DriftState(stepped=True)
    for entry in since:
        fresh = _add(fresh, replace(entry, surprise_ms=entry.offset_ms - new_ms), window_s)
    # The last window of the old level and the first of the new one are both half in the past.
    step_t_s = (state.recent[onset - 1].t_s + since[0].t_s - window_s) / 2
    return fresh, replace(current_drift(fresh), step_ms=new_ms - old_ms, step_t_s=step_t_s)


def current_drift(state: DriftState, t_s: float | None = None) -> Drift:
    """Drift and step at a time; all None if the last report is more than five minutes older."""
    if t_s is not None and state.recent and not 0 <= t_s - state.recent[-1].t_s <= _MAX_GAP_S:
        return Drift()
    if state.slope_std_ms_per_s is None:
        return Drift(DriftClass.STEPPED if state.stepped else DriftClass.UNKNOWN)
    moves = abs(state.slope_ms_per_s) >= CALL_SIGMA * state.slope_std_ms_per_s
    return Drift(
        DriftClass.DRIFTING if moves else DriftClass.STEADY,
        state.slope_ms_per_s * PPM_PER_MS_PER_S,
        state.slope_std_ms_per_s * PPM_PER_MS_PER_S,
    )


def _offsets(seen: tuple[Observation, ...]) -> Doubles:
    return np.array([entry.offset_ms for entry in seen], np.float64)


def _level_ms(state: DriftState, t_s: float) -> float | None:
    """The offset expected at a time; None after too few reports."""
    if len(state.recent) < _MIN_LEVEL:
        return None
    ages_s = t_s - np.array([entry.t_s for entry in state.recent])
    return float(np.median(_offsets(state.recent) + state.slope_ms_per_s * ages_s))


def _noise_ms(seen: tuple[Observation, ...]) -> float:
    """The noise of one report: its own error bars or the scatter of the reports, whichever is larger."""
    told_ms = float(np.median([entry.offset_std_ms for entry in seen])) if seen else 0.0
    offsets_ms = _offsets(seen)
    rough_ms = max(spread(offsets_ms), _MIN_NOISE_MS)
    # Outliers widen the first guess, so estimate again without them.
    near = offsets_ms[np.abs(offsets_ms - np.median(offsets_ms)) <= 3 * rough_ms] if len(seen) else offsets_ms
    return max(spread(near), told_ms, _MIN_NOISE_MS)


def _add(state: DriftState, seen: Observation, window_s: float) -> DriftState:
    state = replace(state, recent=(*state.recent, seen)[-_RECENT:])
    if not state.filling or seen.t_s - state.filling[0].t_s < _BLOCK_S:
        return replace(state, filling=(*state.filling, seen))
    full = state.filling
    noise_ms = _noise_ms(state.recent)
    looks = _looks(np.array([entry.t_s for entry in full]), window_s).sum()
    block = Block(float(np.mean([entry.t_s for entry in full])), centre(_offsets(full), noise_ms), float(looks))
    blocks = (*state.blocks, block)[-_MAX_BLOCKS:]
    found = _line(blocks, noise_ms)
    is_known = found is not None and found.slope_std * PPM_PER_MS_PER_S <= _MAX_STD_PPM
    return replace(
        state, filling=(seen,), blocks=blocks, slope_ms_per_s=found.slope if found and is_known else 0.0,
        slope_std_ms_per_s=found.slope_std if found and is_known else None,
    )  # fmt: skip


def _line(blocks: tuple[Block, ...], noise_ms: float) -> Line | None:
    if len(blocks) < _MIN_BLOCKS:
        return None
    t_s, offsets_ms, looks = np.array([(block.t_s, block.offset_ms, block.looks) for block in blocks]).T
    # A dozen blocks may lie on a line by chance; their mean cannot be more certain than their reports.
    return line(t_s, offsets_ms, looks, 0.9 * noise_ms / float(np.sqrt(looks.max())))


def _looks(t_s: Doubles, window_s: float) -> Doubles:
    """The part of each report's window that no earlier of these reports has covered."""
    return np.minimum(np.diff(t_s, prepend=-np.inf) / window_s, 1.0)


def _onset(state: DriftState, window_s: float) -> int | None:
    """Index of the first recent report at a new level; None while the old level explains the reports as well."""
    recent = state.recent
    if abs(recent[-1].surprise_ms) < _MIN_STEP_MS / 2:  # the usual case, decided cheaply
        return None
    newest_s = recent[-1].t_s - _NEWEST_WINDOWS * window_s
    settled = min(len(recent) - _NEWEST, sum(entry.t_s <= newest_s for entry in recent))
    past_seen = recent[:settled] if settled >= _MIN_LEVEL // 2 else recent
    looks = _looks(np.array([entry.t_s for entry in past_seen]), window_s).sum()
    noise_ms = _noise_ms(past_seen) * (1 + 1 / float(np.sqrt(looks)))  # the noise of few looks may be underestimated
    min_ms = max(_MIN_STEP_MS, 0.75 * noise_ms)
    if abs(recent[-1].surprise_ms) < min_ms / 2:
        return None
    surprise, t_s = np.array([(entry.surprise_ms, entry.t_s) for entry in recent], np.float64).T
    shifts = surprise[-2 * _NEWEST :]
    shifts = shifts[np.abs(shifts) >= min_ms]
    if not len(shifts):
        return None
    past = np.abs(surprise[: max(settled, 0)])
    wrong = (np.count_nonzero(past > 3.5 * noise_ms) + 1) / (len(past) + 20)
    gains = _log_density(surprise[:, None] - shifts, noise_ms, wrong) - _log_density(surprise, noise_ms, wrong)[:, None]
    new = _looks(t_s, window_s)[:, None]
    later = np.cumsum((new * gains)[::-1], axis=0)[::-1] - new * gains
    evidence = gains + later  # [since report k, shift d]: the first window of a new level is all new
    # One outlier window shows in several reports: trust only windows without a second in common.
    evidence[t_s > t_s[-1] - window_s] = -np.inf
    evidence[:, gains[-1] < 1] = -np.inf  # nor a level that the newest report clearly contradicts
    # The larger a step, the more sizes there are at which outliers may agree by chance.
    evidence -= np.log(np.maximum(np.abs(shifts) / noise_ms, 1.0))
    onset = int(np.argmax(evidence.max(axis=1)))
    return onset if evidence[onset].max() >= _STEP_EVIDENCE and onset > 0 else None


def _log_density(surprise_ms: Doubles, noise_ms: float, wrong: float) -> Doubles:
    normal = (1 - wrong) * np.exp(-0.5 * (surprise_ms / noise_ms) ** 2) / (noise_ms * np.sqrt(2 * np.pi))
    return np.asarray(np.log(normal + wrong / _OUTLIER_RANGE_MS), np.float64)
