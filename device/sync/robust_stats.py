"""Location, spread and slope of series in which up to every fifth value may be wrong.

Method: Tukey's biweight (c = 4.685, 95 % efficient for normal noise), started at the median and at the Theil-Sen slope,
which tolerate 29 % of wrong values. Standard error of the slope after Street, Carroll and Ruppert, "A note on computing
robust regression estimates via iteratively reweighted least squares", The American Statistician 42 (1988).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.ma  # np.median imports it on its first call, which would fall in the middle of measuring
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

_TUKEY = 4.685
_MAD_TO_STD = 1.4826
_ITERATIONS = 12
_MIN_POINTS = 6


@dataclass(frozen=True, slots=True)
class Line:
    """The line y = level + slope (t - t_mid) and the slope's standard error, in the units of y and t."""

    t_mid: float
    level: float
    slope: float
    slope_std: float


def spread(values: Doubles) -> float:
    """Standard deviation, estimated from the median absolute deviation; 0 without values."""
    return _MAD_TO_STD * float(np.median(np.abs(values - np.median(values)))) if len(values) else 0.0


def centre(values: Doubles, scale: float) -> float:
    """Location of at least one value with noise of about `scale` (more than 0)."""
    found = float(np.median(values))
    for _ in range(4):
        weights = _weights((values - found) / scale)
        if not weights.sum() > 0:
            break
        found = float((weights * values).sum() / weights.sum())
    return found


def line(t: Doubles, y: Doubles, looks: Doubles, min_scale: float) -> Line | None:
    """Fit a line to points [n], each from `looks` independent observations; None for too few points.

    `min_scale` is a lower bound for the noise of a point. The error is widened for what neighbours share, as far as
    the residuals show it, and for few points, so that 3 of it cover the 99.7 % of a normal distribution.
    """
    if len(t) < _MIN_POINTS or not np.ptp(t) > 0:
        return None
    root = np.sqrt(looks / looks.max())
    t_mid = float(np.average(t, weights=looks))
    x = np.stack([root, root * (t - t_mid)], axis=1)
    slope = _theil_sen(t, y)
    fit = np.array([np.median(y - slope * (t - t_mid)), slope])
    scale = max(spread(root * y - x @ fit), min_scale)
    for _ in range(_ITERATIONS):
        weights = _weights((root * y - x @ fit) / scale)
        normal = x.T @ (weights[:, None] * x)
        if np.linalg.cond(normal) > 1e12:
            return None
        fit = np.linalg.solve(normal, x.T @ (weights * root * y))
        scale = max(spread(root * y - x @ fit), min_scale)
    u = (root * y - x @ fit) / scale
    degrees = len(t) - 2
    psi, bend = u * _weights(u), _psi_slope(u).mean()
    if bend < 0.2:  # hardly a point in the bulk: there is no line
        return None
    # Where most residuals are below `min_scale`, psi would make the line better than its points can be.
    variance = scale**2 * max((psi**2).sum() / degrees, 1.0 if scale == min_scale else 0.0) / bend**2
    slope_std = float(np.sqrt(variance * np.linalg.inv(x.T @ x)[1, 1]))
    widened = slope_std * _shared(psi) * (1 + 2.5 / degrees + 5.75 / degrees**2)  # Abramowitz and Stegun 26.7.5 at 3
    return Line(t_mid, float(fit[0]), float(fit[1]), widened)


def _weights(u: Doubles) -> Doubles:
    return np.where(np.abs(u) < _TUKEY, (1 - (u / _TUKEY) ** 2) ** 2, 0.0)


def _psi_slope(u: Doubles) -> Doubles:
    share = (u / _TUKEY) ** 2
    return np.where(share < 1, (1 - share) * (1 - 5 * share), 0.0)


def _theil_sen(t: Doubles, y: Doubles) -> float:
    first, second = np.triu_indices(len(t), 1)
    apart = t[second] - t[first]
    use = apart > 0
    return float(np.median((y[second] - y[first])[use] / apart[use]))


def _shared(psi: Doubles) -> float:
    """Factor by which the error grows because neighbours are correlated (a first-order process)."""
    power = float((psi**2).sum())
    resemblance = float((psi[1:] * psi[:-1]).sum()) / power if power > 0 else 0.0
    resemblance = min(max(resemblance, 0.0), 0.8)
    return float(np.sqrt((1 + resemblance) / (1 - resemblance)))
