"""The trial of new models, without a disk: when they pass and when they fall back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from device.bundles.store import Activation
from device.bundles.trial import (
    MAX_DEATHS,
    Trial,
    TrialState,
    begun,
    describe_trial,
    ended,
    fallback_of,
    fallen,
    judged,
    started,
)
from device.config.settings import ModelSettings
from device.records import Report, State
from tests.models.trials import report

NEW, OLD, OLDER = "a" * 64, "b" * 64, "c" * 64
TRIAL = Trial(NEW, 5, OLD)
SETTINGS = ModelSettings(trial_reports=3, trial_speech_min=1.0)
VALID = report(State.MEASURING, offset_ms=3.0)
UNSURE = report(State.UNCERTAIN, speech_ratio=1.0)


def after(trial: Trial, reports: list[Report], passed_s: float = 1.0) -> Trial:
    for each in reports:
        trial = judged(trial, each, passed_s, SETTINGS)
    return trial


def test_enough_valid_reports_and_they_stay() -> None:
    trial = after(started(TRIAL), [VALID, UNSURE, VALID])
    assert trial.is_open and trial.valid == 2 and trial.running
    trial = after(trial, [VALID])
    assert (trial.standing, trial.running, trial.why) == (TrialState.PASSED, False, "3 valid reports")
    assert after(trial, [report(State.UNCERTAIN, fault="model_failed")] * 3) == trial, "that is not about the trial"


def test_speech_without_an_offset_and_they_go() -> None:
    trial = after(TRIAL, [UNSURE] * 59)
    assert trial.is_open
    trial = after(trial, [UNSURE])
    assert trial.standing is TrialState.FELL_BACK and trial.why == "no offset in 1 minutes of speech with a face"


def test_only_speech_counts_and_an_offset_starts_the_count_again() -> None:
    half = replace(UNSURE, speech_ratio=0.5)
    assert after(TRIAL, [half] * 100).speech_s == 50
    assert after(TRIAL, [*[UNSURE] * 50, VALID, *[UNSURE] * 50]).is_open


@pytest.mark.parametrize(
    "idle",
    [report(state) for state in (State.NO_FACE, State.NO_SPEECH, State.STARTING, State.STALLED)]
    + [replace(UNSURE, fault=fault) for fault in ("camera_black", "microphone_clipped", "clock_jumped")],
)
def test_where_nobody_could_measure_nothing_is_held_against_them(idle: Report) -> None:
    assert after(TRIAL, [idle] * 1000) == TRIAL


def test_models_that_are_too_slow_are_not_excused() -> None:
    assert after(TRIAL, [replace(UNSURE, fault="overloaded")] * 60).standing is TrialState.FELL_BACK


@pytest.mark.parametrize("passed_s", [-5.0, 1e9])
def test_a_pause_between_reports_is_not_speech(passed_s: float) -> None:
    assert after(TRIAL, [UNSURE], passed_s).speech_s <= UNSURE.window_s


def test_models_that_fail_go_at_once() -> None:
    trial = after(TRIAL, [report(State.STALLED, fault="model_failed")])
    assert trial.standing is TrialState.FELL_BACK and "fail" in trial.why


def test_a_process_that_dies_again_and_again() -> None:
    trial = TRIAL
    for deaths in range(MAX_DEATHS):
        trial = started(trial)
        assert trial.is_open and trial.running and trial.deaths == deaths
    assert "died 3 times" in started(trial).why and not started(trial).running


def test_a_clean_end_proves_nothing() -> None:
    trial = TRIAL
    for _ in range(20):
        trial = ended(started(trial))
    assert trial.is_open and trial.deaths == 0


def test_a_new_activation_is_a_new_trial() -> None:
    failed = fallen(replace(TRIAL, deaths=3), "of old age")
    assert begun(Activation(NEW, 5), failed, OLD) is failed, "the same one is finished, not begun again"
    assert begun(Activation(NEW, 6), failed, OLDER) == Trial(NEW, 6, OLDER)
    half = replace(TRIAL, valid=2, running=True)
    assert begun(Activation(NEW, 5), half, None) is half, "a restart goes on where it was"


def test_what_has_passed_once_has_passed() -> None:
    passed = after(TRIAL, [VALID] * 3)
    again = begun(Activation(NEW, 9), passed, OLDER)
    assert again.standing is TrialState.PASSED and (again.made_ns, again.fallback) == (9, OLDER)


def test_nothing_falls_back_to_itself() -> None:
    assert begun(Activation(NEW, 9), None, NEW).fallback is None


def test_only_what_can_be_trusted_is_gone_back_to() -> None:
    passed, opened = after(TRIAL, [VALID] * 3), Trial(OLDER, 1, OLD)
    trials = {NEW: passed, OLDER: opened}
    assert fallback_of(trials, NEW) == NEW
    assert fallback_of(trials, OLDER) == OLD, "on trial itself: what it would go back to"
    assert fallback_of({OLDER: fallen(opened, "")}, OLDER) == OLD
    assert fallback_of(trials, OLD) == OLD and fallback_of(trials, None) is None


@pytest.mark.parametrize(
    ("trial", "made_ns", "measured", "words"),
    [
        (None, 5, True, ("on trial", "0 valid reports so far")),
        (None, 5, False, ("waiting", "avdrift does not run")),
        (replace(TRIAL, valid=2), 5, True, ("on trial", "2 valid reports so far")),
        (replace(TRIAL, valid=2), 6, True, ("on trial", "0 valid reports so far")),
        (fallen(TRIAL, "it broke"), 5, True, ("fell back", "it broke")),
        (fallen(TRIAL, "it broke"), 6, True, ("on trial", "0 valid reports so far")),
        (fallen(TRIAL, "it broke"), None, True, ("fell back", "it broke")),
        (after(TRIAL, [VALID] * 3), 9, False, ("passed", "3 valid reports")),
        (after(TRIAL, [VALID] * 3), None, False, ("passed", "3 valid reports")),
        (TRIAL, None, True, ("", "")),
        (None, None, True, ("", "")),
    ],
)
def test_in_words(trial: Any, made_ns: int | None, measured: bool, words: tuple[str, str]) -> None:
    activation = Activation(NEW, made_ns) if made_ns is not None else Activation(OLD, 5)
    assert describe_trial(activation, NEW, trial, measured=measured) == words
