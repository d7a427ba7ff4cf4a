"""Limits of the standards from both sides, and the words for a direction."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.records import Direction, Verdict
from device.standards import (
    DEFAULT_PROFILE,
    PROFILES,
    Profile,
    direction,
    own_profile,
    severity,
    verdict,
    verdict_range,
    worst,
)

GRADES = [Verdict.IN_SYNC, Verdict.DETECTABLE, Verdict.UNACCEPTABLE]


@pytest.mark.parametrize(
    ("profile", "early", "late"),
    [("itu-r-bt1359", (45, 90), (-125, -185)), ("atsc-is191", (15, 15), (-45, -45)), ("ebu-r37", (40, 40), (-60, -60)),
     ("itu-t-j100", (20, 20), (-40, -40)), ("en-301549", (100, 100), (-100, -100))],
)  # fmt: skip
def test_the_published_limits(profile: str, early: tuple[int, int], late: tuple[int, int]) -> None:
    limits = PROFILES[profile]
    for (detectable, acceptable), away in ((early, 0.01), (late, -0.01)):
        assert verdict(detectable, limits) is Verdict.IN_SYNC
        assert verdict(detectable + away, limits) is not Verdict.IN_SYNC
        assert verdict(acceptable, limits) is not Verdict.UNACCEPTABLE
        assert verdict(acceptable + away, limits) is Verdict.UNACCEPTABLE


def test_late_sound_is_borne_longer_than_early_sound() -> None:
    limits = PROFILES[DEFAULT_PROFILE]
    assert (verdict(100, limits), verdict(-100, limits)) == (Verdict.UNACCEPTABLE, Verdict.IN_SYNC)
    assert (verdict(60, limits), verdict(-150, limits)) == (Verdict.DETECTABLE, Verdict.DETECTABLE)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
@given(offset_ms=st.floats(0, 5000), more_ms=st.floats(0, 5000), sign=st.sampled_from([1, -1]))
def test_a_larger_offset_is_never_better(profile: Profile, offset_ms: float, more_ms: float, sign: int) -> None:
    less, more = (verdict(sign * value, profile) for value in (offset_ms, offset_ms + more_ms))
    assert GRADES.index(more) >= GRADES.index(less)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_no_offset_no_verdict(profile: Profile) -> None:
    assert verdict(None, profile) is Verdict.UNKNOWN
    assert verdict(0.0, profile) is Verdict.IN_SYNC


@pytest.mark.parametrize(
    ("offset_ms", "word"),
    [
        (0.0, Direction.IN_SYNC),
        (20.0, Direction.IN_SYNC),
        (-20.0, Direction.IN_SYNC),
        (20.1, Direction.AUDIO_EARLY),
        (-20.1, Direction.AUDIO_LATE),
        (1000.0, Direction.AUDIO_EARLY),
        (-1000.0, Direction.AUDIO_LATE),
    ],
)
def test_positive_is_early_and_negative_is_late(offset_ms: float, word: Direction) -> None:
    assert direction(offset_ms) is word


@pytest.mark.parametrize("profile", [*PROFILES.values(), own_profile(5, -30), own_profile(0, 0)])
@given(offset_ms=st.floats(-400, 400), std_ms=st.floats(0, 100), more_ms=st.floats(0, 1))
def test_a_verdict_is_sure_only_beyond_its_error_bar(
    profile: Profile, offset_ms: float, std_ms: float, more_ms: float
) -> None:
    found = verdict_range(offset_ms, std_ms, profile)
    inside = verdict(offset_ms + (2 * more_ms - 1) * std_ms, profile)
    assert severity(found.mildest) <= severity(inside) <= severity(found.severest), "of each offset within the bar"
    assert found.verdict in (Verdict.BORDERLINE, inside)
    if std_ms == 0:
        assert found.verdict is verdict(offset_ms, profile)
    if direction(offset_ms, profile) is Direction.IN_SYNC:
        assert found.verdict in (Verdict.IN_SYNC, Verdict.BORDERLINE), "both keys agree"


def test_the_worst_of_several_is_sure_where_one_of_them_is() -> None:
    limits = PROFILES[DEFAULT_PROFILE]
    sure, unsure = verdict_range(70, 3, limits), verdict_range(44, 3, limits)
    assert (unsure.verdict, worst([sure, unsure]).verdict) == (Verdict.BORDERLINE, Verdict.DETECTABLE)
    assert worst([verdict_range(None, 3, limits)]).verdict is worst([]).verdict is Verdict.UNKNOWN
