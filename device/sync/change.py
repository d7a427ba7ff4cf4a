"""What is true now, where the offset may have changed within a window: evidence before a change counts no more.

Method: the offset may have changed once in the window, with a small probability at each of its moments; each place of
the change is weighted by how well the evidence before it and after it fits two separate offsets (Bayesian change-point
detection: Adams & MacKay, "Bayesian online changepoint detection", arXiv:0710.3742, 2007). Where one offset explains
everything, all of the window counts; after a step, only what came since; in doubt, belief is split between the two and
none of them is sure. There is nothing in between: the sum over a step has its peak nowhere that is true.
"""

from __future__ import annotations

import numpy as np

from device.sync.curve import Floats

_EVERY_ROWS = 5  # 0.2 s: what one lip window sees
_CHANGE_PROBABILITY = 0.5  # of one within a window: where one offset fits all, another has little chance anyway


def curve_now(rows: Floats, temperature: float) -> Floats:
    """The curve [candidates] of the newest of rows [n, candidates], in nats like their sum, which it is without change.

    Its zero is that no offset is true now, whatever was true before. Evidence is worth `temperature` times less than it
    says, as in `Calibration`.
    """
    total = rows.sum(0, dtype=np.float64)
    places = np.arange(_EVERY_ROWS, len(rows), _EVERY_ROWS)
    if not len(places):
        return total.astype(np.float32)
    chunks = np.add.reduceat(rows.astype(np.float64), np.arange(0, len(rows), _EVERY_ROWS), axis=0)
    before = np.cumsum(chunks, axis=0)[:-1] / temperature
    after = total / temperature - before
    # How well the best-fitting offsets before each place explain what came before, against no offset at all.
    explained = np.logaddexp.reduce(before, axis=1) - np.log(rows.shape[1])
    ended = np.log(_CHANGE_PROBABILITY / len(places)) + explained
    changed = np.logaddexp.reduce(ended[:, None] + after, axis=0)
    unchanged = np.log1p(-_CHANGE_PROBABILITY)
    none = np.logaddexp(unchanged, np.logaddexp.reduce(ended))
    return np.asarray(temperature * (np.logaddexp(unchanged + total / temperature, changed) - none), np.float32)
