"""A delay-locked loop from sample number to time: smooths the jittery times of a sound card.

Second order: its state is a time and a period, corrected by the observed errors. The gains are those of a Kalman
filter. It starts as fast as a straight-line fit to all data, and narrows by itself to the bandwidth (some 0.01 to 0.05
rad/s) that the noise of the times and the wander of crystals allow.

References
    F. Adriaensen, "Using a DLL to filter time", Linux Audio Conference 2005.
    E. Brookner, "Tracking and Kalman Filtering Made Easy", Wiley 1998: expanding and fading memory.
"""

from __future__ import annotations

from device.records import NS_PER_S

_PERIOD_STD_PPB = 200_000.0  # of crystals, as the prior
_WANDER_PPB2_PER_S = 6000.0**2 / 3600  # 6 ppm in the first hour, as a room and an enclosure warm up


class SampleLoop:
    """Starts with sample `n` at `t_ns`, known to within `std_ns` (a standard deviation), at the nominal rate."""

    def __init__(self, rate_hz: int, n: int, t_ns: float, std_ns: float) -> None:
        self._nominal_ns = NS_PER_S / rate_hz
        self._n, self._t_ns = n, t_ns
        self._dev_ppb = 0.0  # how much longer than nominal a period is
        self._var_t, self._cov, self._var_dev = std_ns**2, 0.0, _PERIOD_STD_PPB**2

    def time_ns(self, n: int) -> float:
        """The time of sample `n`."""
        return self._t_ns + (n - self._n) * self._nominal_ns * (1 + self._dev_ppb * 1e-9)

    @property
    def std_ns(self) -> float:
        """The uncertainty of the time at the last correction."""
        return self._var_t**0.5

    @property
    def rate_ppm(self) -> float:
        """How much faster than nominal the samples come."""
        return -self._dev_ppb / 1000

    @property
    def rate_std_ppm(self) -> float:
        return self._var_dev**0.5 / 1000

    def correct(self, n: int, error_ns: float, noise_ns: float) -> None:
        """Correct by an error observed at sample `n`, known to within `noise_ns`."""
        self._move(n)
        total = self._var_t + noise_ns**2
        gain_t, gain_dev = self._var_t / total, self._cov / total
        self._t_ns += gain_t * error_ns
        self._dev_ppb += gain_dev * error_ns
        self._var_dev -= gain_dev * self._cov
        self._var_t *= 1 - gain_t
        self._cov *= 1 - gain_t

    def shift(self, n: int, shift_ns: float, std_ns: float) -> None:
        """Move the line; the uncertainty of the period does not change."""
        self._move(n)
        self._t_ns += shift_ns
        self._var_t, self._cov = std_ns**2, 0.0

    def _move(self, n: int) -> None:
        dt_s = (n - self._n) * self._nominal_ns / NS_PER_S
        self._n, self._t_ns = n, self.time_ns(n)
        self._var_t += dt_s * (2 * self._cov + dt_s * (self._var_dev + _WANDER_PPB2_PER_S * dt_s / 3))
        self._cov += dt_s * (self._var_dev + _WANDER_PPB2_PER_S * dt_s / 2)
        self._var_dev += _WANDER_PPB2_PER_S * dt_s
