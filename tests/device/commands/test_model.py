"""`avdrift model` in this process, and which models the measuring commands use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from device.bundles.bundle import DEFAULT_BUNDLE, load_bundle
from device.bundles.model_kinds import LIPS
from device.bundles.store import CURRENT, PREVIOUS, Store
from device.cli import main
from device.commands.options.models import STATE_VARIABLE, chosen_bundle, default_store
from device.errors import ModelStoreError
from device.records import State
from tests.models.stores import make_key, needs_ssh_keygen, signed, trust, versioned
from tests.models.trials import Device
from tests.scenes import talking

Shown = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unsigned bundles 1 and 2."""
    folder = tmp_path_factory.mktemp("made")
    for version in "12":
        versioned(folder / version, version)
    return folder


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store, given as systemd does."""
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "state"))
    return tmp_path / "state"


def model(*arguments: object) -> int:
    return main(["model", *map(str, arguments)])


def result(capsys: Shown) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def install(bundle: Path) -> None:
    assert model("install", bundle, "--allow-unsigned", "--activate") == 0


def refused(capsys: Shown, *arguments: object) -> str:
    """The one message of a command that fails as a model error."""
    assert model(*arguments) == 4
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("avdrift: ") and shown.err.count("\n") == 1
    return shown.err


def test_from_install_to_rollback_in_json(state: Path, made: Path, capsys: Shown) -> None:
    one, two = (load_bundle(made / version).digest for version in "12")
    assert model("install", made / "1", "--allow-unsigned", "--json") == 0
    assert result(capsys) == [{"digest": one, "name": "tiny", "version": "1", CURRENT: None, PREVIOUS: None}]
    assert model("activate", one[:8], "--json") == 0
    assert result(capsys)[0][CURRENT] == one
    assert model("install", made / "2", "--allow-unsigned", "--activate", "--json") == 0
    assert result(capsys) == [{"digest": two, "name": "tiny", "version": "2", CURRENT: two, PREVIOUS: one}]
    assert model("list", "--json") == 0
    listed = {entry["digest"]: entry for entry in result(capsys)}
    keys = ["digest", "name", "version", "signed", "current", "previous", "problem", "trial", "trial_about", "built_in"]
    built_in = load_bundle(DEFAULT_BUNDLE).digest
    assert set(listed) == {one, two, built_in} and list(listed[one]) == keys
    assert listed[built_in]["built_in"] and not listed[built_in]["current"] and not listed[one]["built_in"]
    assert listed[two]["current"] and listed[one]["previous"] and not listed[two]["signed"]
    assert model("rollback", "--json") == 0
    assert result(capsys) == [{"digest": one, "name": "tiny", "version": "1", CURRENT: one, PREVIOUS: two}]
    assert model("verify", "--json") == 0
    (verified,) = result(capsys)
    assert verified["digest"] == one and verified["signed"] is False


def test_what_is_in_use_is_listed_though_nothing_is_installed(state: Path, made: Path, capsys: Shown) -> None:
    label = f"{load_bundle(DEFAULT_BUNDLE).name} {load_bundle(DEFAULT_BUNDLE).version}"
    assert model("list") == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.split()[1:4] == ["current", "built", "in"] and line.endswith(label)
    install(made / "1")
    (state / "models" / load_bundle(made / "1").digest / LIPS).unlink()
    capsys.readouterr()
    assert model("list", "--json") == 0
    assert [entry["current"] for entry in result(capsys)] == [True, True], "broken models are not measured with"


def test_for_people(state: Path, made: Path, capsys: Shown) -> None:
    install(made / "1")
    install(made / "2")
    (state / "models" / load_bundle(made / "1").digest / LIPS).unlink()
    assert model("list") == 0 and model("verify") == 0
    shown = capsys.readouterr().out
    assert "{" not in shown and "tiny 2" in shown and "current" in shown and "broken: " in shown
    assert "installed and in use" in shown and "all checks passed, unsigned" in shown


def test_the_store_option_comes_first(state: Path, made: Path, tmp_path: Path, capsys: Shown) -> None:
    assert model("install", made / "1", "--allow-unsigned", "--activate", "--store", tmp_path / "other") == 0
    assert not state.exists() and Store(tmp_path / "other").load_current() is not None


@pytest.mark.parametrize(
    "arguments", [[], ["fly"], ["install"], ["activate"], ["rollback", "x"], ["list", "--activate"]]
)
def test_what_cannot_be_understood(arguments: list[str], capsys: Shown) -> None:
    with pytest.raises(SystemExit) as ended:
        model(*arguments)
    assert ended.value.code == 2 and "usage: avdrift" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["verify"], "no models are installed"),
        (["rollback"], "no earlier models"),
        (["activate", "123456"], "avdrift model list"),
        (["install", "{made}/none"], "no bundle here"),
        (["install", "{made}/1"], "not signed"),
        (["verify", "{made}/1"], "--allow-unsigned"),
    ],
)
def test_each_failure_is_a_model_error(
    arguments: list[str], words: str, state: Path, made: Path, capsys: Shown
) -> None:
    assert words in refused(capsys, *(argument.format(made=made) for argument in arguments))


def test_a_downgrade_needs_its_option(state: Path, made: Path, capsys: Shown) -> None:
    install(made / "2")
    capsys.readouterr()
    command = ["install", made / "1", "--allow-unsigned", "--activate"]
    assert "--allow-downgrade" in refused(capsys, *command)
    assert model(*command, "--allow-downgrade") == 0
    assert model("verify", made / "1", "--allow-unsigned") == 0


@needs_ssh_keygen
def test_a_signed_bundle_needs_no_option(state: Path, tmp_path: Path, capsys: Shown) -> None:
    bundle = signed(versioned(tmp_path / "3", "3"), make_key(tmp_path / "mine"))
    assert "no key is trusted" in refused(capsys, "install", bundle)
    trust(state, make_key(tmp_path / "other"))
    assert "does not allow" in refused(capsys, "install", bundle, "--allow-unsigned")
    trust(state, tmp_path / "mine")
    assert model("verify", bundle) == 0 and model("install", bundle, "--activate") == 0 and model("verify") == 0
    assert capsys.readouterr().out.count("all checks passed, signed") == 2


def test_the_trials_verdict_is_shown(state: Path, made: Path, capsys: Shown) -> None:
    install(made / "1")
    capsys.readouterr()
    assert model("list") == model("verify") == 0
    assert capsys.readouterr().out.count("waiting: avdrift does not run") == 2
    device = Device(state)
    device.measure(times=2)
    assert model("verify", "--json") == 0
    assert result(capsys)[0]["trial"] == "on trial"
    device.measure()
    assert model("list", "--json") == model("verify", "--json") == 0
    trials = [(each["trial"], each["trial_about"]) for each in result(capsys) if not each.get("built_in")]
    assert len(trials) == 2 and set(trials) == {("passed", "3 valid reports")}
    install(made / "2")
    device.measure(State.STALLED, 3, fault="model_failed")
    capsys.readouterr()
    assert model("list") == 0
    one, two = (load_bundle(made / version).digest[:12] for version in "12")
    shown = {line[:12]: line for line in capsys.readouterr().out.splitlines()}
    assert shown[one].endswith("tiny 1  (passed: 3 valid reports)") and "current" in shown[one]
    assert "(fell back: they fail on what comes" in shown[two] and "current" not in shown[two]
    device.end()


# Which models are measured with


def test_the_current_models_are_measured_with(state: Path, made: Path, capfd: Shown) -> None:
    install(made / "1")
    capfd.readouterr()
    assert main(["replay", str(talking()), "--json", "--window", "2"]) == 0
    shown = capfd.readouterr()
    assert {json.loads(line)["model"] for line in shown.out.splitlines()} == {load_bundle(made / "1").label}
    assert "built-in" not in shown.err


def test_without_a_store_the_built_in_ones_are_taken_silently(state: Path, capsys: Shown) -> None:
    assert chosen_bundle(None, None).digest == load_bundle(DEFAULT_BUNDLE).digest
    assert capsys.readouterr().err == "" and not state.exists()


def test_a_given_bundle_goes_before_the_current_one(state: Path, made: Path) -> None:
    install(made / "1")
    assert chosen_bundle(made / "2", None).version == "2"
    assert chosen_bundle(None, None).version == "1"


def test_a_broken_current_is_reported_and_the_built_in_ones_are_taken(state: Path, made: Path, capsys: Shown) -> None:
    install(made / "1")
    (state / "models" / load_bundle(made / "1").digest / LIPS).write_bytes(b"")
    capsys.readouterr()
    assert main(["measure", str(talking()), "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["file"] == str(talking())
    assert LIPS in shown.err and "SHA-256 differs" in shown.err
    assert f"built-in models instead: {load_bundle(DEFAULT_BUNDLE).label}" in shown.err


def test_where_the_store_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STATE_VARIABLE, "/var/lib/avdrift:/var/lib/other")
    assert default_store() == Path("/var/lib/avdrift")
    monkeypatch.setenv(STATE_VARIABLE, "")
    monkeypatch.setenv("HOME", "/home/pi")
    assert default_store() == Path("/home/pi/.local/state/avdrift")


def test_a_user_without_a_home_still_measures(monkeypatch: pytest.MonkeyPatch, capsys: Shown) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv(STATE_VARIABLE, raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    with pytest.raises(ModelStoreError, match="Give --store"):
        default_store()
    assert chosen_bundle(None, None).digest == load_bundle(DEFAULT_BUNDLE).digest
    assert "no home folder" in capsys.readouterr().err
