"""Drift and steps on simulated series: what is called, what is not, and what a broken series does.

Two kinds of series. `alone`: each report a new observation, 20 % of them wrong by up to a second (the project's
targets). `windows`: a report a second of a window of 5 s, so neighbours share noise and wrong windows last 5 reports.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from device.records import DriftClass
from device.sync.drift import Drift, DriftState, current_drift, update

Series = list[tuple[float, float]]  # (t_s, offset_ms)


def alone(seed: int, count: int, noise_ms: float, wrong: float = 0.2) -> Series:
    random = np.random.default_rng(seed)
    offsets_ms = random.normal(80, noise_ms, count)
    bad = random.random(count) < wrong
    offsets_ms[bad] = random.uniform(-920, 1080, int(bad.sum()))
    return [(1.0 + k, float(value)) for k, value in enumerate(offsets_ms)]


def windows(seed: int, count: int, noise_ms: float, wrong: float = 0.01) -> Series:
    random = np.random.default_rng(seed)
    noise = np.convolve(random.normal(0, noise_ms, count + 4), np.ones(5) / np.sqrt(5), "valid")
    for k in np.flatnonzero(random.random(count) < wrong / 5):
        noise[k : k + 5] = random.uniform(-1000, 1000)
    return [(5.0 + k, 80 + float(value)) for k, value in enumerate(noise)]


def changed(series: Series, *, drift_ppm: float = 0.0, step_ms: float = 0.0, at_s: float = 0.0) -> Series:
    return [(t_s, v + drift_ppm / 1000 * t_s + (step_ms if t_s >= at_s else 0)) for t_s, v in series]


def follow(series: Iterable[tuple[float, float]], window_s: float, state: DriftState | None = None) -> list[Drift]:
    state, found = state or DriftState(), []
    for t_s, offset_ms in series:
        state, drift = update(state, t_s, offset_ms, 5.0, window_s=window_s)
        found.append(drift)
    return found


def kept(series: Iterable[tuple[float, float]], window_s: float = 5.0) -> DriftState:
    state = DriftState()
    for t_s, offset_ms in series:
        state, _ = update(state, t_s, offset_ms, 5.0, window_s=window_s)
    return state


def steps(found: list[Drift]) -> list[float]:
    return [drift.step_ms for drift in found if drift.step_ms is not None]


def delays_s(make: list[Series], window_s: float, at_s: float) -> list[float]:
    """From each step to its report; infinite where there was none."""
    found = []
    for series in make:
        told = follow(series, window_s)
        found.append(next((t - at_s for (t, _), d in zip(series, told, strict=True) if d.step_ms), float("inf")))
    return found


# Drift


def test_50_ppm_is_called_within_15_minutes_at_40_ms_noise_and_20_percent_wrong() -> None:
    (last,) = follow(changed(alone(1, 900, 40.0), drift_ppm=50), 1.0)[-1:]
    assert last.kind is DriftClass.DRIFTING and last.drift_ppm and last.drift_std_ppm
    assert last.drift_ppm >= 3 * last.drift_std_ppm
    assert abs(last.drift_ppm - 50) < 3.5 * last.drift_std_ppm


@pytest.mark.parametrize("drift_ppm", [-200.0, 50.0])
def test_drift_is_found_in_overlapping_windows(drift_ppm: float) -> None:
    found = follow(changed(windows(2, 900, 8.0), drift_ppm=drift_ppm), 5.0)
    assert found[-1].kind is DriftClass.DRIFTING
    assert found[-1].drift_ppm == pytest.approx(drift_ppm, abs=15)
    assert not steps(found), "a drift is no step"


def test_a_standing_offset_is_steady_and_is_called_so() -> None:
    found = follow(windows(3, 900, 8.0), 5.0)
    assert found[-1].kind is DriftClass.STEADY
    assert found[-1].drift_ppm is not None and abs(found[-1].drift_ppm) < 15
    assert DriftClass.DRIFTING not in {drift.kind for drift in found}


def test_drift_is_withheld_until_it_means_something() -> None:
    found = follow(windows(4, 900, 8.0), 5.0)
    assert {(d.kind, d.drift_ppm, d.drift_std_ppm) for d in found[:150]} == {(DriftClass.UNKNOWN, None, None)}
    for drift in found:
        assert (drift.drift_ppm is None) == (drift.drift_std_ppm is None)
        assert drift.drift_std_ppm is None or 0 < drift.drift_std_ppm <= 50


def test_noise_too_large_for_a_drift_leaves_it_unknown() -> None:
    found = follow(windows(5, 300, 60.0, 0.0), 5.0)
    assert {(drift.kind, drift.drift_ppm, drift.drift_std_ppm) for drift in found} == {(DriftClass.UNKNOWN, None, None)}


def test_a_perfect_series_is_steady_and_not_infinitely_sure() -> None:
    last = follow([(float(t), 80.0) for t in range(400)], 5.0)[-1]
    assert (last.kind, last.drift_ppm) == (DriftClass.STEADY, 0) and last.drift_std_ppm and last.drift_std_ppm > 0.5


def test_shared_windows_are_not_counted_as_evidence_of_their_own() -> None:
    """The same noise, seen five times as often through overlapping windows, must not look five times as sure."""
    often = follow(windows(6, 900, 20.0, 0.0), 5.0)[-1].drift_std_ppm
    single = follow(windows(6, 900, 20.0, 0.0)[::5], 5.0)[-1].drift_std_ppm
    assert often and single and 0.6 < often / single < 1.7


# Steps


def test_a_step_in_overlapping_windows_is_reported_once_with_its_size_and_time() -> None:
    series = changed(windows(7, 240, 8.0, 0.0), step_ms=60, at_s=123)  # the window's middle passes it then
    found = follow(series, 5.0)
    (told,) = [(t_s, drift) for (t_s, _), drift in zip(series, found, strict=True) if drift.step_ms is not None]
    assert told[0] <= 120.5 + 10
    assert told[1].step_ms == pytest.approx(60, abs=12) and told[1].step_t_s == pytest.approx(120.5, abs=1.5)
    assert found[-1].kind is DriftClass.STEPPED and found[-1].drift_ppm is None, "the fit began anew"


def test_60_ms_are_seen_within_10_reports_at_10_ms_noise_and_20_percent_wrong() -> None:
    series = [changed(alone(seed, 160, 10.0), step_ms=-60, at_s=140) for seed in range(5)]
    assert max(delays_s(series, 1.0, 140)) <= 10


def test_60_ms_are_seen_in_the_end_at_40_ms_noise_and_20_percent_wrong() -> None:
    """At one report a second: 13 nats at about 0.6 a report. No test can meet 10 s here and be wrong once a day."""
    series = [changed(alone(seed, 250, 40.0), step_ms=60, at_s=140) for seed in range(4)]
    found = sorted(delay for delay in delays_s(series, 1.0, 140) if delay > 0)
    assert found and found[len(found) // 2] <= 60


def test_after_a_step_drift_is_measured_again() -> None:
    found = follow(changed(windows(8, 700, 5.0, 0.0), drift_ppm=100, step_ms=-300, at_s=300), 5.0)
    assert steps(found) == [pytest.approx(-300, abs=15)]
    assert found[-1].kind is DriftClass.DRIFTING and found[-1].drift_ppm == pytest.approx(100, abs=25)


def test_one_wrong_window_is_no_step_however_clean_the_rest() -> None:
    series = [(5.0 + k, 80.0 + k % 3 - (400.0 if 100 <= k < 105 else 0)) for k in range(200)]
    assert not steps(follow(series, 5.0))


def test_wrong_reports_that_agree_with_nothing_are_no_step() -> None:
    assert not steps(follow(alone(9, 600, 10.0, 0.2), 1.0))


def test_there_and_back_are_two_steps() -> None:
    series = [(5.0 + k, 240.0 if 60 <= k < 90 else 80.0) for k in range(150)]
    assert steps(follow(series, 5.0)) == [pytest.approx(160), pytest.approx(-160)]


# Broken series


def test_repeated_times_are_ignored() -> None:
    series = windows(10, 300, 8.0)
    twice = [entry for t_s, v in series for entry in ((t_s, v), (t_s, v + 700))]
    assert kept(twice) == kept(series)


@pytest.mark.parametrize("jump_s", [-1000.0, 301.0, 1e9])
def test_a_jump_in_time_starts_again(jump_s: float) -> None:
    state = kept(windows(11, 400, 8.0))
    assert current_drift(state).drift_ppm is not None
    state, drift = update(state, 404.0 + jump_s, 80.0, 5.0, window_s=5)
    assert drift == Drift() and len(state.recent) == 1 and not state.blocks


def test_short_gaps_are_survived_and_a_step_in_one_is_seen() -> None:
    series = [(t_s, v) for t_s, v in windows(12, 900, 8.0, 0.0) if t_s % 100 < 40]
    found = follow(series, 5.0)
    assert found[-1].kind is DriftClass.STEADY and not steps(found)
    assert steps(follow(changed(series, step_ms=-120, at_s=470), 5.0)) == [pytest.approx(-120, abs=12)]


def test_a_drift_of_long_ago_is_not_today_s() -> None:
    state = kept(windows(13, 400, 8.0))
    assert current_drift(state, 500).drift_ppm is not None
    assert current_drift(state, 705) == current_drift(state, 100) == Drift()
    assert current_drift(DriftState(), 5) == Drift()


@pytest.mark.parametrize("bad", [(float("nan"), 1.0, 1.0), (1.0, float("inf"), 1.0), (1.0, 1.0, float("nan"))])
def test_what_is_not_a_number_is_refused(bad: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        update(DriftState(), *bad, window_s=5)


def test_memory_is_bounded() -> None:
    state = kept([(20.0 * k, 80.0) for k in range(500)])
    assert (len(state.recent), len(state.blocks)) == (120, 360)
    state = kept([(0.02 * k, 80.0) for k in range(1200)])
    assert len(state.recent) == 120 and len(state.filling) <= 1001


# State


def test_state_survives_json_in_the_middle_of_everything() -> None:
    series = changed(windows(14, 500, 8.0), step_ms=90, at_s=300)
    whole = follow(series, 5.0)
    for cut in (3, 298, 450):
        stored = json.loads(json.dumps(kept(series[:cut]).to_dict(), allow_nan=False))
        state = DriftState.from_dict(stored)
        assert state == kept(series[:cut])
        assert follow(series[cut:], 5.0, state) == whole[cut:]


def test_a_stored_state_of_another_shape_is_refused() -> None:
    good = kept(windows(15, 30, 8.0)).to_dict()
    with pytest.raises(KeyError):
        DriftState.from_dict({key: value for key, value in good.items() if key != "blocks"})
    with pytest.raises(TypeError):
        DriftState.from_dict(good | {"recent": [{"when": 1}]})


def test_update_leaves_the_given_state_alone() -> None:
    state = kept(windows(16, 50, 8.0))
    before = replace(state)
    update(state, 1e3, 0.0, 5.0, window_s=5)
    assert state == before


# The targets over hours


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "noise_ms"), [("alone", 40.0), ("alone", 10.0), ("windows", 8.0)])
def test_hours_at_0_ppm_call_neither_drift_nor_step(kind: str, noise_ms: float) -> None:
    series = (alone if kind == "alone" else windows)(17, 3 * 3600, noise_ms)
    found = follow(series, 1.0 if kind == "alone" else 5.0)
    assert not steps(found)
    assert DriftClass.DRIFTING not in {drift.kind for drift in found}
