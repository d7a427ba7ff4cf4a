"""convert/deployment/canary.py: the others get new models only once the first have passed; else the first go back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from convert.deployment.canary import BACK, UNTOUCHED, deploy_by_canary
from convert.deployment.deploy import INSTALLING, Job, Outcome
from convert.deployment.remote import Access
from device.bundles.bundle import load_bundle
from device.bundles.trial import TrialState
from device.errors import UsageError
from tests.models.bundles import write_bundle

HOSTS = ["a", "b", "c", "d"]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    folder = write_bundle(tmp_path / "bundle")
    return Job(folder, load_bundle(folder))


def ssh(folder: Path, digest: str) -> Access:
    """An avdrift whose current models are these; it writes down what it is told. In place of ssh, on the path."""
    script = folder / "ssh"
    script.write_text(
        f'#!/bin/sh\necho "$@" >> {folder}/told\n'
        f"""echo '{{"digest": "{digest}", "current": true, "name": "n", "version": "1"}}'\n"""
    )
    script.chmod(0o755)
    return Access()


class Fleet:
    """Deploys to nobody; each host comes out as it is told."""

    def __init__(self, unreachable: Sequence[str] = (), **results: str) -> None:
        self.results, self.unreachable, self.calls = results, unreachable, list[list[str]]()

    def __call__(
        self, hosts: Sequence[str], job: Job, access: Access, report: Callable[[str, str], None]
    ) -> list[Outcome]:
        self.calls.append(list(hosts))
        for host in hosts:
            report(host, "connecting" if host in self.unreachable else INSTALLING)
        results = [self.results.get(host, TrialState.PASSED.value) for host in hosts]
        codes = [0 if each == TrialState.PASSED else 4 for each in results]
        return [Outcome(host, each, "about", code) for host, each, code in zip(hosts, results, codes, strict=True)]


def test_the_others_follow_when_all_canaries_have_passed(job: Job) -> None:
    fleet = Fleet(c="failed")
    found = deploy_by_canary(HOSTS, 2, job, Access(), lambda *_: None, fleet)
    assert fleet.calls == [["a", "b"], ["c", "d"]] and [each.host for each in found] == HOSTS
    assert [each.exit_code for each in found] == [0, 0, 4, 0]


@pytest.mark.parametrize("result", [TrialState.FELL_BACK.value, TrialState.ON_TRIAL.value, "failed", "installed"])
def test_no_other_is_touched_when_one_has_not(
    result: str, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = ssh(tmp_path, job.bundle.digest)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    fleet = Fleet(b=result)
    found = deploy_by_canary(HOSTS, 2, job, access, lambda *_: None, fleet)
    assert fleet.calls == [["a", "b"]]
    assert [each.result for each in found] == [BACK, BACK, UNTOUCHED, UNTOUCHED]
    assert all(each.exit_code for each in found) and "b did not pass" in found[3].about
    assert (tmp_path / "told").read_text().count("model rollback") == 2


def test_a_device_that_uses_other_models_again_is_not_rolled_back(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = ssh(tmp_path, "0" * 64)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = deploy_by_canary(HOSTS, 1, job, access, lambda *_: None, Fleet(a=TrialState.FELL_BACK.value))
    assert found[0].result == TrialState.FELL_BACK and "rollback" not in (tmp_path / "told").read_text()


def test_a_host_that_was_never_reached_needs_no_rollback(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = ssh(tmp_path, job.bundle.digest)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = deploy_by_canary(HOSTS, 2, job, access, lambda *_: None, Fleet(unreachable=["a"], a="failed"))
    assert [each.result for each in found] == ["failed", BACK, UNTOUCHED, UNTOUCHED] and found[0].about == "about"
    assert (tmp_path / "told").read_text().count("model rollback") == 1


@pytest.mark.parametrize(
    ("hosts", "count", "remedy"),
    [(HOSTS, 0, "Give 1 to 3"), (HOSTS, 4, "Give 1 to 3"), (HOSTS[:2], 5, "Give 1, or"), (["a"], 1, "Leave it out")],
)
def test_some_are_canaries_and_some_are_not(hosts: list[str], count: int, remedy: str, job: Job) -> None:
    with pytest.raises(UsageError, match=rf"--canary: {count} of {len(hosts)} host.*{remedy}"):
        deploy_by_canary(hosts, count, job, Access(), lambda *_: None, Fleet())


def test_a_canary_needs_a_verdict(job: Job) -> None:
    with pytest.raises(UsageError, match="--timeout"):
        deploy_by_canary(HOSTS, 1, Job(job.folder, job.bundle, timeout_s=0), Access(), lambda *_: None, Fleet())
