"""When reports are due: at the end of batches of evidence, at the configured interval, and without evidence."""

from __future__ import annotations

from itertools import pairwise

import pytest

from device.records import NS_PER_MS, NS_PER_S
from device.reporting.schedule import Schedule

TICK_NS, BATCH_NS = 40 * NS_PER_MS, NS_PER_S
POLL_NS = 20 * NS_PER_MS


def recorded(every_s: float, *, batches: int = 30, first_ticks: int = 16) -> list[float]:
    """Times of reports, in s, on batches of a second after a shorter one."""
    schedule, found, begin = Schedule(round(every_s * NS_PER_S)), [], 0
    for length in [first_ticks, *[25] * (batches - 1)]:
        rows = [tick * TICK_NS for tick in range(begin, begin + length)]
        found += [t_ns for t_ns in rows if schedule.due_within(t_ns, rows[-1])]
        begin += length
    return [t_ns / NS_PER_S for t_ns in found]


@pytest.mark.parametrize("first_ticks", [1, 2, 16, 24, 25])
def test_a_recording_s_reports_come_at_the_ends_of_batches(first_ticks: int) -> None:
    times_s = recorded(1.0, first_ticks=first_ticks)
    assert len(times_s) >= 28
    end_s = (first_ticks - 1) * TICK_NS / NS_PER_S
    assert all(t_s - end_s == pytest.approx(round(t_s - end_s)) for t_s in times_s)
    assert all(b - a == pytest.approx(1.0) for a, b in pairwise(times_s))


@pytest.mark.parametrize("every_s", [0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.3, 7.0])
def test_over_a_recording_the_interval_is_the_one_asked_for(every_s: float) -> None:
    times_s = recorded(every_s, batches=120)
    mean_s = (times_s[-1] - times_s[0]) / (len(times_s) - 1)
    assert mean_s == pytest.approx(every_s, rel=0.03)
    assert all(0 < b - a < every_s + 1.0 for a, b in pairwise(times_s))


def test_after_a_jump_in_a_recording_missed_reports_are_not_made_up_for() -> None:
    schedule = Schedule(NS_PER_S)
    assert not schedule.due_within(0, 0)
    assert schedule.due_within(100 * NS_PER_S, 100 * NS_PER_S)
    assert not schedule.due_within(100 * NS_PER_S + TICK_NS, 100 * NS_PER_S + TICK_NS)
    assert schedule.due_within(101 * NS_PER_S, 101 * NS_PER_S)


def live(every_s: float, evidence_s: list[float], *, until_s: float) -> list[tuple[float, float]]:
    """Time of each report and how old the newest evidence is, in s; looked at as often as a daemon does."""
    schedule, found, newest_s = Schedule(round(every_s * NS_PER_S)), [], 0.0
    schedule.begin(0)
    waiting = sorted(evidence_s)
    for now_ns in range(0, round(until_s * NS_PER_S), POLL_NS):
        due = schedule.due_live(now_ns, evidence=False)
        if waiting and now_ns >= waiting[0] * NS_PER_S:
            newest_s = waiting.pop(0)
            due = schedule.due_live(now_ns, evidence=True) or due
        if due:
            found.append((now_ns / NS_PER_S, now_ns / NS_PER_S - newest_s))
    return found


def each_second(phase_s: float, count: int) -> list[float]:
    """With a jitter that any computer has."""
    return [phase_s + k + 0.06 * ((k * 7) % 5 - 2) for k in range(1, count + 1)]


@pytest.mark.parametrize("phase_s", [0.0, 0.1, 0.25, 0.45, 0.5, 0.55, 0.75, 0.9, 0.99])
def test_live_reports_fall_in_step_with_the_evidence_whatever_its_phase(phase_s: float) -> None:
    found = live(1.0, each_second(phase_s, 60), until_s=60)
    assert 58 <= len(found) <= 61
    assert all(age_s <= 0.03 for _, age_s in found[2:]), found
    assert all(0.7 < b - a < 1.3 for (a, _), (b, _) in pairwise(found[2:]))


@pytest.mark.parametrize(("every_s", "comes_to_s"), [(1.5, 2.0), (2.0, 2.0), (5.0, 5.0), (60.0, 60.0)])
def test_live_longer_intervals_become_whole_batches(every_s: float, comes_to_s: float) -> None:
    found = live(every_s, each_second(0.3, 400), until_s=400)[1:]
    assert all(age_s <= 0.03 for _, age_s in found)
    assert (found[-1][0] - found[0][0]) / (len(found) - 1) == pytest.approx(comes_to_s, rel=0.02)


def test_live_reports_come_by_the_clock_while_there_is_no_evidence() -> None:
    times_s = [t_s for t_s, _ in live(1.0, [], until_s=60)]
    assert 58 <= len(times_s) <= 60
    assert times_s[0] == pytest.approx(1.0, abs=0.03)
    assert all(b - a == pytest.approx(1.0, abs=0.03) for a, b in pairwise(times_s))


def test_live_a_shorter_interval_than_that_of_the_evidence_is_kept() -> None:
    found = live(0.5, each_second(0.0, 60), until_s=60)
    assert 110 <= len(found) <= 125
    assert sum(age_s <= 0.03 for _, age_s in found) >= 55, "and each batch is reported at once"


def test_live_after_a_long_standstill_missed_reports_are_not_made_up_for() -> None:
    schedule = Schedule(NS_PER_S)
    schedule.begin(0)
    assert schedule.due_live(100 * NS_PER_S, evidence=False)
    assert not schedule.due_live(100 * NS_PER_S + 2 * NS_PER_S // 5, evidence=False)
    assert schedule.due_live(101 * NS_PER_S, evidence=False)
