"""From decoded audio and video frames to Chunks and Frames with clean times: one class for each kind of track.

Container time stamps, in the container's time base, become integer ns on the file's clock.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, deque
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
import numpy.typing as npt

from device.capture.decoded_pictures import PictureMaker
from device.records import NS_PER_MS, NS_PER_S, Chunk, Frame

CHUNK_MS = 20
GAP_NS = 40 * NS_PER_MS
_PRIMING_S = 0.15  # fragmented MP4 without edit lists begins with the encoder's first block, apart from the rest
CLOCK_TIME_CONSTANT_S = 2.0  # long against the 1 ms grid of Matroska, short against any drift worth measuring
REORDER_FRAMES = 4
STRAY_NS = 2 * NS_PER_S  # no codec reorders over such a long time
FALLBACK_RATE_HZ = 25
GAP = "gap or splice in the audio"
_WATCH_S, _WATCH_EVERY_S, _WATCH_LEAST = 8.0, 0.015, 12
_WATCH_SIGMAS, _WATCH_DRIFT_S, _WATCH_MAX_SLOPE = 6.0, 0.003, 0.05
GOING_BACK = "frame or block of audio dropped because its time stamp goes back"


class SampleClock:
    """Places a track's samples in time: follows the sample count, slowly corrected towards the time stamps.

    Container time stamps are rounded (1 ms in Matroska) or jittery. The count is not, but cannot show gaps. The
    correction is the mean of the differences at first, then a first-order loop with CLOCK_TIME_CONSTANT_S. Only a
    difference of more than GAP_NS, a real gap or splice, begins a new run. Such a loop lags behind stamps that run at
    another rate than the samples, by two seconds of the difference: `RateWatch` finds that rate, and a new run then
    begins with it.
    """

    def __init__(self) -> None:
        self.start_ns = 0
        self.lean_ns = 0.0
        self.watch = RateWatch()
        self._rate_hz = 0
        self._count = 0

    @property
    def run_s(self) -> float:
        """Length of the run so far, by sample count."""
        return self._count / self._rate_hz if self._rate_hz else 0.0

    def end_ns(self) -> int:
        """Time at which the next sample is due."""
        run_ns = self._count * NS_PER_S // self._rate_hz if self._rate_hz else 0
        return self.start_ns + run_ns + round(self.lean_ns)

    def differs(self, stamp_ns: int | None) -> bool:
        return stamp_ns is not None and abs(stamp_ns - self.end_ns()) > GAP_NS

    def restart(self, stamp_ns: int | None, rate_hz: int) -> None:
        """Begin a run at `stamp_ns`, or where the last one ended."""
        self.start_ns = self.end_ns() if stamp_ns is None else stamp_ns
        self.lean_ns, self._rate_hz, self._count = 0.0, rate_hz, 0
        self.watch = RateWatch()

    def advance(self, stamp_ns: int | None, count: int) -> None:
        """Advance by `count` samples, the first of which has the time stamp `stamp_ns`."""
        error_ns = 0 if stamp_ns is None else stamp_ns - self.end_ns()
        if stamp_ns is not None:
            self.watch.observe(self.run_s, (stamp_ns - self.start_ns) / NS_PER_S - self.run_s)
        self._count += count
        self.lean_ns += error_ns * count / min(self._count, CLOCK_TIME_CONSTANT_S * self._rate_hz)


class RateWatch:
    """Detects time stamps that run at another rate than the samples, by a straight line through the last ones.

    Cheap cameras write stamps that are one or two per cent off. A slope is reported if it is beyond six standard errors
    and beyond the effect of rounding to 1 ms.
    """

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float]] = deque()  # time by count, and how much later the stamp is, in s
        # running sums as plain floats, because this runs for every block
        self._x = self._y = self._xx = self._xy = self._yy = 0.0

    def observe(self, run_s: float, late_s: float) -> None:
        if self._seen and run_s - self._seen[-1][0] < _WATCH_EVERY_S:
            return
        self._seen.append((run_s, late_s))
        self._add(run_s, late_s, 1)
        while run_s - self._seen[0][0] > _WATCH_S:
            self._add(*self._seen.popleft(), -1)

    def slope(self) -> float | None:
        """The share by which stamps take longer than samples; None where it is insignificant."""
        n = len(self._seen)
        if n < _WATCH_LEAST:
            return None
        spread, covariance = self._xx - self._x * self._x / n, self._xy - self._x * self._y / n
        variance, slope = self._yy - self._y * self._y / n, covariance / spread
        noise_s = math.sqrt(max(variance - slope * covariance, 0.0) / (n - 2))
        length_s = self._seen[-1][0] - self._seen[0][0]
        clear = abs(slope) > _WATCH_SIGMAS * noise_s / math.sqrt(spread) and abs(slope) * length_s > _WATCH_DRIFT_S
        return slope if clear and abs(slope) <= _WATCH_MAX_SLOPE and self._is_straight(slope) else None

    def _is_straight(self, slope: float) -> bool:
        """Whether both halves of the data rise like the whole. A step, as at a splice, rises in one half only."""
        points = np.array(self._seen)
        halves = np.array_split(points, 2)
        slopes = [np.polyfit(half[:, 0] - half[0, 0], half[:, 1], 1)[0] for half in halves]
        return all(abs(each - slope) < abs(slope) / 2 for each in slopes)

    def late_s(self, run_s: float) -> float:
        """How much later than the sample count the line is at a time."""
        n = len(self._seen)
        slope = (self._xy - self._x * self._y / n) / (self._xx - self._x * self._x / n)
        return self._y / n + slope * (run_s - self._x / n)

    def _add(self, x: float, y: float, sign: int) -> None:
        self._x += sign * x
        self._y += sign * y
        self._xx += sign * x * x
        self._xy += sign * x * y
        self._yy += sign * y * y


class AudioTrack:
    """Decoded audio in, mono float32 chunks at `rate_hz` out; libswresample compensates its own delay."""

    def __init__(
        self, rate_hz: int, trouble: Counter[str], *, channel: int | None = None, chunk_ms: int = CHUNK_MS
    ) -> None:
        """`channel`, counted from 1, is used instead of a mix of all."""
        self._rate_hz, self._trouble, self.channel = rate_hz, trouble, channel
        self._chunk_samples = rate_hz * chunk_ms // 1000
        self._clock = SampleClock()
        self._resampler: av.AudioResampler | None = None
        self._format: tuple[int, str, str] | None = None
        self._run_count = 0  # samples of this run that were passed on
        self._runs = 0
        self._rate_ratio = 1.0  # ratio of time stamps to samples
        self._strayed = 0.0  # time times squared error, of the audio placed before the pace was known
        self._going_back = False
        self.seq = 0
        self.begin_ns: int | None = None
        self.end_ns: int | None = None

    def feed(self, frame: av.AudioFrame) -> Iterator[Chunk]:
        stamp_ns = time_ns(frame)
        form = (frame.sample_rate, frame.layout.name, frame.format.name)
        if self._resampler is not None and (self._going_back or self._clock.differs(stamp_ns)):
            # A splice that goes back overlaps audio already passed on: drop the second version.
            self._going_back = stamp_ns is None or stamp_ns < self._clock.end_ns()
            if self._going_back:
                self._trouble[GOING_BACK] += 1
                return
            if self._runs > 1 or self._clock.run_s > _PRIMING_S:
                self._trouble[GAP] += 1
            yield from self._begin(stamp_ns, form)
        elif form != self._format:
            yield from self._begin(stamp_ns if self._resampler is None else None, form)
        elif (slope := self._clock.watch.slope()) is not None:
            yield from self._follow_rate(slope, form)
        self._clock.advance(stamp_ns, frame.samples)
        frame.pts, frame.sample_rate = None, self._source_hz(form)  # the resampler must not apply it a second time
        yield from self._resample(frame if self.channel is None else one_channel(frame, self.channel))

    @property
    def rate_error(self) -> float:
        """The share by which the stamps take longer than the samples."""
        return self._rate_ratio - 1.0

    @property
    def error_ms(self) -> float:
        """The placement error (rms over the recording) of audio whose pace was not yet known."""
        if self.end_ns is None or self.begin_ns is None:
            return 0.0
        return 1000 * math.sqrt(self._strayed / max((self.end_ns - self.begin_ns) / NS_PER_S, 1.0))

    def flush(self) -> Iterator[Chunk]:
        if self._resampler is not None:
            yield from self._resample(None)
            self._resampler = None

    def _source_hz(self, form: tuple[int, str, str]) -> int:
        return round(form[0] / self._rate_ratio)

    def _follow_rate(self, slope: float, form: tuple[int, str, str]) -> Iterator[Chunk]:
        """Start a run at the end of the last one, at the rate of the stamps."""
        run_s = self._clock.run_s
        late_s = self._clock.watch.late_s(run_s)
        off_s = late_s - self._clock.lean_ns / NS_PER_S
        self._strayed += off_s**2 / 3 * min(run_s, _WATCH_S)
        self._rate_ratio *= 1 + slope
        yield from self._begin(self._clock.start_ns + round((run_s + late_s) * NS_PER_S), form)

    def _begin(self, stamp_ns: int | None, form: tuple[int, str, str]) -> Iterator[Chunk]:
        yield from self.flush()
        self._clock.restart(stamp_ns, self._source_hz(form))
        self._format, self._run_count, self._runs = form, 0, self._runs + 1
        # Without the limit, a float downmix of two equal channels comes out 3 dB too loud.
        options = {"rematrix_maxval": "1"}
        size = self._chunk_samples
        self._resampler = av.AudioResampler("flt", "mono", self._rate_hz, frame_size=size, options=options)

    def _resample(self, frame: av.AudioFrame | None) -> Iterator[Chunk]:
        assert self._resampler is not None
        for block in self._resampler.resample(frame):
            samples = np.frombuffer(memoryview(block.planes[0]), np.float32, block.samples).copy()
            if not np.isfinite(samples).all():
                np.nan_to_num(samples, copy=False, nan=0.0, posinf=1.0, neginf=-1.0)
            run_ns = self._run_count * NS_PER_S // self._rate_hz
            t_ns = self._clock.start_ns + run_ns + round(self._clock.lean_ns)
            self._run_count += len(samples)
            self.begin_ns = t_ns if self.begin_ns is None else self.begin_ns
            self.end_ns = t_ns + len(samples) * NS_PER_S // self._rate_hz
            yield Chunk(self.seq, t_ns, self._rate_hz, samples)
            self.seq += 1


class VideoTrack:
    """Decoded frames in, upright frames with square pixels and rising times out.

    A decoder returns frames in presentation order, but their time stamps may be in another order (H.264 in AVI: FFmpeg
    then guesses them in decoding order). So frames keep their order and get the sorted stamps.
    """

    def __init__(
        self, rate_hz: float | None, pixel_aspect: Fraction | None, max_height: int, trouble: Counter[str]
    ) -> None:
        self._period_ns = round(NS_PER_S / (rate_hz or FALLBACK_RATE_HZ))
        self._to_picture, self._trouble = PictureMaker(pixel_aspect, max_height), trouble
        self._waiting: deque[av.VideoFrame] = deque()
        self._stamps_ns: list[int] = []  # a heap, as long as _waiting
        self._next_ns = 0
        self._last_ns: int | None = None
        self.seq = 0
        self.end_ns: int | None = None

    def feed(self, frame: av.VideoFrame) -> Iterator[Frame]:
        stamp_ns = time_ns(frame)
        t_ns = self._next_ns if stamp_ns is None else stamp_ns
        self._next_ns = t_ns + self._period_ns
        if self._stamps_ns and max(self._stamps_ns) > t_ns + STRAY_NS:
            # One stray stamp would shift the stamps of all later frames by one.
            self._stamps_ns.remove(max(self._stamps_ns))
            heapq.heapify(self._stamps_ns)
            self._waiting.pop()
            self._trouble[GOING_BACK] += 1
        self._waiting.append(frame)
        heapq.heappush(self._stamps_ns, t_ns)
        if len(self._waiting) > REORDER_FRAMES:
            yield from self._pop()

    def flush(self) -> Iterator[Frame]:
        while self._waiting:
            yield from self._pop()

    def _pop(self) -> Iterator[Frame]:
        t_ns, frame = heapq.heappop(self._stamps_ns), self._waiting.popleft()
        if self._last_ns is not None and t_ns <= self._last_ns:
            self._trouble[GOING_BACK] += 1
            return
        self._last_ns, self.end_ns = t_ns, t_ns + self._period_ns
        yield Frame(self.seq, t_ns, self._to_picture(frame))
        self.seq += 1


def one_channel(frame: av.AudioFrame, channel: int) -> av.AudioFrame:
    """A frame's channel, counted from 1, as mono; the last channel if it has fewer."""
    planes = planes_of(frame)
    plane = np.ascontiguousarray(planes[min(channel, len(planes)) - 1][np.newaxis])
    mono = av.AudioFrame.from_ndarray(plane, format=frame.format.name, layout="mono")
    mono.sample_rate = frame.sample_rate
    return mono


def planes_of(frame: av.AudioFrame) -> npt.NDArray[np.generic]:
    """Samples [channels, n], in their own type."""
    samples = frame.to_ndarray()
    return samples if frame.format.is_planar else samples.reshape(-1, frame.layout.nb_channels).T


def time_ns(frame: av.VideoFrame | av.AudioFrame) -> int | None:
    # AVI has decoding times only; for codecs without reordering they equal the presentation times.
    stamp = frame.pts if frame.pts is not None else frame.dts
    base = frame.time_base
    return None if stamp is None or not base else stamp * base.numerator * NS_PER_S // base.denominator
