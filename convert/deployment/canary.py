"""`deploy --canary N`: new models on N devices first, and on the others only once all N have passed their trials.

If one has not passed, all devices that took the models go back to the previous ones, and no other device is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from convert.deployment.deploy import INSTALLING, Job, Outcome, deploy
from convert.deployment.remote import Access, Remote
from device.bundles.trial import TrialState
from device.errors import AvdriftError, ModelError, UsageError

BACK, UNTOUCHED = "rolled back", "untouched"
Progress = Callable[[str, str], None]
Deploy = Callable[[Sequence[str], Job, Access, Progress], list[Outcome]]


def deploy_by_canary(
    hosts: Sequence[str], count: int, job: Job, access: Access, report: Progress, deploy_to: Deploy = deploy
) -> list[Outcome]:
    """The outcome of each host, in order. Raises UsageError if there is no verdict to wait for."""
    if not 0 < count < len(hosts):
        fewer = "Leave it out" if len(hosts) == 1 else f"Give 1 to {len(hosts) - 1}" if len(hosts) > 2 else "Give 1"
        what = f"{count} of {len(hosts)} host{'s' * (len(hosts) > 1)}, which leaves none for later"
        raise UsageError(what, where="--canary", remedy=f"{fewer}, or name more hosts")
    if not job.timeout_s:
        raise UsageError("leaves no time for the trials", where="--timeout 0", remedy="Give a longer --timeout")
    touched = set[str]()

    def noted(host: str, words: str) -> None:
        if words == INSTALLING:
            touched.add(host)
        report(host, words)

    first = deploy_to(hosts[:count], job, access, noted)
    if job.dry_run or all(each.result == TrialState.PASSED for each in first):
        return [*first, *deploy_to(hosts[count:], job, access, report)]
    ended = [_back(each, job, access, report) if each.host in touched else each for each in first]
    failed = ", ".join(each.host for each in first if each.result != TrialState.PASSED)
    about = f"not started: {failed} did not pass the trial"
    return [*ended, *(Outcome(host, UNTOUCHED, about, ModelError.exit_code) for host in hosts[count:])]


def _back(outcome: Outcome, job: Job, access: Access, report: Progress) -> Outcome:
    """Roll a device back to the previous models if it still uses the new ones."""
    try:
        remote = Remote(outcome.host, access)
        current = next((entry for entry in remote.avdrift("model", "list", "--json") if entry.get("current")), {})
        if current.get("digest") != job.bundle.digest:
            return outcome
        report(outcome.host, "rolling back to the previous models")
        remote.avdrift("model", "rollback", "--json")
    except AvdriftError as error:
        return replace(outcome, about=f"{outcome.about}; and cannot be rolled back: {error}", exit_code=error.exit_code)
    return Outcome(outcome.host, BACK, f"{outcome.result}: {outcome.about}", ModelError.exit_code)
