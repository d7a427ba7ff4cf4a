"""How a mouth moves while it says given phonemes: a target for each sound, blended by dominance, shut where it must be.

Method: each sound pulls every articulator towards its target with a strength (dominance) that fades exponentially
before and after it, and the articulator follows the weighted mean (Cohen & Massaro, "Modeling coarticulation in
synthetic visual speech", 1993). Rounding fades slowest, so it starts well before its vowel, as in people. Blending
alone never shuts the lips fully, so the gap is then gated to zero through every p, b, m closure that `synth_speech`
measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from train.synth.speech import Phoneme

STEP_S = 0.001
LABIAL_CLOSURES = frozenset("pbm")
MODIFIERS = frozenset("ːˑˈˌʰʲʷˤ̩̯̃̊̚.ˠ- \u0361")

# Seconds over which each articulator's pull fades to 1/e before and after its sound.
_FADE_BEFORE_S = (0.055, 0.045, 0.060, 0.100, 0.045, 0.035)
_FADE_AFTER_S = (0.055, 0.045, 0.060, 0.070, 0.040, 0.035)
_SHUTTING_S, _OPENING_S = 0.060, 0.070
_SMOOTHING_S = 0.010


class Mouth(NamedTuple):
    """One instant of a mouth: `gap` between the lips, `press` how firmly they are shut; all 0 to 1, `wide` -1 to 1."""

    jaw: float = 0.0
    gap: float = 0.0
    wide: float = 0.0
    rounded: float = 0.0
    tuck: float = 0.0
    tongue: float = 0.0
    press: float = 0.0


@dataclass(frozen=True, slots=True)
class Target:
    """Where a sound wants the articulators (the first six of `Mouth`), and how strongly it insists on each."""

    pose: tuple[float, float, float, float, float, float]
    strength: tuple[float, float, float, float, float, float]


_VOWEL = (1.0, 1.0, 0.8, 0.8, 0.4, 0.3)
_LOOSE = (0.25, 0.25, 0.15, 0.12, 0.4, 0.5)  # h and the sounds made far back follow their neighbours
_CORONAL = (0.7, 0.55, 0.3, 0.25, 0.4, 1.0)
_SIBILANT = (1.4, 1.0, 0.6, 0.3, 0.4, 0.6)


def _targets() -> dict[str, Target]:
    table: dict[str, Target] = {}

    def add(symbols: str, pose: tuple[float, ...], strength: tuple[float, ...]) -> None:
        for symbol in symbols:
            table[symbol] = Target((*pose[:6],), (*strength[:6],))  # type: ignore[arg-type]

    #          jaw   gap   wide round tuck tongue
    add("i", (0.15, 0.24, 0.80, 0.00, 0.0, 0.3), _VOWEL)
    add("ɪɨɯᵻ", (0.24, 0.30, 0.40, 0.00, 0.0, 0.2), _VOWEL)
    add("e", (0.30, 0.40, 0.55, 0.00, 0.0, 0.1), _VOWEL)
    add("ɛ", (0.46, 0.52, 0.40, 0.00, 0.0, 0.0), _VOWEL)
    add("æ", (0.68, 0.68, 0.45, 0.00, 0.0, 0.0), _VOWEL)
    add("aä", (0.78, 0.78, 0.12, 0.00, 0.0, 0.0), _VOWEL)
    add("ɑ", (0.88, 0.82, 0.00, 0.00, 0.0, 0.0), _VOWEL)
    add("ɐʌ", (0.52, 0.52, 0.05, 0.00, 0.0, 0.0), _VOWEL)
    add("ə", (0.28, 0.34, 0.00, 0.00, 0.0, 0.1), tuple(0.6 * s for s in _VOWEL))
    add("ɜɚɝ", (0.30, 0.36, -0.20, 0.30, 0.0, 0.1), _VOWEL)
    add("ɔ", (0.58, 0.52, -0.30, 0.60, 0.0, 0.0), _VOWEL)
    add("ɒ", (0.68, 0.60, -0.15, 0.35, 0.0, 0.0), _VOWEL)
    add("oɤ", (0.40, 0.36, -0.50, 0.80, 0.0, 0.0), _VOWEL)
    add("ʊʉ", (0.25, 0.25, -0.40, 0.70, 0.0, 0.0), _VOWEL)
    add("u", (0.15, 0.17, -0.75, 1.00, 0.0, 0.0), _VOWEL)
    add("yʏ", (0.15, 0.18, -0.60, 0.95, 0.0, 0.2), _VOWEL)
    add("øœɶɵ", (0.38, 0.38, -0.40, 0.70, 0.0, 0.1), _VOWEL)
    add("pbm", (0.12, 0.05, 0.00, 0.05, 0.0, 0.0), (0.5, 1.2, 0.2, 0.15, 0.8, 0.3))
    add("ɸβ", (0.14, 0.08, 0.00, 0.20, 0.0, 0.0), (0.6, 2.0, 0.3, 0.3, 0.6, 0.3))
    add("fvɱʋ", (0.12, 0.14, 0.10, 0.00, 1.0, 0.0), (0.9, 2.0, 0.3, 0.2, 3.0, 0.4))
    add("θð", (0.22, 0.32, 0.10, 0.00, 0.0, 1.0), (1.0, 1.0, 0.3, 0.2, 0.6, 3.0))
    add("szɕʑ", (0.06, 0.28, 0.35, 0.00, 0.0, 0.2), _SIBILANT)
    add("ʃʒʂʐ", (0.09, 0.36, -0.35, 0.70, 0.0, 0.2), (1.5, 1.2, 0.9, 1.0, 0.5, 0.5))
    add("tdnɾɲɳʈɖ", (0.16, 0.30, 0.10, 0.00, 0.0, 0.5), _CORONAL)
    add("lɫɬɭʎ", (0.26, 0.36, 0.10, 0.00, 0.0, 0.8), _CORONAL)
    add("rɹɻʀʁɽ", (0.20, 0.28, -0.20, 0.40, 0.0, 0.2), (0.7, 0.7, 0.5, 0.6, 0.4, 0.5))
    add("w", (0.12, 0.10, -0.80, 1.00, 0.0, 0.0), (1.0, 1.8, 1.3, 1.5, 0.5, 0.3))
    add("ɥ", (0.12, 0.12, -0.60, 1.00, 0.0, 0.2), (1.0, 1.6, 1.2, 1.3, 0.5, 0.3))
    add("j", (0.16, 0.26, 0.50, 0.00, 0.0, 0.3), (0.8, 0.7, 0.5, 0.4, 0.4, 0.4))
    add("kgɡŋxɣqcɟhɦʔʕħçχɴ", (0.26, 0.34, 0.05, 0.00, 0.0, 0.0), _LOOSE)
    return table


TARGETS = _targets()
_REST = Target((0.02, 0.02, 0.0, 0.0, 0.0, 0.0), (0.8, 0.8, 0.5, 0.5, 0.5, 0.5))
_UNKNOWN = Target((0.26, 0.34, 0.05, 0.0, 0.0, 0.0), (0.25, 0.25, 0.15, 0.12, 0.4, 0.5))


def split_sounds(phoneme: Phoneme) -> list[tuple[Target, float, float]]:
    """One (target, start_s, end_s) for each letter of a phoneme: a diphthong or an affricate has two targets."""
    symbols = [symbol for symbol in phoneme.ipa if symbol not in MODIFIERS]
    if not symbols:
        return [(_REST, phoneme.start_s, phoneme.end_s)]
    edges = np.linspace(phoneme.start_s, phoneme.end_s, len(symbols) + 1)
    return [(TARGETS.get(symbol, _UNKNOWN), float(edges[i]), float(edges[i + 1])) for i, symbol in enumerate(symbols)]


def lip_closures_s(phonemes: Sequence[Phoneme]) -> list[tuple[float, float]]:
    """From contact to release of the lips, merged where one closure runs into the next (as in "number")."""
    merged: list[tuple[float, float]] = []
    for phoneme in phonemes:
        if phoneme.ipa[:1] not in LABIAL_CLOSURES or phoneme.closure_s is None:
            continue
        start_s, end_s = phoneme.closure_s
        if merged and start_s - merged[-1][1] < 0.03:
            merged[-1] = (merged[-1][0], max(end_s, merged[-1][1]))
        else:
            merged.append((start_s, end_s))
    return merged


@dataclass(frozen=True, slots=True)
class Trajectory:
    """The mouth at every millisecond: `values` [n, 7] in the order of `Mouth`."""

    values: npt.NDArray[np.float32]

    def at(self, t_s: float, exposure_s: float = 0.010) -> Mouth:
        """What a camera sees at `t_s`: the mean over an exposure around it. Outside the speech, the ends."""
        first = round((t_s - exposure_s / 2) / STEP_S)
        count = max(1, round(exposure_s / STEP_S))
        rows = np.clip(np.arange(first, first + count), 0, len(self.values) - 1)
        return Mouth(*(float(value) for value in self.values[rows].mean(axis=0)))


def move_mouth(phonemes: Sequence[Phoneme], duration_s: float, effort: float = 1.0) -> Trajectory:
    """The mouth over `duration_s` of speech. `effort` scales jaw and gap (a mumbler 0.7, a newsreader 1.2)."""
    count = int(np.ceil(duration_s / STEP_S)) + 1
    pull, weight = np.zeros((count, 6)), np.full((count, 6), 1e-4)
    for phoneme in _with_silences(phonemes, duration_s):
        for target, start_s, end_s in split_sounds(phoneme):
            _add_pull(pull, weight, target, start_s, end_s)
    pose = _smooth(pull / weight)
    pose[:, :2] *= effort
    press = np.zeros(count)
    times_s = np.arange(count, dtype=np.float64) * STEP_S
    for start_s, release_s in lip_closures_s(phonemes):
        _shut(pose, press, times_s, start_s, release_s)
    values = np.concatenate([pose, press[:, None]], axis=1)
    return Trajectory(np.clip(values, -1.0, 1.3).astype(np.float32))


def _with_silences(phonemes: Sequence[Phoneme], duration_s: float) -> list[Phoneme]:
    filled: list[Phoneme] = []
    last_s = 0.0
    for phoneme in phonemes:
        if phoneme.start_s - last_s > 0.05:
            filled.append(Phoneme("", last_s, phoneme.start_s))
        filled.append(phoneme)
        last_s = phoneme.end_s
    if duration_s - last_s > 0.05:
        filled.append(Phoneme("", last_s, duration_s))
    return filled


def _add_pull(
    pull: npt.NDArray[np.float64], weight: npt.NDArray[np.float64], target: Target, start_s: float, end_s: float
) -> None:
    """Add one sound's dominance: full over the middle of the sound, fading outside it."""
    core_s = 0.2 * (end_s - start_s)
    reach_s = 0.5
    first = max(0, int((start_s - reach_s) / STEP_S))
    stop = min(len(pull), int((end_s + reach_s) / STEP_S))
    t_s = np.arange(first, stop)[:, None] * STEP_S
    before = np.maximum(start_s + core_s - t_s, 0.0) / np.asarray(_FADE_BEFORE_S)
    after = np.maximum(t_s - (end_s - core_s), 0.0) / np.asarray(_FADE_AFTER_S)
    dominance = np.asarray(target.strength) * np.exp(-before - after)
    pull[first:stop] += dominance * np.asarray(target.pose)
    weight[first:stop] += dominance


def _smooth(pose: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Round off the corners that exponentials leave; the kernel is symmetric, so nothing is delayed."""
    half = int(3 * _SMOOTHING_S / STEP_S)
    kernel = np.exp(-0.5 * (np.arange(-half, half + 1) * STEP_S / _SMOOTHING_S) ** 2)
    kernel /= kernel.sum()
    padded = np.pad(pose, ((half, half), (0, 0)), mode="edge")
    return np.stack([np.convolve(padded[:, i], kernel, mode="valid") for i in range(pose.shape[1])], axis=1)


def _shut(
    pose: npt.NDArray[np.float64],
    press: npt.NDArray[np.float64],
    times_s: npt.NDArray[np.float64],
    start_s: float,
    release_s: float,
) -> None:
    """Gate the gap to zero from contact to release. Lips meet and part fast: the slope is steepest at both ends."""
    near = (times_s > start_s - _SHUTTING_S) & (times_s < release_s + _OPENING_S)
    t_s = times_s[near]
    closing = np.sin(np.pi / 2 * np.clip((start_s - t_s) / _SHUTTING_S, 0.0, 1.0))
    opening = np.sin(np.pi / 2 * np.clip((t_s - release_s) / _OPENING_S, 0.0, 1.0))
    pose[near, 1] *= np.maximum(closing, opening)
    inside = np.clip((t_s - start_s) / max(release_s - start_s, 1e-3), 0.0, 1.0)
    press[near] = np.maximum(press[near], np.sin(np.pi * inside))
