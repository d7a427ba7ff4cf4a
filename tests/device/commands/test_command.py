"""`avdrift command` through a real broker to a real sink: signed or not, answered, refused, unanswered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from device.cli import main
from device.errors import TransportError, UsageError
from device.records import Command
from device.telemetry.mqtt import request
from device.telemetry.mqtt.sink import MqttSink
from tests.brokers import FAST, NODE, Mosquitto, free_port, info, needs_mosquitto, report, settings

pytestmark = needs_mosquitto
SECRET = "0123456789abcdef0123456789abcdef\n"


class Stage:
    """A device on a broker, a configuration that leads to both, and what the device was asked for."""

    def __init__(self, folder: Path, broker: Mosquitto, secret: str | None) -> None:
        self.taken: list[Command] = []
        self.result: dict[str, object] = {"ok": True, "error": None, "bias_ms": 12.5}
        self.config = folder / "avdrift.toml"
        lines = ["config_version = 1", "[mqtt]", 'host = "127.0.0.1"', f"port = {broker.port}", f'node = "{NODE}"']
        given: dict[str, Any] = {}
        if secret is not None:
            (folder / "secret").write_text(secret)
            given = {"commands_secret_file": "secret"}
            lines += ['commands = "all"', 'commands_secret_file = "secret"']
        self.config.write_text("\n".join(lines) + "\n")
        self.sink = MqttSink(settings(broker.port, **given), report_every_s=1, folder=folder, backoff=FAST)
        self.sink.submit_to(self._carry_out)
        self.sink.info(info())
        self.sink.report(report())

    def _carry_out(self, command: Command) -> None:
        self.taken.append(command)
        command.reply(self.result)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as running:
        yield running


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return "".join(capsys.readouterr())


@pytest.mark.parametrize("secret", [None, SECRET])
def test_a_command_runs_and_its_result_is_printed(
    tmp_path: Path, broker: Mosquitto, secret: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = Stage(tmp_path, broker, secret)
    try:
        assert main(["command", "recalibrate", "--config", str(stage.config)]) == 0
        assert said(capsys) == "recalibrate: done\n  bias_ms: 12.5\n"
        assert main(["command", "set-profile", "--profile", "ebu-r37", "--config", str(stage.config), "--json"]) == 0
        assert json.loads(said(capsys))["ok"] is True
        assert [(command.verb.value, command.args) for command in stage.taken] == [
            ("recalibrate", {}), ("set-profile", {"profile": "ebu-r37"})
        ]  # fmt: skip
    finally:
        stage.sink.close()


def test_what_the_device_refuses_is_said_without_steering_the_terminal(
    tmp_path: Path, broker: Mosquitto, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = Stage(tmp_path, broker, SECRET)
    (tmp_path / "other").write_text("another secret, as long as that one")
    try:
        config = ["--config", str(stage.config)]
        other = ["--secret-file", str(tmp_path / "other")]
        assert main(["command", "recalibrate", *config, *other]) == UsageError.exit_code
        assert "signed with another secret" in said(capsys) and not stage.taken
        stage.result = {"ok": False, "error": "no \x1b[2J way"}
        assert main(["command", "recalibrate", *config]) == UsageError.exit_code
        assert r"no \x1b[2J way" in said(capsys)
    finally:
        stage.sink.close()


def test_nobody_there(
    tmp_path: Path, broker: Mosquitto, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request, "_CONNECT_TIMEOUT_S", 0.5)
    config = tmp_path / "avdrift.toml"
    for port, words in ((broker.port, f"knows no device {NODE}"), (free_port(), "Connection refused")):
        config.write_text(f'config_version = 1\n[mqtt]\nhost = "127.0.0.1"\nport = {port}\n')
        asked = ["command", "diagnostics", "--node", NODE, "--config", str(config)]
        assert main(asked) == TransportError.exit_code
        assert words in said(capsys)


def test_no_broker_is_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "avdrift.toml").write_text("config_version = 1\n")
    assert main(["command", "diagnostics", "--config", str(tmp_path / "avdrift.toml")]) == UsageError.exit_code
    assert "Give --host" in said(capsys)
