"""`avdrift-train trust --fit`: the confidence fitted on what the daemon would report, over joins and steps.

Method: the least null log odds with which nearly all numbers are right, and strangers' voices and still mouths get next
to none; where no log odds do, those of the start are kept, and `reached` says so. The temperature stays: it also
decides where in a curve the offset is. How much of that holds for speakers that it was not fitted on is told beside:
fitted on each half of the speakers, judged on the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from tqdm import tqdm

from device.bundles.calibration import Calibration
from train.evaluation.negatives import mismatched, still_embeddings
from train.evaluation.report_precision import Stream, joined, trust
from train.evaluation.tracks import Track

LEAST_RIGHT = 0.9975  # asked are 99.5 %, of speakers that nobody has seen
MOST_HOPELESS = 0.0005
_NULL_LOG_ODDS = np.arange(-2, 6.01, 0.25)

Sure = Sequence[tuple[Track, float]]  # clips and their true offsets in ms


def fit(clips: Sure, start: Calibration, *, window_s: float, rounds: int, seed: int) -> dict[str, Any]:
    """`calibration` fitted on all clips, whether it `reached` the goals, `unseen`: each half, judged with the other's.

    All but the null log odds stays as in `start`; where nothing reaches the goals, all does. Needs two speakers.
    """
    random = np.random.default_rng(seed)
    speakers = random.permutation(sorted({t.clip.speaker for t, _ in clips}))
    first = set(speakers[: len(speakers) // 2])
    halves = [[c for c in clips if (c[0].clip.speaker in first) == wanted] for wanted in (True, False)]
    unseen = []
    for part, other in (halves, halves[::-1]):
        found = _best(part, start, window_s, rounds, random) or start
        judged = _streams(other, rounds, random)[0]
        unseen.append(asdict(found) | trust(judged, window_s, found).to_dict())
    best = _best(clips, start, window_s, rounds, random)
    return {"calibration": asdict(best or start), "reached": best is not None, "unseen": unseen}


def _streams(clips: Sure, rounds: int, random: np.random.Generator) -> tuple[Stream, list[Stream]]:
    """What should be measured, and what should not."""
    tracks = [t for t, _ in clips]
    hopeless = [[t for t in mismatched(tracks, random) if len(t.lips)], list(still_embeddings(tracks, random))]
    unheard = [joined(part, [float("nan")] * len(part), 1, random) for part in hopeless if part]
    return joined(tracks, [truth_ms for _, truth_ms in clips], rounds, random), unheard


def _best(
    clips: Sure, start: Calibration, window_s: float, rounds: int, random: np.random.Generator
) -> Calibration | None:
    heard, unheard = _streams(clips, rounds, random)
    for null in tqdm(_NULL_LOG_ODDS, "null log odds", disable=None):
        tried = replace(start, null_log_odds=float(null))
        if (trust(heard, window_s, tried).right_of_measuring or 0) < LEAST_RIGHT:
            continue
        false = [trust(stream, window_s, tried) for stream in unheard]
        if all(one.measuring <= MOST_HOPELESS * one.reports for one in false):
            return tried
    return None
