"""From sample numbers to monotonic time: finds the clock of the driver's times, smooths them and detects losses.

Conventions
    Samples are numbered from the first block on, without gaps. Times are integer ns of CLOCK_MONOTONIC, which stands
    still while the computer is suspended. Errors are observed minus predicted, so late is positive.

Method
    Domain: the driver's times are on the clock whose reading on arrival is a little later, always by about as much.
    Times of 0, and times that fit no clock, are invalid. If there are only such times, arrivals are used instead; the
    earliest in each second counts, because nothing arrives too soon.
    Loop: `delay_locked_loop` in this folder. Its errors are the lower quartiles of groups, clipped by the running
    median of all, so a burst of jitter has little effect.
    Blocks that are further off are held back. If the error is gone within a second, it was jitter. If it stays, audio
    was lost (or the driver corrected itself): the line moves there at once, from the first block held back, and a new
    run begins. A smaller error could be a long burst of jitter: only after ten seconds does the line move.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

from device.capture.microphones.delay_locked_loop import SampleLoop
from device.records import NS_PER_MS, NS_PER_S

DECIDE_NS = NS_PER_S  # an error that lasts this long is real
GIVE_UP_NS = 5 * NS_PER_S // 2  # times that fit no clock for this long at the start never will
SETTLED_NS = 5 * NS_PER_S  # sound servers correct themselves by up to 0.5 s at first: that is no loss
MIN_GATE_NS = 10 * NS_PER_MS  # more than a burst of jitter, less than an overrun loses
SUSPEND_NS = NS_PER_S // 2  # an advance of the boot clock beyond any pause between two readings
LAG_NS = (-50 * NS_PER_MS, 5 * NS_PER_S)  # the delay of a block after its first sample
LAG_SPREAD_NS = 200 * NS_PER_MS  # a larger spread within DECIDE_NS is no clock, or not yet
GROUP_BLOCKS, GROUP_ARRIVALS = 10, 50
SMALL_LOSS_NS = NS_PER_MS  # a USB packet; an error of this size that lasts SMALL_LOSS_GROUPS is no burst of jitter
SMALL_LOSS_GROUPS = 50

_CORRELATED = 3.0  # jitter comes in bursts, so its mean over time shrinks this much slower than for white noise
_SCALE_STEP = 1.01
_MIN_SCALE_NS = 0.05 * NS_PER_MS
_KNOWN_STD_PPM = 10.0


class Domain(StrEnum):
    """The clock of the driver's times; `arrival` if they are on none."""

    MONOTONIC = "monotonic"
    BOOTTIME = "boottime"
    REALTIME = "realtime"
    ARRIVAL = "arrival"


@dataclass(frozen=True, slots=True)
class Stamp:
    """The times of a block on arrival. `adc_ns` is the driver's time of its first sample, 0 where unknown.

    `skipped` samples were recorded between the previous block and this one but were lost.
    """

    count: int
    adc_ns: int
    mono_ns: int
    boot_ns: int
    real_ns: int
    skipped: int = 0

    def lag_ns(self, domain: Domain) -> int:
        """The delay from the driver's time to the block's arrival."""
        if domain is Domain.MONOTONIC:
            return self.mono_ns - self.adc_ns
        return (self.boot_ns if domain is Domain.BOOTTIME else self.real_ns) - self.adc_ns


@dataclass(frozen=True, slots=True)
class Placed:
    """The time of a block's first sample and the number of its run. There is a gap between runs."""

    t_ns: int
    run: int


def find_domain(stamps: Sequence[Stamp]) -> Domain:
    """The clock of these blocks' times. On a computer that was never suspended, MONOTONIC and BOOTTIME are the same."""
    known = [stamp for stamp in stamps if stamp.adc_ns > 0]
    if len(known) * 2 > len(stamps):
        for domain in (Domain.MONOTONIC, Domain.BOOTTIME, Domain.REALTIME):
            lags = sorted(stamp.lag_ns(domain) for stamp in known)
            edge = len(lags) // 20  # one in twenty may be stray
            low, high = lags[edge], lags[-1 - edge]
            if LAG_NS[0] <= low and high <= LAG_NS[1] and high - low <= LAG_SPREAD_NS:
                return domain
    return Domain.ARRIVAL


@dataclass(frozen=True, slots=True)
class _Held:
    n: int
    stamp: Stamp


class AudioClock:
    """Places consecutive blocks in time: one result per stamp, in order, with strictly rising times.

    Most blocks are placed at once. A block whose time is in doubt waits for about a second, and with it all later ones.
    At the start all wait, and are then placed by the clock that was found. None is returned for a block to be dropped,
    because it overlaps audio that was placed before the line moved back.
    Not thread-safe, but any thread may read its figures: each is one reference, replaced as a whole.
    """

    def __init__(self, rate_hz: int) -> None:
        self.domain = Domain.ARRIVAL
        self.lost_samples = 0  # skipped by the driver, or missing according to the clock
        self.moves = 0  # of the line, after the first
        self._rate_hz = rate_hz
        self._loop: SampleLoop | None = None
        self._sure = False  # whether the line is right: not at the start, nor after a suspend
        self._since_ns = 0  # when it last became so
        self._n = 0
        self._run = 0
        self._held: deque[_Held] = deque()
        self._group: list[float] = []
        self._centres: deque[float] = deque(maxlen=SMALL_LOSS_GROUPS)
        self._scale_ns = 1.0 * NS_PER_MS  # running median of the errors' magnitudes
        self._ahead_ns: int | None = None  # boot clock minus monotonic clock
        self._last_ns = self._end_ns = self._resume_ns = 0.0  # of the placed blocks; where a new run may begin

    @property
    def rate_ppm(self) -> float | None:
        """How much faster than nominal the microphone samples; None until known to about 10 ppm."""
        return self._loop.rate_ppm if self._loop and self._loop.rate_std_ppm < _KNOWN_STD_PPM else None

    @property
    def rate_std_ppm(self) -> float | None:
        return self._loop.rate_std_ppm if self._loop and self._loop.rate_std_ppm < _KNOWN_STD_PPM else None

    def push(self, stamp: Stamp) -> list[Placed | None]:
        """Take the next block; return the results of the oldest blocks that have none yet."""
        placed = self._notice_suspend(stamp)
        n = self._n + stamp.skipped
        self._n = n + stamp.count
        self.lost_samples += stamp.skipped
        self._held.append(_Held(n, stamp))
        error_ns = self._error_ns(n, stamp) if self._sure else None
        if error_ns is not None:
            gate_ns = self._gate_ns()
            self._scale_ns *= _SCALE_STEP if abs(error_ns) > self._scale_ns else 1 / _SCALE_STEP
            self._scale_ns = max(self._scale_ns, _MIN_SCALE_NS)
            if abs(error_ns) <= gate_ns:
                placed += self._release()
                self._follow(n, error_ns)
                return placed
        return placed + self._decide(stamp.mono_ns)

    def _notice_suspend(self, stamp: Stamp) -> list[Placed | None]:
        ahead_ns, before_ns = stamp.boot_ns - stamp.mono_ns, self._ahead_ns
        self._ahead_ns = ahead_ns
        if before_ns is None or ahead_ns - before_ns < SUSPEND_NS or not self._sure:
            return []
        self._sure = False
        return self._release()

    def _error_ns(self, n: int, stamp: Stamp) -> float | None:
        assert self._loop is not None
        if self.domain is Domain.ARRIVAL:
            return stamp.mono_ns - self._loop.time_ns(n + stamp.count)
        lag_ns = stamp.lag_ns(self.domain)
        if stamp.adc_ns <= 0 or not LAG_NS[0] <= lag_ns <= LAG_NS[1]:
            return None
        return stamp.mono_ns - lag_ns - self._loop.time_ns(n)

    def _gate_ns(self) -> float:
        assert self._loop is not None
        return max(MIN_GATE_NS, 4 * self._scale_ns + 3 * self._loop.std_ns)

    def _follow(self, n: int, error_ns: float) -> None:
        self._group.append(error_ns)
        if len(self._group) < (GROUP_ARRIVALS if self.domain is Domain.ARRIVAL else GROUP_BLOCKS):
            return
        assert self._loop is not None
        centre_ns = self._centre(self._group)
        limit_ns = 3 * (self._scale_ns + self._loop.std_ns)
        self._loop.correct(n, max(-limit_ns, min(limit_ns, centre_ns)), _CORRELATED * self._scale_ns)
        self._group = []
        self._centres.append(centre_ns)
        min_ns = SMALL_LOSS_NS + 3 * self._loop.std_ns
        if len(self._centres) == SMALL_LOSS_GROUPS and _all_beyond(self._centres, min_ns):
            shift_ns = median(self._centres)
            self._loop.shift(n, shift_ns, SMALL_LOSS_NS / 4)
            self._count_lost(shift_ns)
            self._centres.clear()

    def _centre(self, errors_ns: list[float]) -> float:
        # Disturbances make times late: a busy computer, a pointer that a driver moves in steps.
        return min(errors_ns) if self.domain is Domain.ARRIVAL else sorted(errors_ns)[len(errors_ns) // 4]

    def _decide(self, now_ns: int) -> list[Placed | None]:
        """Once the blocks in doubt span enough time, determine the clock and move the line to them."""
        waited_ns = now_ns - self._held[0].stamp.mono_ns
        # By both clock and count: after a stall, seconds of audio may arrive at once.
        span_ns = (self._n - self._held[0].n) * NS_PER_S // self._rate_hz
        if waited_ns < DECIDE_NS or span_ns < DECIDE_NS // 2:
            return []
        recent = [held for held in self._held if now_ns - held.stamp.mono_ns <= DECIDE_NS]
        domain = find_domain([held.stamp for held in recent])
        new = self._loop is None or domain is not self.domain
        if new and domain is Domain.ARRIVAL and waited_ns < GIVE_UP_NS:
            return []
        self.domain = domain
        if self._loop is None:
            self._loop = SampleLoop(self._rate_hz, self._held[0].n, self._held[0].stamp.mono_ns, 0)
        errors_ns = [e for held in recent if (e := self._error_ns(held.n, held.stamp)) is not None]
        shift_ns = self._centre(errors_ns)
        if not self._sure or abs(shift_ns) > self._gate_ns():
            self._scale_ns = max(median(abs(error - shift_ns) for error in errors_ns), _MIN_SCALE_NS)
            self._loop.shift(self._held[-1].n, shift_ns, 2 * self._scale_ns)
            if self._sure and not new and now_ns - self._since_ns > SETTLED_NS:
                self._count_lost(shift_ns)
            self._begin_run(now_ns)
        return self._release()

    def _count_lost(self, shift_ns: float) -> None:
        self.lost_samples += max(round(shift_ns * self._rate_hz / NS_PER_S), 0)

    def _begin_run(self, now_ns: int) -> None:
        self._since_ns = self._since_ns if self._sure else now_ns
        self._sure = True
        self.moves += self._run > 0
        self._run += 1
        self._resume_ns = self._end_ns
        self._group = []
        self._centres.clear()

    def _release(self) -> list[Placed | None]:
        placed = [self._place(held.n, held.stamp) for held in self._held]
        self._held.clear()
        return placed

    def _place(self, n: int, stamp: Stamp) -> Placed | None:
        assert self._loop is not None
        self._run += stamp.skipped > 0
        t_ns = self._loop.time_ns(n)
        if t_ns < self._resume_ns:
            return None
        # Corrections are a small part of a block; should one be larger, keep the order.
        t_ns = max(t_ns, (self._last_ns + self._end_ns) / 2)
        self._resume_ns, self._last_ns = 0.0, t_ns
        self._end_ns = t_ns + stamp.count * NS_PER_S / self._rate_hz
        return Placed(round(t_ns), self._run)


def _all_beyond(errors_ns: Collection[float], limit_ns: float) -> bool:
    return min(errors_ns) > limit_ns or max(errors_ns) < -limit_ns
