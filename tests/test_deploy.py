"""`avdrift-convert deploy` to devices that are reached by sshd on loopback, with stores and a daemon of their own."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from convert.cli import main
from convert.deployment import deploy as deploying
from convert.deployment.remote import Access, remote_model
from device.bundles.bundle import DEFAULT_BUNDLE, load_bundle
from device.bundles.rollout import Models
from device.bundles.store import CURRENT
from device.bundles.trial import Trial, TrialState
from device.bundles.trial_file import TrialFile
from device.commands.guard import INTERRUPTED
from tests.models.bundles import change_manifest
from tests.models.stores import current_version, make_key, needs_ssh_keygen, signed, small_disk, trust, versioned
from tests.models.trials import Device
from tests.scenes import ROOT, looped, overconfident_bundle
from tests.ssh_devices import Site, SshDevice, cut_after, free_port, needs_sshd

pytestmark = [needs_sshd, needs_ssh_keygen]
Shown = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def signing_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_key(tmp_path_factory.mktemp("keys") / "avdrift")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, signing_key: Path) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    for version in ("1", "2"):
        signed(versioned(folder / version, version), signing_key)
    for version, source in (("3", overconfident_bundle()), ("4", DEFAULT_BUNDLE)):
        shutil.copytree(source, folder / version)
        (folder / version / "manifest.json.sig").unlink(missing_ok=True)
        change_manifest(folder / version, partial(dict.update, version=version))
        signed(folder / version, signing_key)
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("site"))
    yield site
    site.close()


@pytest.fixture(scope="module")
def built(site: Site) -> SshDevice:
    return site.device("pi")


@pytest.fixture
def pi(built: SshDevice, made: Path, signing_key: Path) -> SshDevice:
    """A device that trusts us and measures with version 1, which has passed."""
    shutil.rmtree(built.folder / "state")
    (built.folder / "state").mkdir()
    trust(built.folder / "state", signing_key)
    built.store.activate(built.store.install(made / "1").digest)
    device = Device(built.folder / "state")
    device.measure(times=3)
    device.end()
    return built


def deploy(site: Site, *arguments: object) -> int:
    return main(["deploy", "--ssh-config", str(site.config), *map(str, arguments)])


def outcomes(capsys: Shown) -> dict[str, dict[str, Any]]:
    return {line["host"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}


def untouched(pi: SshDevice) -> None:
    """It still measures with the old models, and nothing was left there."""
    assert current_version(pi.folder / "state") == "1" and pi.temporary == []
    models = Models(pi.store)
    assert models.first().version == "1"
    models.__exit__(None, None, None)


# What goes well


def test_a_dry_run_reaches_and_changes_nothing(site: Site, pi: SshDevice, made: Path, capsys: Shown) -> None:
    before = sorted(path.name for path in (pi.folder / "state" / "models").iterdir())
    assert deploy(site, "pi", "--bundle", made / "2", "--dry-run") == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("pi  would install  tiny 2 ") and ", replacing tiny 1 " in shown.out
    assert shown.err == "pi: connecting\n"
    untouched(pi)
    assert sorted(path.name for path in (pi.folder / "state" / "models").iterdir()) == before


def test_installed_in_use_and_nobody_waits(site: Site, pi: SshDevice, made: Path, capsys: Shown) -> None:
    command = ["pi", "--bundle", made / "2", "--timeout", "0", "--json", "--key", site.key]
    assert deploy(site, *command) == 0
    shown = capsys.readouterr()
    assert [line for line in shown.err.splitlines() if line] == ["pi: connecting", "pi: copying", "pi: installing"]
    assert json.loads(shown.out)["result"] == "installed" and "before: tiny 1" in json.loads(shown.out)["about"]
    assert current_version(pi.folder / "state") == "2" and pi.temporary == []
    assert deploy(site, *command) == 0, "and once more"


def test_where_no_daemon_runs_that_is_said(
    site: Site, pi: SshDevice, made: Path, capsys: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploying, "_START_S", 0.0)
    monkeypatch.setattr(deploying, "_POLL_S", 0.1)
    assert deploy(site, "pi", "--bundle", made / "2", "--json") == 0
    assert "is not running there" in outcomes(capsys)["pi"]["about"]
    assert current_version(pi.folder / "state") == "2"


def test_an_interrupt_ends_the_waiting(site: Site, pi: SshDevice, made: Path) -> None:
    command = [sys.executable, "-m", "convert.cli", "deploy", "pi", "--ssh-config", str(site.config)]
    command += ["--bundle", str(made / "2")]

    def heard() -> None:  # a shell's background jobs ignore it, and so would this one
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, preexec_fn=heard) as waiting:
        assert waiting.stderr is not None
        for line in waiting.stderr:
            if "waiting" in line:
                break
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(60) == INTERRUPTED
    assert current_version(pi.folder / "state") == "2" and pi.temporary == []


TRIAL = "[model]\ntrial_reports = 3\ntrial_speech_min = 0.1\n[measure]\nwindow_s = 1\nreport_every_s = 0.5\n"


@pytest.mark.slow
def test_a_daemon_takes_them_over_and_they_pass_or_go(
    site: Site, pi: SshDevice, made: Path, capsys: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploying, "_POLL_S", 1.0)
    with pi.measuring(looped(20), TRIAL) as daemon:
        assert deploy(site, "pi", "--bundle", made / "3", "--json", "--timeout", "120") == 0
        shown = capsys.readouterr()
        found = json.loads(shown.out)
        assert (found["result"], found["about"]) == ("passed", "3 valid reports") and "pi: on trial" in shown.err
        (old := pi.store.linked(CURRENT))
        # These never believe what they see.
        assert deploy(site, "pi", "--bundle", made / "2", "--json", "--allow-downgrade", "--timeout", "120") == 4
        found = outcomes(capsys)["pi"]
        assert found["result"] == "fell back" and "minutes of speech" in found["about"]
        assert daemon.poll() is None and pi.store.linked(CURRENT) == old
        await_(lambda: measured_with(pi)[-1:] == ["3"])
    log = (pi.folder / "log").read_text()
    assert log.count("on trial") == 2 and "have passed their trial" in log and "Back from the new models" in log
    assert measured_with(pi)[-3:] == ["3", "2", "3"]


def measured_with(pi: SshDevice) -> list[str]:
    """The versions in its daemon's reports, in order, without repeats in a row."""
    lines = (pi.folder / "log").read_text().splitlines(keepends=True)
    labels = [json.loads(line)["model"] for line in lines if line[:1] == "{" and line[-1:] == "\n"]
    return [version for version, _ in groupby(label.split()[1] for label in labels)]


@pytest.mark.slow
def test_a_daemon_that_is_killed_in_every_trial_comes_back_with_the_old_models(pi: SshDevice, made: Path) -> None:
    old, new = pi.store.linked(CURRENT), pi.store.install(made / "2").digest
    pi.store.activate(new)
    for deaths in range(3):
        with pytest.raises(AssertionError), pi.measuring(looped(20)) as daemon:
            await_(partial(running_after, pi, new, deaths))
            daemon.kill()
    assert pi.store.linked(CURRENT) == new
    with pi.measuring(looped(20)):
        await_(lambda: "died 3 times" in (pi.folder / "log").read_text())
        assert pi.store.linked(CURRENT) == old
    found = tried(pi, new)
    assert found is not None and found.standing is TrialState.FELL_BACK


def tried(pi: SshDevice, digest: str) -> Trial | None:
    return TrialFile(pi.folder / "state").read().get(digest)


def running_after(pi: SshDevice, digest: str, deaths: int) -> bool:
    trial = tried(pi, digest)
    return trial is not None and trial.running and trial.deaths == deaths


def await_(done: Callable[[], bool], within_s: float = 60) -> None:
    end_s = time.monotonic() + within_s
    while not done():
        assert time.monotonic() < end_s, "it takes too long"
        time.sleep(0.1)


def test_the_models_of_the_service_are_its_users_business(site: Site, pi: SshDevice, made: Path, capsys: Shown) -> None:
    sudo = pi.folder / "bin" / "sudo"
    sudo.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >> {pi.folder / "asked"}\nshift 3\nexec "$@"\n')
    sudo.chmod(0o755)
    assert deploy(site, "pi", "--bundle", made / "2", "--service", "--timeout", "0") == 0
    asked = (pi.folder / "asked").read_text().splitlines()
    assert len(asked) == 2, "once to look, once to install; only avdrift is run by another user"
    assert all(line.startswith("-n -u avdrift env STATE_DIRECTORY=/var/lib/avdrift avdrift model ") for line in asked)
    assert current_version(pi.folder / "state") == "2"


@pytest.mark.slow
def test_two_devices_one_of_which_does_not_trust_us(
    site: Site, pi: SshDevice, made: Path, tmp_path: Path, capsys: Shown
) -> None:
    other = site.device("attic")
    trust(other.folder / "state", make_key(tmp_path / "another"))
    (tmp_path / "hosts").write_text("# the house\npi\n\nattic  # up there\n")
    command = ["--inventory", tmp_path / "hosts", "--bundle", made / "2", "--timeout", "0"]
    assert deploy(site, *command) == 4
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("pi     installed") and lines[1].startswith("attic  failed") and "allow" in lines[1]
    assert current_version(pi.folder / "state") == "2" and other.store.linked(CURRENT) is None
    assert pi.temporary == other.temporary == []


# What does not


def test_a_device_that_is_not_there(site: Site, made: Path, pi: SshDevice, capsys: Shown) -> None:
    site.reach("gone", free_port())
    assert deploy(site, "gone", "--bundle", made / "2", "--json") == 5
    about = outcomes(capsys)["gone"]["about"]
    assert "Connection refused" in about and "ssh gone" in about


def test_a_key_that_the_device_does_not_know(
    site: Site, pi: SshDevice, made: Path, tmp_path: Path, capsys: Shown
) -> None:
    site.reach("stranger", port_of(pi), IdentityFile="none")
    key = make_key(tmp_path / "mine")
    assert deploy(site, "stranger", "--bundle", made / "2", "--json", "--key", key) == 5
    assert "Permission denied" in outcomes(capsys)["stranger"]["about"]
    untouched(pi)


def test_a_host_key_that_has_changed_is_never_overlooked(site: Site, pi: SshDevice, made: Path, capsys: Shown) -> None:
    false = site.folder / "false_hosts"
    false.write_text(f"[127.0.0.1]:{port_of(pi)} {site.key.with_suffix('.pub').read_text()}")
    site.reach("false", port_of(pi), UserKnownHostsFile=f'"{false}"')
    assert deploy(site, "false", "--bundle", made / "2", "--json") == 5
    assert "Host key verification failed" in outcomes(capsys)["false"]["about"]
    untouched(pi)


def test_an_older_version_is_refused_there(site: Site, pi: SshDevice, made: Path, capsys: Shown) -> None:
    pi.store.activate(pi.store.install(made / "2").digest)
    assert deploy(site, "pi", "--bundle", made / "1", "--json") == 4
    found = outcomes(capsys)["pi"]
    assert "version 1 is lower than 2" in found["about"] and found["result"] == "failed"
    assert current_version(pi.folder / "state") == "2" and pi.temporary == []


def test_a_wrong_signature_is_refused_there(
    site: Site, pi: SshDevice, made: Path, tmp_path: Path, capsys: Shown
) -> None:
    bundle = signed(Path(shutil.copytree(made / "2", tmp_path / "2")), make_key(tmp_path / "other"))
    assert deploy(site, "pi", "--bundle", bundle, "--json") == 4
    assert "does not allow" in outcomes(capsys)["pi"]["about"]
    untouched(pi)


def test_a_bundle_that_is_broken_here_goes_nowhere(site: Site, made: Path, tmp_path: Path, capsys: Shown) -> None:
    bundle = Path(shutil.copytree(made / "2", tmp_path / "2"))
    (bundle / "manifest.json.sig").unlink()
    assert deploy(site, "nobody", "--bundle", bundle) == 4
    (bundle / "lips.tflite").write_bytes(b"")
    assert deploy(site, "nobody", "--bundle", bundle, "--allow-unsigned") == 4
    shown = capsys.readouterr()
    assert "not signed" in shown.err and "SHA-256" in shown.err and "connecting" not in shown.err


def test_a_connection_that_is_cut_while_the_bundle_is_copied(
    site: Site, pi: SshDevice, made: Path, capsys: Shown
) -> None:
    size = sum(path.stat().st_size for path in (made / "4").iterdir())
    with cut_after(port_of(pi), size // 2) as port:
        site.reach("far", port)
        assert deploy(site, "far", "--bundle", made / "4", "--json") == 5
    assert "cannot be copied" in outcomes(capsys)["far"]["about"]
    untouched(pi)


def test_a_device_without_avdrift(site: Site, pi: SshDevice, made: Path, capsys: Shown) -> None:
    assert deploy(site, "pi", "--bundle", made / "2", "--json", "--remote", "no-such-program --loud") == 5
    assert "--remote" in outcomes(capsys)["pi"]["about"]
    assert deploy(site, "pi", "--bundle", made / "2", "--json", "--remote", "false") == 5
    untouched(pi)


def test_what_is_given_to_the_shell_there_is_quoted(site: Site, pi: SshDevice, made: Path, tmp_path: Path) -> None:
    evil = f"avdrift'; touch {tmp_path / 'evil'}; '"
    with pytest.raises(SystemExit):
        deploy(site, "pi", "--bundle", made / "2", "--remote", "it's")
    assert deploying.deploy(["pi"], plan(made / "2"), access(site, evil), lambda *_: None)[0].exit_code == 5
    assert not (tmp_path / "evil").exists()


WHOLE = {"digest": "ab" * 32, "name": "tiny", "version": "2", "current": True, "trial": None}
ODD = {
    "a record without a name": json.dumps({key: value for key, value in WHOLE.items() if key != "name"}),
    "null": "null",
    "null inside": json.dumps(WHOLE | {"current": None}),
    "another digest": json.dumps(WHOLE | {"digest": "../../etc"}),
    "deep nesting": '{"digest": ' + "[" * 100_000,
    "deep nesting that ends": '{"digest": ' + "[" * 20_000 + "]" * 20_000 + "}",
    "a number of 5000 digits": '{"digest": ' + "9" * 5000 + "}",
    "orders to the terminal": json.dumps(WHOLE | {"name": "\x1b[2J\n", "trial": "passed", "trial_about": "\x9b31m"}),
}


@pytest.fixture(scope="module")
def odd(site: Site) -> SshDevice:
    return site.device("odd")


def answering(device: SshDevice, script: str) -> None:
    """In place of avdrift there."""
    (device.folder / "bin" / "avdrift").write_text(f"#!/bin/sh\n{script}\n")


@pytest.mark.parametrize("answer", ODD)
def test_one_odd_device_has_its_own_row_and_the_others_theirs(
    answer: str, site: Site, pi: SshDevice, odd: SshDevice, made: Path, capsys: Shown
) -> None:
    (odd.folder / "answer").write_text(ODD[answer] + "\n")
    answering(odd, f"cat {odd.folder / 'answer'}")
    job = ["pi", "odd", "--bundle", made / "2", "--dry-run"]
    deploy(site, *job)
    shown = capsys.readouterr()
    rows = [line.split()[0] for line in shown.out.splitlines()]
    assert rows == ["pi", "odd"] and "would install  tiny 2 " in shown.out.splitlines()[0]
    assert all(c.isprintable() or c == "\n" for c in shown.out + shown.err)


def test_a_device_that_prints_without_end_takes_no_memory(
    site: Site, pi: SshDevice, odd: SshDevice, made: Path, capsys: Shown
) -> None:
    answering(odd, "yes | head -c 300000000")
    assert deploy(site, "odd", "pi", "--bundle", made / "2", "--dry-run", "--json") == 5
    rows = outcomes(capsys)
    assert rows["pi"]["result"] == "would install" and "more than 1048576 bytes" in rows["odd"]["about"]


@pytest.fixture
def full_disk(pi: SshDevice) -> Iterator[Path]:
    """The device's state on a disk of its own, with room for the old models and little more."""
    state, aside = pi.folder / "state", pi.folder / "aside"
    state.rename(aside)
    try:
        with small_disk(state, "1m"):
            shutil.copytree(aside, state, symlinks=True, dirs_exist_ok=True)
            yield state
    finally:
        state.rmdir()
        aside.rename(state)


def test_a_full_disk_there(site: Site, pi: SshDevice, made: Path, full_disk: Path, capsys: Shown) -> None:
    assert deploy(site, "pi", "--bundle", made / "4", "--json") == 4
    assert "No space left" in outcomes(capsys)["pi"]["about"]
    untouched(pi)


# What is no host


@pytest.mark.parametrize(
    "host", ["-oProxyCommand=touch evil", "--", "a b", "a;b", "$(b)", "a:b", "a/b", "user@-a", "@a", "a@", "ö", "a\nb"]
)
def test_what_is_no_host(host: str, made: Path, tmp_path: Path, capsys: Shown) -> None:
    (tmp_path / "hosts").write_text(f"{host}\n".replace("\n", " ", host.count("\n")))
    assert main(["deploy", "--bundle", str(made / "2"), "--inventory", str(tmp_path / "hosts")]) == 2
    assert "not a host" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--key", "--ssh-config"])
def test_a_file_for_ssh_that_is_not_there(option: str, made: Path, tmp_path: Path, capsys: Shown) -> None:
    """By itself, ssh only warns of a missing key, and tries others."""
    assert main(["deploy", "pi", "--bundle", str(made / "2"), option, str(tmp_path / "nothing")]) == 2
    assert f"{option} {tmp_path}/nothing: no such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--canary", "some", "'some' is not a whole number above 0"),
        ("--canary", "0", "'0' is not a whole number above 0"),
        ("--timeout", "soon", "'soon' is not a number from 0 to 1000000"),
        ("--timeout", "nan", "'nan' is not a number"),
    ],
)
def test_what_is_no_number(option: str, value: str, words: str, capsys: Shown) -> None:
    with pytest.raises(SystemExit):
        main(["deploy", "pi", "--bundle", "b", option, value])
    assert f"argument {option}: {words}" in capsys.readouterr().err


def test_no_host_and_no_inventory(made: Path, tmp_path: Path, capsys: Shown) -> None:
    assert main(["deploy", "--bundle", str(made / "2")]) == 2
    assert main(["deploy", "--bundle", str(made / "2"), "--inventory", str(tmp_path / "none")]) == 2
    (tmp_path / "bytes").write_bytes(b"\xff")
    assert main(["deploy", "--bundle", str(made / "2"), "--inventory", str(tmp_path / "bytes")]) == 2
    shown = capsys.readouterr().err
    assert "no host is given" in shown and "cannot be read" in shown


# The verdict, as the device tells it


@pytest.mark.parametrize(
    ("entry", "passed_s", "result", "code"),
    [
        ({"current": True, "trial": "passed", "trial_about": "20 valid reports"}, 1, "passed", 0),
        ({"current": False, "trial": "fell back", "trial_about": "it died"}, 1, "fell back", 4),
        ({"current": False, "trial": None}, 1, "replaced", 4),
        ({}, 1, "replaced", 4),
        ({"current": True}, 1, "installed", 0),
        ({"current": True, "trial": "waiting"}, 30, "installed", 0),
        ({"current": True, "trial": "waiting"}, 1, None, 0),
        ({"current": True, "trial": "on trial"}, 1e6, None, 0),
    ],
)
def test_verdicts(entry: dict[str, Any], passed_s: float, result: str | None, code: int) -> None:
    whole = {"digest": "ab" * 32, "name": "tiny", "version": "2", **entry}
    found = deploying._outcome("pi", remote_model(whole) if entry else None, passed_s)
    assert (found.result, found.exit_code) == (result, code) if found else result is None


def plan(folder: Path) -> deploying.Job:
    return replace(deploying.plan(folder), timeout_s=0)


def access(site: Site, *command: str) -> Access:
    return Access(command, None, site.config)


def port_of(device: SshDevice) -> int:
    return int((device.folder / "sshd_config").read_text().split()[1])


def test_the_sample_bundle_is_whole(made: Path) -> None:
    assert load_bundle(made / "4").version == "4"
