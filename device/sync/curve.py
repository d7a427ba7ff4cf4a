"""From two embedding tracks to an offset: evidence for each candidate, its sum over a window, its best point.

Conventions: candidates run from -search to +search in audio ticks of 10 ms. The offset is how far the audio is ahead,
so candidate d at lip tick i uses audio tick 4 i - d.
Method: the encoders are trained with cross-entropy, so their scaled cosine estimates how much likelier this audio is
with these lips than any audio is (pointwise mutual information). Sums over a window are log-likelihoods of the
candidates. Missing audio counts 0.
Lips compete for the audio: the better the audio fits other lips of the same face nearby, the less it counts here. That
removes what a voice and a face always have in common, and what belongs to another moment.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from device.bundles.calibration import Calibration
from device.features.contract import AUDIO_TICK_NS, AUDIO_TICKS_PER_LIP_TICK
from device.records import NS_PER_MS, Estimate

TICK_MS = AUDIO_TICK_NS / NS_PER_MS
TOLERANCE_TICKS = 4  # "right" means within one 25 Hz frame
_NEAR_TICKS = 12
_BROAD_HALF_MS, _BROAD_TOP_MS = 180.0, 110.0
_SHARP_TICKS = 0.7  # below that, a mean of ticks is only the highest one
_NEGATIVE_GAP_TICKS = 2  # closer lips are seen in nearly the same frames
_NEGATIVE_PRIOR = 5.0  # pseudo-count: with few negatives, add this many that fit all candidates equally

Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]


def evidence(
    lips: Floats, lips_valid: Flags, lips_first: int, audio: Floats, audio_valid: Flags, audio_first: int,
    search_ticks: int, logit_scale: float, negative_reach_ticks: int = 0,
) -> Floats:  # fmt: skip
    """Return evidence rows [lip ticks, 2 * search_ticks + 1] in nats; 0 where lips or audio are missing.

    Embeddings are [ticks, size], of any length. `lips_first` and `audio_first` are the ticks of their first rows, at
    the middle of the windows that the encoders see. A row is compared with lips of up to `negative_reach_ticks` before
    and after it.
    """
    size = 2 * search_ticks + 1
    if not len(lips) or not len(audio):
        return np.zeros((len(lips), size), np.float32)
    logits = np.float32(logit_scale) * (unit(lips) @ unit(audio).T)
    centre = (lips_first + np.arange(len(lips))) * AUDIO_TICKS_PER_LIP_TICK - audio_first
    # Column k is offset k - search ticks, so the audio tick falls as the offset grows.
    column = centre[:, None] + search_ticks - np.arange(size)[None, :]
    inside = np.clip(column, 0, len(audio) - 1)
    heard = (column == inside) & audio_valid[inside] & lips_valid[:, None]
    rows = np.take_along_axis(logits, inside, axis=1)
    if negative_reach_ticks:
        negatives = np.take_along_axis(_negatives(logits, lips_valid, negative_reach_ticks), inside, axis=1)
        alike = np.where(heard, negatives, 0).sum(1, keepdims=True) / np.maximum(heard.sum(1, keepdims=True), 1)
        count = np.maximum(_near(lips_valid[:, None].astype(np.float64), negative_reach_ticks), 1)
        rows = rows - np.log(np.maximum(negatives + alike * (_NEGATIVE_PRIOR / count), 1e-30)).astype(np.float32)
    return relative(rows, heard)


def relative(rows: Floats, heard: Flags) -> Floats:
    """Log-likelihood rows [ticks, candidates] relative to the mean likelihood of all valid audio; 0 elsewhere."""
    rows = np.where(heard, rows, -np.inf)
    top = np.maximum(rows.max(1, keepdims=True), -1e30)
    count = np.maximum(heard.sum(1, keepdims=True), 1)
    baseline = np.log(np.maximum(np.exp(rows - top).sum(1, keepdims=True), 1e-30) / count) + top
    return np.where(heard, rows - baseline, 0).astype(np.float32)


def _negatives(logits: Floats, lips_valid: Flags, negative_reach_ticks: int) -> npt.NDArray[np.float64]:
    """How well each audio tick [n, m] fits the other lips nearby: a sum of likelihoods, up to a factor."""
    top = np.nanmax(logits, initial=-np.inf, where=lips_valid[:, None])
    return _near(np.exp(np.where(lips_valid[:, None], logits - top, -np.inf), dtype=np.float64), negative_reach_ticks)


def _near(values: npt.NDArray[np.float64], negative_reach_ticks: int) -> npt.NDArray[np.float64]:
    """For each row, the sum of the rows within `negative_reach_ticks`, except those that see nearly the same frames."""
    total = np.concatenate([np.zeros_like(values[:1]), np.cumsum(values, axis=0)])

    def within(ticks: int) -> npt.NDArray[np.float64]:
        rows = np.arange(len(values))
        return np.asarray(total[np.minimum(rows + ticks + 1, len(values))] - total[np.maximum(rows - ticks, 0)])

    return np.maximum(within(negative_reach_ticks) - within(_NEGATIVE_GAP_TICKS - 1), 0)


def unit(vectors: Floats) -> Floats:
    """Scale vectors [..., size] to length 1."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-6), np.float32)


@dataclass(frozen=True, slots=True)
class Posterior:
    """A curve's posterior at one temperature: the offset in ticks, its spread, and how the evidence is distributed.

    `near` is the evidence within 40 ms of the offset and `total` all of it, both as odds relative to the curve's
    highest point. `top` is the log odds of that point.
    """

    offset_ticks: float
    std_ticks: float
    at_edge: bool
    near: float
    total: float
    top: float

    def confidence(self, candidates: int, null_log_odds: float) -> float:
        """Probability of being right to within 40 ms, against all other candidates and against no match at all."""
        # Relative to the highest point: over a long unmeasurable stretch, exp of the sum would underflow.
        none = np.exp(min(np.log(candidates) + null_log_odds - self.top, 700.0))
        return float(self.near / (self.total + none))


def offset_posterior(curve: Floats, temperature: float) -> Posterior | None:
    """Return the most probable offset; None where the curve has no evidence.

    The 80 ms with the most probability count, not the highest point: a lone spike may hold less than a broad hill.
    Within them the offset is the mean, or the vertex of a parabola where nearly all of it is on one or two ticks.
    """
    if not np.ptp(curve) > 1e-6:
        return None
    log_odds = curve.astype(np.float64) / temperature
    top = float(log_odds.max())
    mass = np.exp(log_odds - top)
    best, position, near = densest(mass)
    ticks, share = np.arange(len(mass))[near], mass[near] / mass[near].sum()
    std = float(np.sqrt(share @ (ticks - position) ** 2))
    if std < _SHARP_TICKS:
        peak = int(ticks[np.argmax(share)])
        position = peak + _vertex(curve, peak)
    return Posterior(
        position - len(curve) // 2, std, best < TOLERANCE_TICKS or best >= len(curve) - TOLERANCE_TICKS,
        float(mass[near].sum()), float(mass.sum()), top,
    )  # fmt: skip


def densest(mass: npt.NDArray[np.float64]) -> tuple[int, float, slice]:
    """The 80 ms of a distribution [candidates] with the most probability: middle candidate, mean, and their slice."""
    width = 2 * TOLERANCE_TICKS + 1
    best = int(np.argmax(np.convolve(mass, np.ones(width))[TOLERANCE_TICKS : TOLERANCE_TICKS + len(mass)]))
    for _ in range(width):
        near = slice(max(best - TOLERANCE_TICKS, 0), best + TOLERANCE_TICKS + 1)
        position = float(mass[near] @ np.arange(len(mass))[near] / mass[near].sum())
        if round(position) == best:
            break
        best = round(position)
    return best, position, near


def estimate(curve: Floats, calibration: Calibration) -> Estimate | None:
    """Estimate the offset of a curve (evidence rows summed over a window); None where the curve has no evidence."""
    posterior = offset_posterior(curve, calibration.temperature)
    if posterior is None:
        return None
    return Estimate(
        offset_ms=posterior.offset_ticks * TICK_MS - calibration.zero_offset_ms,
        offset_std_ms=max(posterior.std_ticks, 0.29) * TICK_MS,  # never below the rounding of one tick
        confidence=posterior.confidence(len(curve), calibration.null_log_odds),
        at_edge=posterior.at_edge,
    )


def estimate_near(curve: Floats, offset_ticks: float, calibration: Calibration) -> Estimate | None:
    """Estimate the offset of a curve within 120 ms of a known one; None where the curve has no evidence there."""
    middle = len(curve) // 2 + round(offset_ticks)
    low, high = max(middle - _NEAR_TICKS, 0), min(middle + _NEAR_TICKS + 1, len(curve))
    found = estimate(curve[low:high], calibration)
    if found is None:
        return None
    moved_ms = (low + (high - low) // 2 - len(curve) // 2) * TICK_MS
    return replace(found, offset_ms=found.offset_ms + moved_ms)


def is_broad(curve: Floats) -> bool:
    """Whether a curve's hill is wider than a single offset makes it.

    Audio that was recorded twice, 100 ms apart, makes such a hill. For the evidence of 10 s or more: none of 155 such
    stretches of single recordings was that wide.
    """
    return _width_ms(curve, 0.5) >= _BROAD_HALF_MS and _width_ms(curve, 0.8) >= _BROAD_TOP_MS


def _width_ms(curve: Floats, share: float) -> float:
    """Width of the highest hill at this share of its height above the median."""
    top = int(np.argmax(curve))
    level = float(np.median(curve)) * (1 - share) + float(curve[top]) * share
    low = np.flatnonzero(curve <= level)
    left, right = low[low < top], low[low > top]
    return float((right[0] if len(right) else len(curve)) - (left[-1] if len(left) else -1)) * TICK_MS


def _vertex(curve: Floats, best: int) -> float:
    """Peak of the parabola through the best point and its neighbours, within half a tick of the best point."""
    if not 0 < best < len(curve) - 1:
        return 0.0
    left, middle, right = (float(value) for value in curve[best - 1 : best + 2])
    bend = left - 2 * middle + right
    return 0.0 if bend >= 0 else float(np.clip(0.5 * (left - right) / bend, -0.5, 0.5))
