"""`avdrift-train zero SHARDS…`: the physical zero of towers or of a table of offsets, from plosive releases.

Natural recordings disagree by whole frames, so a trained model's zero is only the mean of its clips. Physics gives a
better one: at the release of /p b m/ the lips part as the burst sounds. In a file whose audio is early by x they part x
after it.
Conventions: for each pair of a parting and a burst, residual = offset of the clip - (parting - burst). If the pair is
one release, this is the zero of whatever gave the offset. A frame's time is its presentation time.
Method: residuals of true pairs form a peak, those of all others a floor: a normal on a uniform density, fitted by
expectation maximization around the mode. Corpora are fitted separately, their errors bootstrapped over speakers, and
combined as random effects (DerSimonian and Laird, Meta-analysis in clinical trials, 1986). The resulting uncertainty is
that for a recording from elsewhere: it includes the disagreement of the corpora and the method's own error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from device.errors import InputFormatError
from train.data.shards import Clip
from train.offsets.plosive_releases import burst_onsets_ms, lip_openings_ms

REACH_MS: Final = 300.0  # larger residuals are useless: the clip's offset would be off by as much
# On synthetic faces with a known truth, it is off by 0 to 12 ms: blended frames part slightly early, and where noise
# hides the burst of a /p/, the voice 30 ms later is taken.
METHOD_STD_MS: Final = 6.0
OTHERS: Final = "all others"

_BIN_MS = 10.0
_PEAK_MS = 120.0  # the peak is fitted within this of its mode: further away the floor is not uniform
_STD_RANGE_MS = (8.0, 30.0)
_STEPS, _STEPS_DRAWN, _DRAWS = 60, 15, 200
_MIN_EVENTS, _MIN_SIGMAS = 12.0, 3.0
_POOL_CLIPS = 20  # a label with more clips hides many speakers, or one who must not decide alone: drawn clip by clip

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Residuals:
    """Residuals in ms of all pairs, their corpora, and the units of the bootstrap: usually the speakers."""

    residual_ms: Floats
    corpus: npt.NDArray[np.str_]
    unit: npt.NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class Peak:
    """A zero found in one corpus: about `events` of its `pairs` are releases, spread by `spread_ms` around it."""

    zero_ms: float
    std_ms: float
    spread_ms: float
    events: float
    pairs: int


@dataclass(frozen=True, slots=True)
class Zero:
    """The zero of all corpora; `disagreement_ms` is their spread beyond their own errors (one sigma)."""

    zero_offset_ms: float
    zero_uncertainty_ms: float
    disagreement_ms: float
    corpora: dict[str, Peak]

    def of(self, corpus: str) -> float:
        """The estimate for one corpus: its own zero, shrunk towards the others' in proportion to its uncertainty."""
        peak = self.corpora.get(corpus)
        if peak is None:
            return self.zero_offset_ms
        own = self.disagreement_ms**2 / (self.disagreement_ms**2 + peak.std_ms**2) if self.disagreement_ms else 0.0
        return own * peak.zero_ms + (1 - own) * self.zero_offset_ms

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def residuals(clips: Sequence[Clip], offsets_ms: dict[str, float]) -> Residuals:
    """All pairs of all clips with a given offset."""
    known = [clip for clip in clips if clip.name in offsets_ms]
    clips_of = Counter(clip.speaker for clip in clips)
    found: list[tuple[float, str, str]] = []
    for clip in known:
        parted = lip_openings_ms(clip.lip_points, clip.first_lip_tick)
        burst = burst_onsets_ms(clip.samples.astype(np.float32) / np.float32(32767), clip.samples_t_ns / 1e6)
        values = offsets_ms[clip.name] - (parted[:, None] - burst[None, :]).ravel()
        unit = clip.name if clips_of[clip.speaker] > _POOL_CLIPS else clip.speaker
        found += [(float(value), clip.corpus, unit) for value in values[np.abs(values) < REACH_MS]]
    values_ms, corpus, unit_of = zip(*found, strict=True) if found else ((), (), ())
    return Residuals(np.array(values_ms, np.float64), np.array(corpus, np.str_), np.array(unit_of, np.str_))


def find_zero(given: Residuals, random: np.random.Generator) -> Zero:
    """The zero of all corpora together. Raises InputFormatError if no corpus shows a peak."""
    corpora: dict[str, Peak] = {}
    rest = np.ones(len(given.residual_ms), np.bool_)
    for name in sorted(set(given.corpus.tolist())):
        inside = given.corpus == name
        peak = find_peak(given.residual_ms[inside], given.unit[inside], random)
        if peak:
            corpora[name] = peak
            rest &= ~inside
    peak = find_peak(given.residual_ms[rest], given.unit[rest], random)
    if peak:
        corpora[OTHERS] = peak
    if not corpora:
        raise InputFormatError(
            f"{len(given.residual_ms)} pairs of parting lips and bursts show no peak", where="clips",
            remedy="Give more clips of people who speak to the camera, prepared with this version",
        )  # fmt: skip
    mean, error, disagreement = random_effects(
        np.array([peak.zero_ms for peak in corpora.values()]), np.array([peak.std_ms for peak in corpora.values()])
    )
    uncertainty = float(np.sqrt(error**2 + disagreement**2 + METHOD_STD_MS**2))
    return Zero(round(mean, 1), round(uncertainty, 1), round(disagreement, 1), corpora)


def find_peak(residual_ms: Floats, unit: npt.NDArray[np.str_], random: np.random.Generator) -> Peak | None:
    """The peak of some residuals and its error over units; None if it does not stand out."""
    count, edges = np.histogram(residual_ms, np.arange(-REACH_MS, REACH_MS + 1, _BIN_MS))
    smooth = np.convolve(count, np.ones(5), "same")
    mode_ms = float(edges[np.argmax(smooth)]) + _BIN_MS / 2
    near = np.abs(residual_ms - mode_ms) < _PEAK_MS
    values, (names, index) = residual_ms[near], np.unique(unit[near], return_inverse=True)
    if not len(values):
        return None
    zero_ms, spread_ms, events = _fit(values, np.ones(len(values)), mode_ms, _STEPS)
    floor = (len(values) - events) * min(2 * spread_ms / _PEAK_MS, 1.0)  # pairs by chance within two sigma
    if events < _MIN_EVENTS or events < _MIN_SIGMAS * np.sqrt(floor):
        return None
    draws = random.multinomial(len(names), np.full(len(names), 1 / len(names)), _DRAWS)
    drawn = [
        _fit(values, draw[index].astype(np.float64), zero_ms, _STEPS_DRAWN)[0] for draw in draws if draw[index].any()
    ]
    low, high = np.percentile(drawn, (16, 84))
    # A single speaker does not represent the others: no less than if each release were one.
    std_ms = max(float(high - low) / 2, spread_ms / float(np.sqrt(events)))
    return Peak(round(zero_ms, 1), round(std_ms, 1), round(spread_ms, 1), round(events, 1), len(residual_ms))


def _fit(values: Floats, weight: Floats, start_ms: float, steps: int) -> tuple[float, float, float]:
    """Mean, deviation and weight of a normal on a density that is uniform over 2 `_PEAK_MS`."""
    mean, std, share = start_ms, 20.0, 0.5
    for _ in range(steps):
        normal = share * np.exp(-0.5 * ((values - mean) / std) ** 2) / (std * np.sqrt(2 * np.pi))
        part = weight * normal / (normal + (1 - share) / (2 * _PEAK_MS))
        total = max(float(part.sum()), 1e-9)
        mean = float(part @ values) / total
        std = float(np.clip(np.sqrt(part @ (values - mean) ** 2 / total), *_STD_RANGE_MS))
        share = min(total / max(float(weight.sum()), 1e-9), 0.99)
    return mean, std, total


def random_effects(values: Floats, std: Floats) -> tuple[float, float, float]:
    """Mean of estimates that may differ by more than their errors, its error, and that difference (one sigma)."""
    weight = 1 / std**2
    fixed = float(weight @ values / weight.sum())
    excess = float(weight @ (values - fixed) ** 2) - (len(values) - 1)
    scale = float(weight.sum() - (weight**2).sum() / weight.sum())
    between = np.sqrt(max(excess, 0.0) / scale) if scale > 1e-12 else 0.0
    weight = 1 / (std**2 + between**2)
    return float(weight @ values / weight.sum()), float(1 / np.sqrt(weight.sum())), float(between)


def moved(table: dict[str, dict[str, Any]], corpus_of: dict[str, str], zero: Zero) -> dict[str, dict[str, Any]]:
    """A table of offsets relative to the physical zero, corpus by corpus; clips of unknown corpora by the mean."""
    return {
        name: row | {"offset_ms": round(float(row["offset_ms"]) - zero.of(corpus_of.get(name, "")), 1)}
        for name, row in table.items()
    }
