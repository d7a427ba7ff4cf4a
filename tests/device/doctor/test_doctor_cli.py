"""`avdrift doctor` on simulated computers: every check, exit codes, JSON, no traceback."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from device.cli import main
from device.doctor.cli import all_checks, doctor_command
from device.doctor.finding import Level
from tests.device.doctor.hosts import PC, PI_4, PI_5_WEAK, host

pytest.importorskip("device.capture.cameras.discovery")
pytest.importorskip("device.capture.microphones.sound_cards")

NAMES = [
    "config", "software", "state folder", "memory", "power", "throttling", "temperature", "clock source", "wall clock",
    "permissions", "camera", "microphone", "protocols", "bundle", "face model", "speed", "broker", "service",
]  # fmt: skip


def asked(tmp_path: Path, files: dict[str, str], *, config: Path | None = None, **answers: str) -> dict[str, Any]:
    options = argparse.Namespace(config=config, user=None, store=tmp_path / "state", json=True)
    return {"code": doctor_command(options, host(tmp_path / "root", files, answers))}


def found_in(text: str) -> dict[str, dict[str, str]]:
    told = json.loads(text)
    assert set(told) == {"level", "exit_code", "checks"}
    for each in told["checks"]:
        assert set(each) == {"check", "level", "found", "remedy"}
        assert each["found"] and (each["remedy"] or each["level"] == "ok")
    return {each["check"]: each for each in told["checks"]}


@pytest.mark.parametrize("files", [PI_4, PI_5_WEAK, PC, {}])
def test_every_check_answers_on_every_computer(
    tmp_path: Path, files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    code = asked(tmp_path, files)["code"]
    checks = found_in(text := capsys.readouterr().out)
    assert list(checks) == NAMES
    assert json.loads(text)["exit_code"] == code
    assert "itself failed" not in text
    assert {checks[name]["level"] for name in ("bundle", "face model", "state folder", "software", "config")} == {"ok"}
    assert checks["power"]["level"] == ("warning" if files is PI_5_WEAK else "ok")


def test_no_camera_is_exit_code_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(tmp_path, PI_4)["code"] == 3
    assert found_in(capsys.readouterr().out)["camera"]["level"] == "failed"


def test_a_wrong_configuration_comes_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "avdrift.toml"
    file.write_text("config_version = 1\n[camera]\nrate_hz = 5\n[microphone]\ndevise = 'x'\n")
    assert asked(tmp_path, PI_4, config=file)["code"] == 2
    config = found_in(capsys.readouterr().out)["config"]
    assert "rate_hz" in config["found"] and "1 more" in config["found"] and "check-config" in config["remedy"]


def test_a_broken_bundle_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "avdrift.toml"
    file.write_text("config_version = 1\n[model]\nbundle = 'nothing'\n")
    asked(tmp_path, PI_4, config=file)
    assert found_in(capsys.readouterr().out)["bundle"]["level"] == "failed"


def test_text_for_a_person(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = argparse.Namespace(config=None, user=None, store=tmp_path, json=False)
    doctor_command(options, host(tmp_path / "root", PI_5_WEAK))
    lines = capsys.readouterr().out.splitlines()
    assert [line[9:22].strip() for line in lines if not line.startswith(" ")] == NAMES
    assert any("-> Use the supply" in line for line in lines)


def test_the_real_computer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json", "--store", str(tmp_path)]) in (0, 2, 3)
    assert "itself failed" not in json.dumps(found_in(capsys.readouterr().out))


def test_names_are_unique(tmp_path: Path) -> None:
    from device.bundles.store import Store
    from device.config.settings import Config

    names = [check.name for check in all_checks(host(tmp_path, {}), Config(), [], None, Store(tmp_path))]
    assert names == NAMES and len(set(names)) == len(names)
    assert max(map(len, names)) < 14 and len(Level) == 3
