"""A recording's offset over time from its evidence: pieces between steps, one slope, and a point every few seconds.

Conventions: times in s from the first frame; offsets in ms, positive is audio early; 1 ppm is 0.001 ms/s.
Method: evidence is summed in bins of one second. The most probable path through them, on which the offset may stay,
creep by a tick, or jump at a price (Viterbi, "Error bounds for convolutional codes", IEEE Transactions on Information
Theory 13, 1967), is cut where it jumps: those are the steps. Within a piece, each block of ten seconds gets an offset,
and a robust line (`robust_stats`) through them gives the slope. Two clocks differ by one slope, so all pieces share the
mean of theirs. Memory is bounded: in a recording of more than two hours bins are joined in pairs, repeatedly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from device.bundles.calibration import Calibration
from device.features.contract import FRONT_END
from device.records import NS_PER_S, DriftClass, Estimate
from device.sync.curve import TICK_MS, estimate, estimate_near, is_broad
from device.sync.evidence_stream import LipEvidence
from device.sync.offset_hmm import OffsetFilter
from device.sync.robust_stats import Doubles, centre, line

PPM_PER_MS_PER_S = 1000.0
MAX_BINS = 7200

_POINT_S = 5.0
_BLOCK_S = 10.0
_JUMP_PRICE = 15.0  # nats: how much more probable a step must be than none
_CREEP_PRICE = 4.0
_MIN_STEP_MS = 25.0
_MIN_NOISE_MS = 3.0
_BROAD_FROM_S = 10.0
_MAX_STD_PPM, _CLEAR_SIGMA = 50.0, 5.0  # a larger error is taken for a slope that is clear despite of it
_SIGMA = 3.0  # less than the daemon's, because the test is made once
_SLOPE_GRID_STD_PPM = 150.0  # of a slope found only on the filter's grid

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Piece:
    """The stretch between two steps. `offset_ms` is at its middle, with an error that excludes the slope's."""

    from_s: float
    to_s: float
    offset_ms: float
    offset_std_ms: float
    confidence: float
    sure: bool
    broad: bool = False  # the evidence is wider than a single offset makes it


@dataclass(frozen=True, slots=True)
class Step:
    t_s: float
    step_ms: float


@dataclass(frozen=True, slots=True)
class Point:
    """A few seconds of the timeline. `best` is the best guess at any confidence, None where there is no evidence."""

    t_s: float
    best: Estimate | None


@dataclass(frozen=True, slots=True)
class Timeline:
    pieces: tuple[Piece, ...]
    steps: tuple[Step, ...]
    points: tuple[Point, ...]
    drift_ppm: float | None
    drift_std_ppm: float | None

    @property
    def drift_class(self) -> DriftClass:
        if self.drift_ppm is not None and abs(self.drift_ppm) >= _SIGMA * (self.drift_std_ppm or 0):
            return DriftClass.DRIFTING
        if self.steps:
            return DriftClass.STEPPED
        return DriftClass.UNKNOWN if self.drift_ppm is None else DriftClass.STEADY

    def offset_ms(self, piece: Piece, t_s: float) -> float:
        """The offset of a piece at a time; the slope counts only where it is significant."""
        slope = (self.drift_ppm or 0.0) / PPM_PER_MS_PER_S if self.drift_class is DriftClass.DRIFTING else 0.0
        return piece.offset_ms + slope * (t_s - (piece.from_s + piece.to_s) / 2)


class Bins:
    """Sums evidence rows over a second or more."""

    def __init__(self, size: int, origin_ns: int) -> None:
        self.length_s = 1.0
        self._size, self._origin_ns = size, origin_ns
        self._curves: list[Floats] = []

    def add(self, row: LipEvidence) -> None:
        t_s = (row.t_ns - self._origin_ns) / NS_PER_S
        while t_s >= MAX_BINS * self.length_s:
            self._join_pairs()
        index = max(int(t_s / self.length_s), 0)
        while len(self._curves) <= index:
            self._curves.append(np.zeros(self._size, np.float32))
        self._curves[index] += row.row

    def curves(self) -> Floats:
        """[bins, candidates]."""
        return np.stack(self._curves) if self._curves else np.zeros((0, self._size), np.float32)

    def _join_pairs(self) -> None:
        odd = [np.zeros(self._size, np.float32)] if len(self._curves) % 2 else []
        curves = self._curves + odd
        self._curves = [first + second for first, second in zip(curves[::2], curves[1::2], strict=True)]
        self.length_s *= 2


def timeline(
    curves: Floats, length_s: float, calibration: Calibration, sure_from: float, *, slope_ppm: float = 0.0
) -> Timeline:
    """Build the timeline of bins [n, candidates] of `length_s` each. A piece is sure from a confidence of `sure_from`.

    slope_ppm: a known slope, accurate enough for a straight line through the blocks to correct the rest.
    """
    if slope_ppm:
        level = timeline(_levelled(curves, length_s, slope_ppm), length_s, calibration, sure_from)
        return _on_slope(level, slope_ppm, _points(curves, length_s, calibration))
    log_odds = curves / np.float32(calibration.temperature)
    path = _path(log_odds) if len(curves) else np.zeros(0, np.int64)
    cuts = _cuts(path, log_odds)
    blocks = [_blocks(curves[a:b], path[a:b], a, length_s, calibration) for a, b in pairwise(cuts)]
    slope, slope_std = _common_slope(blocks)
    used = slope if slope is not None and slope_std is not None and abs(slope) >= _SIGMA * slope_std else 0.0
    pieces = tuple(
        _piece(curves[a:b], path[a:b], (a * length_s, b * length_s), some, used, calibration, sure_from)
        for (a, b), some in zip(pairwise(cuts), blocks, strict=True)
    )
    steps = _steps(pieces, used)
    drift_ppm, drift_std_ppm = (None if found is None else found * PPM_PER_MS_PER_S for found in (slope, slope_std))
    return Timeline(pieces, steps, _points(curves, length_s, calibration), drift_ppm, drift_std_ppm)


def _levelled(curves: Floats, length_s: float, slope_ppm: float) -> Floats:
    """The bins with a slope subtracted, so that all refer to the offset in the middle of the recording."""
    ticks = np.arange(curves.shape[1])
    moved = slope_ppm / PPM_PER_MS_PER_S * length_s / TICK_MS * (np.arange(len(curves)) - (len(curves) - 1) / 2)
    return np.stack([np.interp(ticks + away, ticks, row) for row, away in zip(curves, moved, strict=True)])


def _on_slope(level: Timeline, slope_ppm: float, points: tuple[Point, ...]) -> Timeline:
    """Put the slope back onto a timeline of levelled bins."""
    end_s = level.pieces[-1].to_s
    slope = slope_ppm / PPM_PER_MS_PER_S

    def back(piece: Piece) -> Piece:
        return replace(piece, offset_ms=piece.offset_ms + slope * ((piece.from_s + piece.to_s) / 2 - end_s / 2))

    std_ppm = max(level.drift_std_ppm or 0.0, _SLOPE_GRID_STD_PPM)
    drift_ppm = slope_ppm + (level.drift_ppm or 0.0)
    return Timeline(tuple(map(back, level.pieces)), level.steps, points, drift_ppm, std_ppm)


def _steps(pieces: tuple[Piece, ...], slope: float) -> tuple[Step, ...]:
    """Steps from each sure piece to the next. Unsure pieces in between may have wandered and get no steps."""
    found = []
    for old, new in pairwise(piece for piece in pieces if piece.sure):
        apart_s = (new.from_s + new.to_s - old.from_s - old.to_s) / 2
        step_ms = new.offset_ms - old.offset_ms - slope * apart_s
        if new.from_s == old.to_s or abs(step_ms) >= _MIN_STEP_MS:
            found.append(Step(new.from_s, step_ms))
    return tuple(found)


def _path(log_odds: Floats) -> npt.NDArray[np.int64]:
    """The most probable candidate of each bin."""
    count, size = log_odds.shape
    states = np.arange(size)
    came_from = np.zeros((count, size), np.int64)
    score = log_odds[0].astype(np.float64)
    for k in range(1, count):
        below = np.concatenate([[-np.inf], score[:-1]]) - _CREEP_PRICE
        above = np.concatenate([score[1:], [-np.inf]]) - _CREEP_PRICE
        jump = int(score.argmax())
        ways = np.stack([score, below, above, np.full(size, score[jump] - _JUMP_PRICE)])
        way = ways.argmax(0)
        came_from[k] = np.choose(way, [states, states - 1, states + 1, np.full(size, jump)])
        score = ways.max(0) + log_odds[k]
    path = np.empty(count, np.int64)
    path[-1] = score.argmax()
    for k in range(count - 1, 0, -1):
        path[k - 1] = came_from[k, path[k]]
    return path


def _cuts(path: npt.NDArray[np.int64], log_odds: Floats) -> list[int]:
    """The bins that begin a piece, and the end.

    A step of a few ticks is cheaper for the path in consecutive creeps than in a jump, but no drift is that fast.
    """
    if not len(path):
        return []
    cuts, signs = [0], np.sign(np.diff(path))
    ends = np.flatnonzero(np.diff(signs, prepend=0, append=0))  # of the runs of moves in one direction
    for begin, end in pairwise(ends):
        old, new = path[begin], path[end]
        if abs(new - old) * TICK_MS >= _MIN_STEP_MS:
            older = np.cumsum(log_odds[begin:end, old] - log_odds[begin:end, new])  # in favour of the old offset
            cuts.append(int(begin + older.argmax()) + 1)
    return [*cuts, len(path)]


def _blocks(
    curves: Floats, path: npt.NDArray[np.int64], first: int, length_s: float, calibration: Calibration
) -> Doubles:
    """[n, 3]: time, offset and seconds of each block with evidence, searched only near the path."""
    size, step = curves.shape[1], max(round(_BLOCK_S / length_s), 1)
    rows = []
    for start in range(0, len(curves), step):
        part = curves[start : start + step]
        has_evidence = np.ptp(part, axis=1) > 1e-6
        middle = int(np.median(path[start : start + step]))
        found = estimate_near(part.sum(0), middle - size // 2, calibration)
        if found is not None:
            bins = np.flatnonzero(has_evidence)
            t_s = (first + start + float(bins.mean()) + 0.5) * length_s
            rows.append((t_s, found.offset_ms, len(bins) * length_s))
    return np.array(rows, np.float64).reshape(-1, 3)


def _common_slope(pieces: list[Doubles]) -> tuple[float | None, float | None]:
    lines = [line(some[:, 0], some[:, 1], some[:, 2], _MIN_NOISE_MS) for some in pieces if len(some)]
    known = [(found.slope, found.slope_std) for found in lines if found is not None]
    if not known:
        return None, None
    slopes, stds = np.array(known).T
    std = float(1 / np.sqrt((stds**-2).sum()))
    slope = float((slopes * stds**-2).sum() * std**2)
    if std * PPM_PER_MS_PER_S > _MAX_STD_PPM and abs(slope) < _CLEAR_SIGMA * std:
        return None, None
    return slope, std


def _piece(
    curves: Floats, path: npt.NDArray[np.int64], span_s: tuple[float, float], blocks: Doubles, slope: float,
    calibration: Calibration, sure_from: float,
) -> Piece:  # fmt: skip
    middle_s, from_s = sum(span_s) / 2, span_s[0]
    # The drift is removed, so that all bins refer to one offset.
    bin_s = (span_s[1] - from_s) / len(curves)
    times_s = from_s + bin_s * (np.arange(len(curves)) + 0.5)
    moves = np.rint(slope * (times_s - middle_s) / TICK_MS).astype(np.int64)
    straight = np.zeros(curves.shape[1], np.float32)
    known = OffsetFilter(curves.shape[1] // 2, calibration.temperature)
    for curve, move in zip(curves, moves, strict=True):
        level = np.roll(curve, -int(move))
        straight += level
        known.push_sum(level, round(bin_s * 1000 / FRONT_END.lip_tick_ms))
    found = posterior.estimate(calibration) if (posterior := known.posterior()) else None
    if found is None or not len(blocks):
        return Piece(*span_s, (float(np.median(path)) - curves.shape[1] // 2) * TICK_MS, np.inf, 0.0, False)
    level_ms = blocks[:, 1] - slope * (blocks[:, 0] - middle_s)
    offset_ms = centre(level_ms, max(1.4826 * float(np.median(np.abs(level_ms - np.median(level_ms)))), _MIN_NOISE_MS))
    std_ms = max(float(np.median(np.abs(level_ms - offset_ms))) * 1.4826, _MIN_NOISE_MS) / np.sqrt(len(blocks))
    sure = found.confidence >= sure_from and not found.at_edge and abs(found.offset_ms - offset_ms) <= 40
    broad = len(curves) * bin_s >= _BROAD_FROM_S and is_broad(straight)
    return Piece(*span_s, offset_ms, float(std_ms), found.confidence, sure and not broad, broad)


def _points(curves: Floats, length_s: float, calibration: Calibration) -> tuple[Point, ...]:
    step = max(round(_POINT_S / length_s), 1)
    parts = [(start, curves[start : start + step]) for start in range(0, len(curves), step)]
    return tuple(Point((at + len(part) / 2) * length_s, estimate(part.sum(0), calibration)) for at, part in parts)
