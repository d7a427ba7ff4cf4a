"""`avdrift page`: the address with its token, opening it to the network, and error messages."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from device.cli import main
from device.page.network import open_s
from device.page.token import FILE, read_token
from tests.device.page.served import free_port


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., list[str]]:
    """Writes a configuration; the options that name it and a state folder."""

    def write(*lines: str) -> list[str]:
        file = tmp_path / "avdrift.toml"
        file.write_text("\n".join(["config_version = 1", "[page]", *lines]))
        return ["--config", str(file), "--store", str(tmp_path / "state")]

    return write


def test_the_address_has_the_token_and_is_this_computers(
    config: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as there:
        port = there.getsockname()[1]
        assert main(["page", *config(f"port = {port}")]) == 0
    token = read_token(tmp_path / "state" / FILE)
    address, hint = capsys.readouterr().out.splitlines()
    assert address == f"http://127.0.0.1:{port}/#{token}" and "avdrift page --for 1h" in hint
    assert open_s(tmp_path / "state") == 0


def test_it_opens_to_the_network_for_a_while_and_shows_a_code(
    config: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("", 0)) as there:
        options = config(f"port = {there.getsockname()[1]}")
        assert main(["page", *options, "--for", "1h"]) == 0
        assert 3590 < open_s(tmp_path / "state") <= 3600
        out = capsys.readouterr().out
        assert "127.0.0.1" not in out and "▄" in out and "60 minutes" in out
        assert main(["page", *options, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["network"] and found["until_unix_ms"] and FILE not in found["address"]
        assert main(["page", *options, "--for", "0"]) == 0
    assert open_s(tmp_path / "state") == 0


@pytest.mark.parametrize("duration", ["1", "h", "-1h", "9s", "25h", "1h30m", "1e3s", ""])
def test_durations_that_are_none(
    config: Callable[..., list[str]], tmp_path: Path, duration: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["page", *config(), f"--for={duration}"]) == 2
    assert "--for" in capsys.readouterr().err and open_s(tmp_path / "state") == 0


def test_a_page_that_is_off_says_how_to_turn_it_on(
    config: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["page", *config('listen = ""')]) == 2
    assert "listen under [page]" in capsys.readouterr().err


def test_without_a_daemon_the_address_is_printed_and_that_nobody_answers(
    config: Callable[..., list[str]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("device.commands.page._ANSWER_TIMEOUT_S", 0.1)
    assert main(["page", *config(f"port = {free_port()}")]) == 5
    result = capsys.readouterr()
    assert result.out.startswith("http://") and "systemctl start avdrift" in result.err
