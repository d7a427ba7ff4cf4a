"""Stamps on the monotonic clock: in time, on the sender's clock, and independent of a single packet's arrival."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from device.capture.streams.timeline import LATE_NS, MARGIN_NS, MAX_SLEW, StampWatch, Timeline
from device.records import NS_PER_MS, NS_PER_S

START_NS = 1000 * NS_PER_S
EVERY_NS = 20 * NS_PER_MS


def run(timeline: Timeline, seconds: float, transit_ns: object, *, ppm: float = 0.0, from_s: float = 0.0) -> None:
    """Packets whose sender's clock is off by ppm, and that take `transit_ns(t_s)`."""
    for number in range(round(seconds * NS_PER_S / EVERY_NS)):
        t_ns = round(from_s * NS_PER_S) + number * EVERY_NS
        timeline.observe(t_ns, START_NS + round(t_ns * (1 - ppm * 1e-6)) + transit_ns(t_ns / NS_PER_S))  # type: ignore[operator]


def begun() -> Timeline:
    return Timeline([(0, START_NS), (EVERY_NS, START_NS + EVERY_NS)])


@given(st.lists(st.integers(0, 800), min_size=2, max_size=50))
def test_what_comes_first_is_in_time_whatever_its_way(ways_ms: list[int]) -> None:
    first = [(number * EVERY_NS, START_NS + number * EVERY_NS + way * NS_PER_MS) for number, way in enumerate(ways_ms)]
    timeline = Timeline(first)
    assert all(timeline.due_ns(stamp_ns) >= arrived_ns + MARGIN_NS for stamp_ns, arrived_ns in first)
    assert timeline.delay_ns <= (max(ways_ms) - min(ways_ms)) * NS_PER_MS + MARGIN_NS


def test_it_follows_a_sender_whose_clock_is_off_for_an_hour() -> None:
    for ppm in (-200.0, 200.0):
        timeline = begun()
        run(timeline, 3600, lambda _: 0, ppm=ppm)
        late_ns = START_NS + round(3600 * NS_PER_S * (1 - ppm * 1e-6)) - timeline.due_ns(3600 * NS_PER_S)
        assert abs(late_ns + MARGIN_NS) < 20 * NS_PER_MS and not timeline.slow


def test_picture_and_sound_of_one_moment_stay_together() -> None:
    """They may pass a second apart, while everything comes later and later."""
    timeline = begun()
    for number in range(1000):
        before_ns = timeline.due_ns(0)
        timeline.observe(number * EVERY_NS, START_NS + number * EVERY_NS + number * NS_PER_MS)
        assert abs(timeline.due_ns(0) - before_ns) <= MAX_SLEW * (EVERY_NS + NS_PER_MS) + 1


def test_a_network_that_stood_still_once_is_not_slow_and_one_that_is_late_again_and_again_is() -> None:
    timeline = begun()
    run(timeline, 30, lambda t_s: round(max(15 - t_s, 0) * NS_PER_S) if t_s >= 12 else 0)
    assert not timeline.slow
    run(timeline, 30, lambda t_s: 2 * LATE_NS if t_s % 4 < 1 else 0, from_s=30)
    assert timeline.slow and timeline.needed_delay_ns >= 2 * LATE_NS
    again = Timeline([(60 * NS_PER_S, START_NS + 60 * NS_PER_S)], timeline.needed_delay_ns)
    run(again, 30, lambda t_s: 2 * LATE_NS if t_s % 4 < 1 else 0, from_s=60)
    assert not again.slow


def test_half_of_real_time_is_slow_within_five_seconds_and_a_segment_that_comes_late_is_not() -> None:
    timeline = begun()
    run(timeline, 2.4, lambda t_s: round(t_s * NS_PER_S))
    assert timeline.slow, "4.8 s have passed"
    timeline = begun()
    run(timeline, 4.5, lambda t_s: round((6 - t_s) * NS_PER_S))
    assert not timeline.slow


@given(st.integers(-5000, 5000), st.integers(0, 5000))
def test_a_jump_is_what_the_time_that_passed_does_not_explain(step_ms: int, passed_ms: int) -> None:
    watch = StampWatch()
    assert watch.jumped_ns(0, START_NS) is None
    jumped = watch.jumped_ns(step_ms * NS_PER_MS, START_NS + passed_ms * NS_PER_MS)
    assert (jumped is not None) == (step_ms < -500 or step_ms > passed_ms + 1000)
