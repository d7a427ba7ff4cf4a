"""Load shedding: up when necessary, down when possible, without oscillation."""

from __future__ import annotations

from itertools import pairwise

import pytest

from device.records import NS_PER_MS, NS_PER_S
from device.runtime.load_shedding import MAX_STEP, Load


def steps(load: Load, waits_ms: list[int], every_ms: int = 100, from_s: float = 0.0) -> list[int]:
    """The step after each item that waited so long."""
    return [
        load.update(round(from_s * NS_PER_S) + k * every_ms * NS_PER_MS, wait_ms * NS_PER_MS, 0)
        for k, wait_ms in enumerate(waits_ms)
    ]


@pytest.mark.parametrize("wait_ms", [0, 50, 250, 650])
def test_waits_as_a_block_of_the_towers_makes_them_are_no_load(wait_ms: int) -> None:
    load = Load()
    assert set(steps(load, [wait_ms] * 1000)) == {0}
    assert not load.overloaded(100 * NS_PER_S)


def test_lateness_takes_one_step_after_the_other() -> None:
    found = steps(Load(), [900] * 100)
    assert found[0] == 1 and found[-1] == MAX_STEP
    assert all(0 <= b - a <= 1 for a, b in pairwise(found))
    assert found.count(1) >= 20, "each step has 2 s to show what it does"


def test_one_step_that_helps_is_enough() -> None:
    assert set(steps(Load(), [900, *[400] * 1000])) == {1}, "between late and early nothing changes"


def test_steps_are_taken_back_one_by_one_and_slowly() -> None:
    load = Load()
    steps(load, [900] * 30)
    found = steps(load, [10] * 700, from_s=3)
    assert found[0] == MAX_STEP and found[-1] == 0
    changes = [k for k, (a, b) in enumerate(pairwise(found)) if a != b]
    assert len(changes) == MAX_STEP and min(b - a for a, b in pairwise([0, *changes])) >= 190


def test_a_step_back_that_fails_is_tried_less_and_less_often() -> None:
    """A computer that is just too slow for everything: late at step 0, well at step 1."""
    load = Load()
    changes_s: list[float] = []
    for k in range(36_000):
        before = load.step
        load.update(k * 100 * NS_PER_MS, (900 if load.step == 0 else 10) * NS_PER_MS, 0)
        if load.step != before:
            changes_s.append(k / 10)
    assert 4 <= len(changes_s) <= 24, "in an hour"
    ups = changes_s[2::2]
    assert ups[-1] - ups[-2] > 3 * (ups[1] - ups[0])


def test_drops_are_lateness_as_well_and_an_overload() -> None:
    load = Load()
    assert load.update(NS_PER_S, 0, 0) == 0 and not load.overloaded(NS_PER_S)
    assert load.update(2 * NS_PER_S, 0, 3) == 1 and load.overloaded(2 * NS_PER_S)
    assert load.update(3 * NS_PER_S, 0, 3) == 1
    assert load.overloaded(6 * NS_PER_S) and not load.overloaded(8 * NS_PER_S)


def test_far_behind_is_an_overload_before_anything_is_lost() -> None:
    load = Load()
    load.update(0, 1500 * NS_PER_MS, 0)
    assert load.overloaded(0)
