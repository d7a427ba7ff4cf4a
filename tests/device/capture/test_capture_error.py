"""What capture as a whole adds to the offset in a day: simulated clocks through the audio clock and the lip grid.

The error of a lip tick is that of its picture's time less that of its sound's: positive is audio early. A picture tells
its true time by its grey, so that the grid's own blending says which moment a tick really shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest

from device.capture.microphones.audio_clock import AudioClock
from device.features.contract import LIP_TICK_NS
from device.features.mouth import MouthCrop
from device.features.mouth_grid import LipGrid
from device.records import NS_PER_MS, NS_PER_S
from tests.device.capture.microphones.clocks import RATE_HZ, START_NS, Crystal, Errors, Times, jitter_ns, stamps

HOURS = 24
MICROPHONE_PPM, CAMERA_PPM = 200, 100
DROPPED_SHARE = 0.01
FRAME_NOISE_MS = 0.2  # of a sensor's time stamp: an interrupt
LOOK_S, LOOK_EVERY_S = 0.5, 40.0  # the grid sees so much of each minute
CROP_PX = 16
GREY_PER_NS = 180 / (LOOK_S * NS_PER_S)
DITHER = np.linspace(-8, 8, CROP_PX * CROP_PX)


@cache
def audio_error_ms(ppm: float, block_s: float, domain: str) -> tuple[Times, Errors]:
    """True time of each block, and by how much later the audio clock puts it."""
    rng = np.random.default_rng(7)
    count = round(RATE_HZ * block_s)
    true = Crystal(ppm).times_ns(round(HOURS * 3600 / block_s), block_s)
    late = jitter_ns(true, rng)
    clock = AudioClock(RATE_HZ)
    given = stamps(true + late, true + round(block_s * NS_PER_S) + late, count, domain=domain)
    placed = [one for stamp in given for one in clock.push(stamp)]
    assert clock.moves == 0 and clock.lost_samples == 0 and all(placed)
    times = np.array([one.t_ns for one in placed if one], np.int64)
    assert (np.diff(times) > 0).all()
    true = true[: len(times)]
    return true, (times - true) / NS_PER_MS


def frame_times_ns(camera: str, ppm: float, rng: np.random.Generator, from_ns: int) -> Times:
    """True times of the frames of one look, of which some were dropped."""
    rate_hz = np.full(round(LOOK_S * 30), 27.0) if camera == "variable" else np.full(round(LOOK_S * 30), float(camera))
    if camera == "variable":  # exposure follows the light, and the rate follows it
        rate_hz = rng.uniform(20, 30, len(rate_hz))
    period_ns = NS_PER_S / rate_hz * (1 - ppm * 1e-6)
    times = from_ns + np.cumsum(period_ns).astype(np.int64)
    times = times[times < from_ns + LOOK_S * NS_PER_S]
    return np.asarray(times[rng.random(len(times)) >= DROPPED_SHARE])


def picture(true_ns: int, from_ns: int, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """The time since the beginning of the look as a mean grey, dithered so that no rounding, also of blends, shows."""
    grey = 30 + (true_ns - from_ns) * GREY_PER_NS + rng.permutation(DITHER)
    return np.asarray(np.rint(grey), np.uint8).reshape(CROP_PX, CROP_PX)


def video_error_ms(camera: str, ppm: float) -> Iterator[tuple[int, float]]:
    """Each tick's time, and how much later it is than the moment that its picture shows."""
    rng = np.random.default_rng(13)
    grid = LipGrid(CROP_PX)
    for look in range(1, round(HOURS * 3600 / LOOK_EVERY_S)):
        from_ns = START_NS + round(look * LOOK_EVERY_S * NS_PER_S + rng.uniform(0, 0.04) * NS_PER_S)
        for true_ns in frame_times_ns(camera, ppm, rng, from_ns).tolist():
            stamp_ns = true_ns + round(rng.normal(0, FRAME_NOISE_MS) * NS_PER_MS)
            first, crops, valid = grid.push(MouthCrop(stamp_ns, picture(true_ns, from_ns, rng), look, 1))
            for k in np.flatnonzero(valid):
                shown_ns = from_ns + (float(crops[k].mean()) - 30) / GREY_PER_NS
                tick_ns = (first + int(k)) * LIP_TICK_NS
                yield tick_ns, (tick_ns - shown_ns) / NS_PER_MS


def offset_error_ms(camera: str, sign: int, block_s: float, domain: str) -> tuple[Times, Errors]:
    """Ticks, and the error that capture adds to the offset there."""
    true_ns, audio_ms = audio_error_ms(sign * MICROPHONE_PPM, block_s, domain)
    ticks, video_ms = np.array(list(video_error_ms(camera, -sign * CAMERA_PPM))).T
    # Sound put too late looks as if it came too late; so does a picture put too early.
    return ticks.astype(np.int64), video_ms - np.interp(ticks, true_ns, audio_ms)


def check(camera: str, sign: int, block_s: float, domain: str) -> None:
    ticks, error_ms = offset_error_ms(camera, sign, block_s, domain)
    # What the sound's block was late by is constant, where arrivals are all there is.
    quarters = [np.abs(part) for part in np.array_split(error_ms, 4)]
    by_quarter = ", ".join(f"{np.percentile(part, 95):.2f}" for part in quarters)
    print(
        f"{camera} fps, {domain}, microphone {sign * MICROPHONE_PPM:+} ppm, camera {-sign * CAMERA_PPM:+} ppm: "
        f"{len(ticks)} ticks, mean {error_ms.mean():+.2f}, 95 % {np.percentile(np.abs(error_ms), 95):.2f}, "
        f"largest {np.abs(error_ms).max():.2f} ms; 95 % by quarter of the day {by_quarter} ms"
    )
    assert len(ticks) > 0.75 * 25 * LOOK_S * HOURS * 3600 / LOOK_EVERY_S
    assert np.percentile(np.abs(error_ms), 95) < 1
    assert np.percentile(quarters[-1], 95) < np.percentile(quarters[0], 95) + 0.1


CAMERAS = ["24", "25", "29.97", "30", "variable"]


@pytest.mark.parametrize(
    ("camera", "sign"),
    [
        pytest.param(camera, sign, marks=() if camera == "29.97" else pytest.mark.slow)
        for camera, sign in zip(CAMERAS, [1, -1, 1, -1, 1], strict=True)
    ],
)
def test_a_day_of_capture_adds_less_than_a_millisecond_to_the_offset(camera: str, sign: int) -> None:
    check(camera, sign, 0.1, "monotonic")


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.parametrize("domain", ["monotonic", "realtime", "none"])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("camera", CAMERAS)
def test_the_same_with_each_block_of_20_ms(camera: str, sign: int, domain: str) -> None:
    check(camera, sign, 0.02, domain)
