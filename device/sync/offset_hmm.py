"""What is true now, where the offset may have changed within a window: evidence before a change counts no more.

Method: the forward recursion of a hidden Markov model whose state is the offset, or that none of them is true. Every
0.2 s it may jump to any other state, with a probability that does not depend on where it was; so the belief after a
stretch is, up to that jump, the belief before it times how well the stretch fits (Rabiner, "A tutorial on hidden Markov
models", Proc. IEEE 77, 1989). Evidence against a number moves it within seconds, and a pause of speech hardly weakens
it. The sum over a step would have its peak nowhere that is true.
"""

from __future__ import annotations

import numpy as np

from device.bundles.calibration import Calibration
from device.sync.curve import Floats

_EVERY_ROWS = 5  # 0.2 s: what one lip window sees
_JUMP_PROBABILITY = 0.002  # in that time: once in 100 s, still far more often than it happens


def curve_now(rows: Floats, calibration: Calibration) -> Floats:
    """The curve [candidates] of the newest of rows [n, candidates], in nats like their sum, which it is without change.

    Its zero is that no offset is true now, as `Calibration.null_log_odds` weighs it. All zero where rows say nothing.
    """
    if not rows.any():
        return np.zeros(rows.shape[1], np.float32)
    chunks = np.add.reduceat(rows.astype(np.float64), np.arange(0, len(rows), _EVERY_ROWS), axis=0)
    none_odds = calibration.null_log_odds + np.log(rows.shape[1])  # log, against each single candidate
    before = np.append(np.zeros(rows.shape[1]), none_odds)
    before -= np.logaddexp.reduce(before)
    begun, stays, jumps = before, np.log1p(-_JUMP_PROBABILITY), np.log(_JUMP_PROBABILITY)
    belief = before
    for number, chunk in enumerate(chunks / calibration.temperature):
        belief = np.logaddexp(stays + belief, jumps + begun) if number else before
        belief[:-1] += chunk
        belief -= np.logaddexp.reduce(belief)
    return np.asarray(calibration.temperature * (belief[:-1] - belief[-1] + none_odds), np.float32)
