"""Tracks and their clocks, without a file: times, counted losses, single channels."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest

from device.capture.tracks import GAP, GOING_BACK, AudioTrack, RateWatch, VideoTrack, one_channel, planes_of, time_ns
from device.records import NS_PER_MS, NS_PER_S, Chunk, Frame

MS = Fraction(1, 1000)
RATE_HZ = 16_000
BLOCK = 320  # 20 ms


def picture(t_ms: int | None) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
    frame.pts, frame.time_base = t_ms, MS
    return frame


def block(t_ms: int | None, value: float = 0.0, *, channels: int = 1, count: int = BLOCK) -> av.AudioFrame:
    """Each channel is `value` times its number."""
    samples = np.repeat(value * np.arange(1, channels + 1, dtype=np.float32)[:, None], count, axis=1)
    frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout={1: "mono", 2: "stereo"}[channels])
    frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, t_ms, MS
    return frame


def shown(*times_ms: int | None) -> tuple[list[Frame], Counter[str]]:
    trouble: Counter[str] = Counter()
    track = VideoTrack(25.0, None, 48, trouble)
    frames = [frame for t_ms in times_ms for frame in track.feed(picture(t_ms))]
    return [*frames, *track.flush()], trouble


def heard(*blocks: av.AudioFrame, channel: int | None = None) -> tuple[list[Chunk], Counter[str]]:
    trouble: Counter[str] = Counter()
    track = AudioTrack(RATE_HZ, trouble, channel=channel)
    chunks = [chunk for each in blocks for chunk in track.feed(each)]
    return [*chunks, *track.flush()], trouble


def test_pictures_get_their_times_sorted() -> None:
    frames, trouble = shown(0, 80, 40, 120, 160, 200)
    assert [frame.t_ns // NS_PER_MS for frame in frames] == [0, 40, 80, 120, 160, 200]
    assert [frame.seq for frame in frames] == [0, 1, 2, 3, 4, 5] and not trouble


def test_a_picture_without_a_time_comes_one_period_after_the_last() -> None:
    frames, _ = shown(None, None, 1000, None)
    assert [frame.t_ns // NS_PER_MS for frame in frames] == [0, 40, 1000, 1040]


def test_each_picture_of_which_the_time_is_taken_counts_once() -> None:
    frames, trouble = shown(0, 40, 40, 40, 80)
    assert [frame.t_ns // NS_PER_MS for frame in frames] == [0, 40, 80] and trouble == {GOING_BACK: 2}
    assert [frame.seq for frame in frames] == [0, 1, 2]


def test_one_stamp_from_nowhere_costs_one_picture() -> None:
    frames, trouble = shown(0, 40, 5000, 120, 160, 200)
    assert [frame.t_ns // NS_PER_MS for frame in frames] == [0, 40, 120, 160, 200] and trouble == {GOING_BACK: 1}


def test_sound_is_placed_by_its_first_stamp_and_its_count() -> None:
    chunks, trouble = heard(*(block(1000 + 20 * k, 0.5) for k in range(50)))
    assert chunks[0].t_ns == NS_PER_S and not trouble
    samples = np.concatenate([chunk.samples for chunk in chunks])
    assert len(samples) == pytest.approx(50 * BLOCK, abs=40) and samples[500:-500] == pytest.approx(0.5, abs=0.01)
    for before, after in pairwise(chunks):
        expected_ns = before.t_ns + len(before.samples) * NS_PER_S // RATE_HZ
        assert abs(after.t_ns - expected_ns) < NS_PER_MS and after.seq == before.seq + 1


@pytest.mark.parametrize(("gap_ms", "count"), [(39, 0), (60, 1)])
def test_a_gap_of_more_than_40_ms_is_counted(gap_ms: int, count: int) -> None:
    before = [block(20 * k) for k in range(20)]
    after = [block(400 + gap_ms + 20 * k) for k in range(20)]
    chunks, trouble = heard(*before, *after)
    assert trouble[GAP] == count
    if count:
        assert (400 + gap_ms) * NS_PER_MS in [chunk.t_ns for chunk in chunks]


def test_sound_that_goes_back_is_left_out_until_it_is_new_again() -> None:
    blocks = [block(20 * k, 0.25) for k in range(20)] + [block(200 + 20 * k, 0.75) for k in range(20)]
    chunks, trouble = heard(*blocks)
    times_ns = [chunk.t_ns for chunk in chunks]
    assert times_ns == sorted(times_ns) and trouble[GOING_BACK] == 10
    late = np.concatenate([chunk.samples for chunk in chunks if chunk.t_ns >= 420 * NS_PER_MS])
    assert late.min() > 0.7, "what was left out is the second version"


@pytest.mark.parametrize(("channel", "value"), [(1, 0.25), (2, 0.5), (9, 0.5)])
def test_one_channel_is_that_channel_or_the_last(channel: int, value: float) -> None:
    given = block(0, 0.25, channels=2)
    assert planes_of(given).shape == (2, BLOCK)
    mono = one_channel(given, channel)
    assert mono.layout.name == "mono" and mono.sample_rate == RATE_HZ
    assert planes_of(mono) == pytest.approx(value)
    chunks, _ = heard(*(block(20 * k, 0.25, channels=2) for k in range(10)), channel=channel)
    assert np.concatenate([chunk.samples for chunk in chunks])[500:1500] == pytest.approx(value, abs=0.01)


def test_interleaved_samples_become_planes() -> None:
    frame = av.AudioFrame.from_ndarray(np.array([[1, 2, 3, 4, 5, 6]], np.int16), format="s16", layout="stereo")
    assert planes_of(frame).tolist() == [[1, 3, 5], [2, 4, 6]]


def test_a_time_is_the_stamp_in_its_own_base() -> None:
    frame = picture(None)
    assert time_ns(frame) is None
    frame.pts, frame.time_base = 90_001, Fraction(1, 90_000)
    assert time_ns(frame) == NS_PER_S + 11_111


@pytest.mark.parametrize(("rate", "is_told"), [(0.0004, False), (0.01, True), (-0.01, True), (0.06, False)])
def test_a_rate_error_is_reported_beyond_3_ms_and_below_5_per_cent(rate: float, is_told: bool) -> None:
    watch = RateWatch()
    for k in range(60):
        watch.observe(k * 0.1, k * 0.1 * rate)
    assert (watch.slope() is not None) == is_told
    if is_told:
        assert watch.slope() == pytest.approx(rate, rel=1e-6)
        assert watch.late_s(7.0) == pytest.approx(7.0 * rate, rel=1e-6)


def test_a_pace_needs_a_dozen_blocks_apart() -> None:
    watch = RateWatch()
    for k in range(11):
        watch.observe(k * 0.1, k * 0.001)
        watch.observe(k * 0.1 + 0.001, 0.5)  # too soon after the last: not looked at
    assert watch.slope() is None
    watch.observe(1.1, 0.011)
    assert watch.slope() == pytest.approx(0.01)


def test_a_step_is_no_pace() -> None:
    watch = RateWatch()
    for k in range(60):
        watch.observe(k * 0.1, 0.0 if k < 30 else 0.03)
    assert watch.slope() is None


@pytest.mark.parametrize(("early", "late", "is_told"), [(0.006, 0.014, True), (0.002, 0.018, False)])
def test_a_pace_may_change_a_little(early: float, late: float, is_told: bool) -> None:
    watch = RateWatch()
    for k in range(60):
        watch.observe(k * 0.1, k * 0.1 * early + max(k - 30, 0) * 0.1 * (late - early))
    assert (watch.slope() is not None) == is_told


def test_noise_is_no_pace() -> None:
    noise_s = np.random.default_rng(0).normal(0, 0.02, 60)
    watch = RateWatch()
    for k, late_s in enumerate(noise_s):
        watch.observe(k * 0.1, 0.1 + float(late_s) + k * 0.0002)
    assert watch.slope() is None


def test_a_track_knows_where_it_begins_and_ends() -> None:
    video, audio = VideoTrack(25.0, None, 48, Counter()), AudioTrack(RATE_HZ, Counter())
    for k in range(50):
        list(video.feed(picture(1000 + 40 * k)))
        list(audio.feed(block(1000 + 20 * k)))
    list(video.flush())
    list(audio.flush())
    assert video.end_ns == 3 * NS_PER_S
    assert (audio.begin_ns, audio.end_ns) == (NS_PER_S, 2 * NS_PER_S)
