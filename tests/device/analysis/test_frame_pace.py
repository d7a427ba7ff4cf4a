"""Whether a camera is too slow, which is not the same as one that was away for a moment."""

from __future__ import annotations

import pytest

from device.analysis.frame_pace import FramePace
from device.records import NS_PER_S


def pace(*times_s: float) -> FramePace:
    found = FramePace()
    for t_s in times_s:
        found.add(round(t_s * NS_PER_S))
    return found


def slow(found: FramePace, from_s: float, to_s: float) -> bool:
    return found.is_slow(round(from_s * NS_PER_S), round(to_s * NS_PER_S))


@pytest.mark.parametrize(("rate_hz", "too_slow"), [(25, False), (10, False), (7.5, True), (2, True)])
def test_a_rate(rate_hz: float, too_slow: bool) -> None:
    found = pace(*(k / rate_hz for k in range(round(20 * rate_hz))))
    assert slow(found, 10, 15) == too_slow == found.mostly_slow


def test_an_interruption_is_not_a_rate() -> None:
    found = pace(*(k / 25 for k in range(100)), *(8 + k / 25 for k in range(100)))
    assert not slow(found, 4, 9) and not found.mostly_slow


def test_a_camera_that_slows_down_in_the_dark_and_recovers() -> None:
    found = pace(*(k / 25 for k in range(250)), *(10 + k / 5 for k in range(50)), *(20 + k / 25 for k in range(250)))
    assert [slow(found, from_s, from_s + 5) for from_s in (4, 12, 24)] == [False, True, False]


def test_before_there_are_frames() -> None:
    assert not slow(FramePace(), 0, 5) and not FramePace().mostly_slow
