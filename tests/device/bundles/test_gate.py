"""The gate of a bundle: models that have not passed reach no device without consent."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from convert.cli import main as convert
from convert.deployment.deploy import plan
from device.bundles.bundle import DEFAULT_BUNDLE, load_bundle
from device.bundles.gate import gate_problem
from device.bundles.store import Store
from device.cli import main
from device.errors import ModelGateError
from device.features.model_download import face_model_path
from tests.models.bundles import change_manifest
from tests.models.stores import make_key, needs_ssh_keygen, trust, versioned

SENTENCE = "Worse: right 12.0% instead of 93.0% at 1 s."
GATES: dict[str, Callable[[dict[str, Any]], object]] = {
    "worse": lambda manifest: manifest.update(gate={"passed": False, "sentence": SENTENCE}),
    "none": lambda manifest: manifest.pop("gate"),
    "not one": lambda manifest: manifest.update(gate=[True]),
    "nearly": lambda manifest: manifest.update(gate={"passed": "yes", "accepted": 1, "sentence": 3}),
}


@pytest.fixture(params=list(GATES))
def junk(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    folder = versioned(tmp_path / "bundle", "9")
    change_manifest(folder, GATES[request.param])  # type: ignore[arg-type]
    return folder


def test_a_bundle_that_has_not_passed_is_not_installed_without_the_option(
    junk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["model", "install", str(junk), "--activate", "--allow-unsigned", "--store", str(tmp_path / "store")]
    assert main(command) == 4
    assert "the models before it" in capsys.readouterr().err and Store(tmp_path / "store").load_current() is None
    assert main(["model", "verify", str(junk), "--allow-unsigned", "--store", str(tmp_path / "store")]) == 4
    assert main([*command, "--accept-worse"]) == 0
    assert main(["model", "verify", "--store", str(tmp_path / "store")]) == 0, "what is in use was let in on purpose"
    assert load_bundle(junk).name == "tiny", "it can be tried on recordings"


@needs_ssh_keygen
def test_nobody_signs_or_deploys_it_and_who_does_answers_for_it(
    junk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = make_key(tmp_path / "key")
    assert convert(["sign", str(junk), "--key", str(key)]) == 4
    assert "--accept-worse" in capsys.readouterr().err and not (junk / "manifest.json.sig").exists()
    with pytest.raises(ModelGateError):
        plan(junk, allow_unsigned=True)
    assert plan(junk, allow_unsigned=True, accept_worse=True).options == ("--allow-unsigned", "--accept-worse")
    assert convert(["sign", str(junk), "--key", str(key), "--accept-worse"]) == 0
    trust(tmp_path / "store", key)
    assert main(["model", "install", str(junk), "--activate", "--store", str(tmp_path / "store")]) == 0
    assert plan(junk).options == ()


@pytest.mark.skipif(not face_model_path().is_file(), reason="the face detector's model is not here")
def test_it_is_not_run_live(junk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--bundle", str(junk), "--store", str(tmp_path / "store")]) == 4
    assert "--accept-worse" in capsys.readouterr().err


def test_bundles_from_before_there_was_a_gate_go_on_working(tmp_path: Path) -> None:
    assert gate_problem(load_bundle(DEFAULT_BUNDLE).manifest) is None
    folder = versioned(tmp_path / "bundle", "9")
    change_manifest(folder, partial(dict.update, format=1, gate=None))
    assert Store(tmp_path / "store").install(folder, allow_unsigned=True).name == "tiny"


def test_the_message_says_what_the_gate_said() -> None:
    assert SENTENCE.rstrip(".") in str(gate_problem({"format": 2, "gate": {"passed": False, "sentence": SENTENCE}}))
    assert len(str(gate_problem({"format": 2, "gate": {"sentence": "x" * 9999}}))) < 400
