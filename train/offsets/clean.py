"""`avdrift-train clean SHARDS… --out OFFSETS.json`: find each training clip's own offset.

Natural recordings are off by a frame or two, and some show one person while another speaks. Training on them unchanged
teaches a blur. So: train on one half of the clips, measure the other half, and the reverse; shift what fits, drop what
does not. A bundle that was trained on others can measure them instead. A word-long clip carries little evidence, so its
offset is shrunk towards its corpus' median.

Zero: recordings agree only by convention, and corpora differ by a frame or two. Zero is the median of the corpora's
medians, so that neither the largest corpus nor one bad source decides it.

The confidence is fitted here as well, because only here are there plenty of clips that a model was not trained on.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from device.bundles.bundle import Bundle
from device.bundles.calibration import Calibration
from device.errors import InputFormatError
from device.sync.curve import TICK_MS, estimate
from train.data.shards import Clip
from train.evaluation.calibration import Fitted, fitted
from train.evaluation.tracks import Track, own_offset, track
from train.fit.config import FitConfig
from train.fit.towers import fit
from train.models.encoders import Towers, bundle_towers
from train.models.towers import keras_towers
from train.progress import with_progress

_SEARCH_TICKS = 60
_PRIOR_STD_MS = 60.0  # of a clip around its corpus
_MIN_GAIN_PER_WINDOW = 0.02  # mean evidence per lip window in nats, below which nothing fits
_LARGE_CORPUS = 20  # clips: a smaller corpus does not count for the zero
_CALIBRATION_LIP_TICKS = 100  # clips of 4 s: shorter ones do not determine their own offset well enough
_MAX_DROPPED = 0.8  # share of the clips: beyond it, too little is left
_POOLS = 20  # a label with more clips than this is taken for many speakers and split by clip

Curve = npt.NDArray[np.float32]


def fold_of(clip: Clip, clips_of_speaker: int) -> int:
    """0 or 1, the same in every run; by speaker, or by clip if one label pools very many clips."""
    key = clip.name if clips_of_speaker > _POOLS else clip.speaker
    return zlib.crc32(key.encode()) & 1


def curves(tracks: list[Track]) -> dict[str, tuple[Curve, int]]:
    """For each clip, its evidence summed over all speaking windows, and their number."""
    found = {}
    for t in tracks:
        rows = t.evidence(_SEARCH_TICKS)[t.speech()]
        found[t.clip.name] = (rows.sum(0), len(rows)) if len(rows) else (np.zeros(2 * _SEARCH_TICKS + 1, np.float32), 0)
    return found


def offsets(
    clips: list[Clip], curve_of: dict[str, tuple[Curve, int]], calibration: Calibration, *, absolute: bool = False
) -> dict[str, dict[str, object]]:
    """Per clip `{offset_ms, gain, dropped}`, relative to the median of the corpora's medians.

    absolute: relative to the zero of the calibration, for towers with a known zero.
    """
    by_corpus: dict[str, list[float]] = defaultdict(list)
    for clip in clips:
        curve, count = curve_of[clip.name]
        alone = estimate(curve, calibration)
        if alone and count > 20 and curve.max() / count > _MIN_GAIN_PER_WINDOW:
            by_corpus[clip.corpus].append(alone.offset_ms)
    everything = [value for values in by_corpus.values() for value in values]
    candidates_ms = (np.arange(2 * _SEARCH_TICKS + 1) - _SEARCH_TICKS) * TICK_MS
    table: dict[str, dict[str, object]] = {}
    for clip in clips:
        curve, count = curve_of[clip.name]
        values = by_corpus[clip.corpus]
        centre = float(np.median(values if len(values) >= 5 else everything)) if everything else 0.0
        spread = (
            max(_PRIOR_STD_MS, 1.5 * float(np.median(np.abs(np.array(values) - centre)))) if len(values) >= 5 else 120.0
        )
        prior = -0.5 * ((candidates_ms - centre) / spread) ** 2 * calibration.temperature
        best = estimate((curve + prior).astype(np.float32), calibration)
        gain = float(curve[round(best.offset_ms / TICK_MS) + _SEARCH_TICKS] / max(count, 1)) if best else 0.0
        table[clip.name] = {
            "offset_ms": round(best.offset_ms, 1) if best else 0.0,
            "gain": round(gain, 4),
            "dropped": best is None or gain < _MIN_GAIN_PER_WINDOW,
        }
    large = [float(np.median(values)) for values in by_corpus.values() if len(values) >= _LARGE_CORPUS]
    origin = float(np.median(large or everything)) if everything and not absolute else 0.0
    for row in table.values():
        row["offset_ms"] = round(float(str(row["offset_ms"])) - origin, 1)
    return table


def confidence(tracks: list[Track], table: dict[str, dict[str, object]]) -> Fitted:
    """The calibration that unseen clips of sufficient length support. Raises InputFormatError if they are too few."""
    usable = [t for t in tracks if len(t.lips) >= _CALIBRATION_LIP_TICKS and not table[t.clip.name]["dropped"]]
    calibration = Calibration(logit_scale=usable[0].logit_scale) if usable else Calibration()
    truths_ms = [own_offset(t, calibration)[0] for t in usable]
    return fitted(usable, truths_ms, np.random.default_rng(0))


def tracks_by_halves(clips: list[Clip], validation: list[Clip], config: FitConfig, work: Path) -> list[Track]:
    """All clips, each by a model trained on the other half; both models stay (and resume) in `work`."""
    count = Counter(clip.speaker for clip in clips)
    halves: list[list[Clip]] = [[], []]
    for clip in clips:
        halves[fold_of(clip, count[clip.speaker])].append(clip)
    tracks: list[Track] = []
    for half in (0, 1):
        pair = fit(halves[half], validation, work / f"half{half}", replace(config, seed=config.seed + half))
        tracks += _tracks(halves[1 - half], keras_towers(pair))
    return tracks


def tracks_by_bundle(clips: list[Clip], bundle: Bundle) -> list[Track]:
    """All clips by one model, which takes minutes: for clips that it has not been trained on."""
    return _tracks(clips, bundle_towers(bundle))


def _tracks(clips: list[Clip], towers: Towers) -> list[Track]:
    # The minimum gain that keeps a clip applies to evidence without temporal negatives; with them more noise would
    # pass.
    towers = replace(towers, negative_reach_ticks=0)
    return [track(clip, towers) for clip in with_progress(clips, "measure", len(clips), "clip")]


def clean(
    tracks: list[Track], calibration: Calibration, out: Path, calibration_out: Path | None = None,
    earlier: dict[str, dict[str, object]] | None = None, *, absolute: bool = False,
) -> None:  # fmt: skip
    """Write the offsets of all clips, and the confidence if requested.

    `earlier` is the table of a first round whose offsets the clips already have: trained on better clips, the halves
    measure more sharply. What that round dropped stays dropped.
    Raises InputFormatError if there is too little speech to fit the confidence; the offsets have been written by then.
    """
    table = offsets([t.clip for t in tracks], curves(tracks), calibration, absolute=absolute)
    out.write_text(json.dumps((earlier or {}) | table, indent=0), encoding="utf-8")
    dropped = sum(bool(row["dropped"]) for row in table.values())
    print(f"{len(table) - dropped} clips measured and shifted, {dropped} dropped, in {out}")
    require_kept(table, out)
    if calibration_out:
        found = confidence(tracks, table)
        calibration_out.write_text(json.dumps(found.calibration.to_dict(), indent=1), encoding="utf-8")
        print(json.dumps(found.to_dict()))


def require_kept(table: Mapping[str, Mapping[str, Any]], out: Path) -> None:
    """Raises InputFormatError, with the cause, if hardly a clip is left."""
    dropped = sum(bool(row["dropped"]) for row in table.values())
    if dropped <= _MAX_DROPPED * len(table):
        return
    gain = float(np.median([float(row["gain"]) for row in table.values()]))
    if gain < _MIN_GAIN_PER_WINDOW / 2:
        seen = f"{gain:.3f} nats a window, {_MIN_GAIN_PER_WINDOW} are needed"
        why = f"the models that measured them have not learnt ({seen})"
        remedy = "Give clean more batches, or let built-in models measure: --bundle, or the recipe `adapt`"
    else:
        why = "their audio hardly fits their lips"
        remedy = "Check whether the clips show the person who is heard"
    what = f"clean dropped {dropped} of {len(table)} clips because {why}"
    raise InputFormatError(what, where=str(out), remedy=remedy)
