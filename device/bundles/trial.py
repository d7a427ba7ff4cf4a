"""The trial of new models: they stay after enough measurements, and go if they crash, fail or never answer.

Pure: a trial and an event in, a trial out. `device.bundles.trial_file` keeps it over a restart.

A process that dies during the trial shows at the next start. One death proves nothing: it may have been a power cut.
Models that crash do so repeatedly, within seconds. Three power cuts within one trial are rare, and only cost a fallback
to the previous models. A crash of the whole computer counts too, because models that draw more current than its supply
delivers cause just that. Only a process that lived for an hour is never counted: many devices are switched off every
night, and may hear nobody for days.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from device.bundles.store import Activation
from device.config.settings import ModelSettings
from device.records import Fault, Report, State

MAX_DEATHS = 3
SETTLED_S = 3600.0


class TrialState(StrEnum):
    """The state of a trial."""

    WAITING = "waiting"  # in use, but nothing measures
    ON_TRIAL = "on trial"
    PASSED = "passed"
    FELL_BACK = "fell back"


@dataclass(frozen=True, slots=True)
class Trial:
    """An activation of a bundle and its outcome so far. `fallback` is a digest; None for the built-in models."""

    digest: str
    made_ns: int
    fallback: str | None
    standing: TrialState = TrialState.ON_TRIAL
    why: str = ""  # why it passed or fell back
    valid: int = 0  # reports with an offset
    speech_s: float = 0.0  # with a visible face, since the last such report
    deaths: int = 0
    running: bool = False  # a process measures with it, or died doing so

    @property
    def is_open(self) -> bool:
        return self.standing is TrialState.ON_TRIAL


def started(trial: Trial) -> Trial:
    """A process is about to load the models. If the previous one did not end properly, that counts."""
    if not trial.is_open:
        return trial
    deaths = trial.deaths + trial.running
    if deaths >= MAX_DEATHS:
        return fallen(replace(trial, deaths=deaths), f"avdrift died {deaths} times while it measured with them")
    return replace(trial, deaths=deaths, running=True)


def ended(trial: Trial) -> Trial:
    """The process ends properly, or has lived so long that its end does not count against the models."""
    return replace(trial, running=False)


def judged(trial: Trial, report: Report, passed_s: float, settings: ModelSettings) -> Trial:
    """Count a report made with these models, `passed_s` after the previous one."""
    if not trial.is_open:
        return trial
    if report.fault == Fault.MODEL_FAILED:
        return fallen(trial, "they fail on what comes from the camera and the microphone")
    if report.state is State.MEASURING:
        trial = replace(trial, valid=trial.valid + 1, speech_s=0.0)
        if trial.valid < settings.trial_reports:
            return trial
        return replace(trial, standing=TrialState.PASSED, why=f"{trial.valid} valid reports", running=False)
    if report.state is not State.UNCERTAIN or report.fault not in (None, Fault.OVERLOADED):
        return trial
    speech_ratio = 1.0 if report.speech_ratio is None else report.speech_ratio
    trial = replace(trial, speech_s=trial.speech_s + speech_ratio * min(max(passed_s, 0.0), report.window_s))
    if trial.speech_s < 60 * settings.trial_speech_min:
        return trial
    return fallen(trial, f"no offset in {settings.trial_speech_min:g} minutes of speech with a face")


def fallen(trial: Trial, why: str) -> Trial:
    """The trial has failed; `why` completes a sentence."""
    return replace(trial, standing=TrialState.FELL_BACK, why=why, running=False)


def begun(activation: Activation, known: Trial | None, fallback: str | None) -> Trial:
    """The trial of an activation, given earlier results for the same models and the fallback.

    Models that have passed once have passed, because they are identical to the last bit.
    """
    fallback = None if fallback == activation.digest else fallback
    if known is not None and known.standing is TrialState.PASSED:
        return replace(known, made_ns=activation.made_ns, fallback=fallback)
    if known is not None and known.made_ns == activation.made_ns:
        return known
    return Trial(activation.digest, activation.made_ns, fallback)


def fallback_of(trials: Mapping[str, Trial], before: str | None) -> str | None:
    """The fallback of new models: the previous ones if they have passed, otherwise their fallback."""
    trial = trials.get(before) if before is not None else None
    return before if trial is None or trial.standing is TrialState.PASSED else trial.fallback


def describe_trial(
    activation: Activation | None, digest: str, trial: Trial | None, *, measured: bool
) -> tuple[str, str]:
    """Describe the trial state of an installed bundle, and the reason; empty texts if there is nothing to say.

    activation: the target of `current`. measured: a daemon that follows it is running.
    """
    if trial is not None and trial.standing is TrialState.PASSED:
        return TrialState.PASSED.value, trial.why
    current = activation is not None and activation.digest == digest
    if not current:
        return (TrialState.FELL_BACK.value, trial.why) if trial and trial.standing is TrialState.FELL_BACK else ("", "")
    fresh = trial is None or activation is None or trial.made_ns != activation.made_ns
    if trial is not None and not fresh and trial.standing is TrialState.FELL_BACK:
        return TrialState.FELL_BACK.value, trial.why
    about = f"{0 if fresh or trial is None else trial.valid} valid reports so far"
    return (TrialState.ON_TRIAL.value, about) if measured else (TrialState.WAITING.value, "avdrift does not run")
