"""Deploys a bundle to many devices at once: copies it, installs it, and follows the trial to its verdict.

A device that cannot be reached, or that refuses the bundle, keeps its models. So does one on which the new models fall
back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from convert.deployment.remote import Access, Remote, RemoteModel, checked_host
from device.bundles.bundle import Bundle, load_bundle
from device.bundles.gate import require_gate
from device.bundles.signature import is_signed
from device.bundles.trial import TrialState
from device.errors import AvdriftError, ModelError, ModelSignatureError, TransportError, UsageError

TIMEOUT_S = 900.0  # for the verdict
_MAX_AT_ONCE = 16
_POLL_S = 10.0  # each query costs a small device a second or more of computing
_START_S = 20.0  # a service that has just died may be restarting
INSTALLING = "installing"  # reported before a device may change its models
_FAILED, _INSTALLED, _REPLACED, _PLANNED = "failed", "installed", "replaced", "would install"


@dataclass(frozen=True, slots=True)
class Job:
    """What to deploy, and how long to wait for the verdict; 0: not at all."""

    folder: Path
    bundle: Bundle
    options: tuple[str, ...] = ()  # of `avdrift model install`
    timeout_s: float = TIMEOUT_S
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome on one device. The exit code is 0 if nothing remains to be done."""

    host: str
    result: str
    about: str
    exit_code: int = 0


def plan(
    folder: Path, *, allow_unsigned: bool = False, allow_downgrade: bool = False, accept_worse: bool = False,
    timeout_s: float = TIMEOUT_S, dry_run: bool = False,
) -> Job:  # fmt: skip
    """Verify a bundle and prepare its deployment. Raises ModelError before any device is touched."""
    bundle = load_bundle(folder)
    if not (is_signed(folder) or allow_unsigned):
        remedy = "Sign it with: avdrift-convert sign BUNDLE --key KEY, or give --allow-unsigned"
        raise ModelSignatureError("the bundle is not signed: no device accepts it", where=str(folder), remedy=remedy)
    if not accept_worse:
        require_gate(bundle.manifest, str(folder))
    given = {
        "--allow-unsigned": allow_unsigned, "--allow-downgrade": allow_downgrade, "--accept-worse": accept_worse,
    }  # fmt: skip
    return Job(folder, bundle, tuple(name for name, on in given.items() if on), timeout_s, dry_run)


def read_hosts(given: Sequence[str], inventory: Path | None) -> list[str]:
    """The given hosts and those of an inventory, each once: one per line, `#` begins a comment. Raises UsageError."""
    lines = list(given)
    if inventory is not None:
        try:
            lines += inventory.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            what = f"cannot be read ({error})"
            raise UsageError(what, where=str(inventory), remedy="Give a text file with one host a line") from error
    hosts = [line.partition("#")[0].strip() for line in lines]
    found = list(dict.fromkeys(checked_host(host) for host in hosts if host))
    if not found:
        raise UsageError("no host is given", where="deploy", remedy="Give HOST…, or --inventory FILE")
    return found


def deploy(hosts: Sequence[str], job: Job, access: Access, report: Callable[[str, str], None]) -> list[Outcome]:
    """Deploy to all hosts, at most 16 at a time; `report` gets host and message, from several threads.

    An interrupt ends the waiting; copying or installing that has started is completed.
    """
    stopped = threading.Event()
    with ThreadPoolExecutor(min(len(hosts), _MAX_AT_ONCE)) as pool:
        try:
            work = [pool.submit(_deploy, host, job, access, partial(report, host), stopped) for host in hosts]
            return [each.result() for each in work]
        except KeyboardInterrupt:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """The code of an unreachable device takes precedence over that of one that refuses."""
    return max((outcome.exit_code for outcome in outcomes), default=0)


def table(outcomes: Sequence[Outcome]) -> str:
    """A table with one line per device."""
    hosts, results = (max(len(getattr(each, name)) for each in outcomes) for name in ("host", "result"))
    return "\n".join(f"{each.host:{hosts}}  {each.result:{results}}  {each.about}".rstrip() for each in outcomes)


def _deploy(host: str, job: Job, access: Access, report: Callable[[str], None], stopped: threading.Event) -> Outcome:
    try:
        remote = Remote(host, access)
        report("connecting")
        used = next((model.label for model in remote.models() if model.current), "built-in models")
        if job.dry_run:
            return Outcome(host, _PLANNED, f"{job.bundle.label}, replacing {used}")
        _install(remote, job, report)
        if not job.timeout_s:
            return Outcome(host, _INSTALLED, f"before: {used}")
        return _verdict(remote, job, report, stopped)
    except AvdriftError as error:
        return Outcome(host, _FAILED, str(error), error.exit_code)
    except Exception as error:  # no device's error may lose the rows of the others
        return Outcome(host, _FAILED, f"unexpected {type(error).__name__}: {error}", TransportError.exit_code)


def _install(remote: Remote, job: Job, report: Callable[[str], None]) -> None:
    folder = remote.make_folder()
    try:
        report("copying")
        remote.copy(job.folder, f"{folder}/bundle")
        report(INSTALLING)
        remote.avdrift("model", "install", "--activate", "--json", *job.options, f"{folder}/bundle")
    finally:
        remote.remove_folder(folder)


def _verdict(remote: Remote, job: Job, report: Callable[[str], None], stopped: threading.Event) -> Outcome:
    """Poll until the trial is over, or the time is up."""
    begun_s, failures, shown = time.monotonic(), "", ""
    while True:
        passed_s = time.monotonic() - begun_s
        try:
            model, failures = next((each for each in remote.models() if each.digest == job.bundle.digest), None), ""
            outcome = _outcome(remote.host, model, passed_s)
            words = f"{model.trial}: {model.trial_about}" if model else ""
        except AvdriftError as error:  # a network may come back
            outcome, words, failures = None, str(error), f" ({error})"
        if outcome is not None:
            return with_record(remote, outcome, job.bundle.digest)
        if passed_s > job.timeout_s or stopped.is_set():
            about = f"no verdict within {passed_s:.0f} s; the trial continues there{failures}"
            return Outcome(remote.host, TrialState.ON_TRIAL.value, about, ModelError.exit_code)
        if words != shown:
            report(shown := words)
        stopped.wait(_POLL_S)


def with_record(remote: Remote, outcome: Outcome, digest: str) -> Outcome:
    """The outcome with the models' record on the device, if its avdrift supports that."""
    try:
        shown = remote.avdrift("model", "report", "--json")
    except AvdriftError:  # an older avdrift without this command
        return outcome
    found = next((each for each in shown if each.get("digest") and digest.startswith(str(each["digest"]))), {})
    share, heard = found.get("coverage"), found.get("heard")
    if not isinstance(share, int | float) or not isinstance(heard, int):
        return outcome
    about = f"{outcome.about}; a number in {share:.0%} of {heard} reports with a face and speech"
    return replace(outcome, about=about)


def _outcome(host: str, model: RemoteModel | None, passed_s: float) -> Outcome | None:
    """The outcome if it is decided. A long wait means that avdrift is not running there."""
    if model is not None and model.trial == TrialState.PASSED:
        return Outcome(host, model.trial, model.trial_about)
    if model is not None and model.trial == TrialState.FELL_BACK:
        return Outcome(host, model.trial, model.trial_about, ModelError.exit_code)
    if model is None or not model.current:
        return Outcome(host, _REPLACED, "other models were activated there meanwhile", ModelError.exit_code)
    if not model.knows_trials:
        return Outcome(host, _INSTALLED, "this version of avdrift does not support trials")
    if model.trial == TrialState.WAITING and passed_s > _START_S:
        return Outcome(host, _INSTALLED, "avdrift is not running there: the trial begins at its next start")
    return None
