"""Commands signed with a shared secret: valid once, now, and on this device only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from device.errors import TransportError
from device.records import Command, Verb
from device.telemetry.mqtt import signed_command
from device.telemetry.mqtt.command_parser import Commands
from device.telemetry.mqtt.signed_command import TOLERANCE_S, Verifier, signed

SECRET = b"0123456789abcdef0123456789abcdef"
NOW_S = 1_790_000_000.0


class Device:
    """Commands with a secret, and a clock that the test sets."""

    def __init__(self, folder: Path, *, synced: bool | None = True) -> None:
        self.results: list[dict[str, Any]] = []
        self.taken: list[Command] = []
        self.now_s = NOW_S
        (folder / "secret").write_bytes(SECRET + b"\n")
        self.verifier = Verifier("stage", folder / "secret", lambda: self.now_s)
        self.verifier.clock_synced = synced
        publish = lambda _, result: self.results.append(json.loads(result))  # noqa: E731
        self.commands = Commands("all", publish, verifier=self.verifier)
        self.commands.submit_to(self._take)

    def _take(self, command: Command) -> None:
        self.taken.append(command)
        command.reply({"ok": True})

    def hear(self, verb: str, content: object) -> dict[str, Any]:
        """The result of what comes in."""
        self.commands.handle(verb, json.dumps(content).encode(), retained=False)
        return self.results[-1]

    def send(self, verb: str = "recalibrate", secret: bytes = SECRET, **changes: Any) -> dict[str, Any]:
        """The result of a command that is signed with other things than it should be."""
        body = {
            "node": "stage", "verb": verb, "session": self.verifier.session, "time_unix_s": self.now_s,
            "nonce": f"nonce-{len(self.results):06}", "payload": {},
        } | changes  # fmt: skip
        text = json.dumps(body)
        return self.hear(verb, {"signed": text, "hmac": signed_command._hmac(secret, text)})


def test_what_the_sender_signs_is_carried_out(tmp_path: Path) -> None:
    device = Device(tmp_path, synced=None)
    content = signed(SECRET, "stage", "set-profile", device.verifier.session, {"profile": "ebu-r37"})
    expected = {"verb": "set-profile", "id": 7, "ok": True, "error": None}
    assert device.hear("set-profile", content | {"id": 7}) == expected
    assert device.taken[0].args == {"profile": "ebu-r37"}


@pytest.mark.parametrize("verb", Verb)
def test_without_a_signature_only_what_changes_nothing_is_carried_out(tmp_path: Path, verb: Verb) -> None:
    device = Device(tmp_path)
    result = device.hear(verb, {"profile": "ebu-r37"} if verb is Verb.SET_PROFILE else {})
    assert result["ok"] is (verb is Verb.DIAGNOSTICS) is bool(device.taken)
    assert result["ok"] or "not signed" in result["error"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"secret": b"another secret, of the same length"}, "another secret"),
        ({"node": "attic"}, "signed for the node 'attic'"),
        ({"session": "of the last start"}, "signed for the session"),
        ({"time_unix_s": NOW_S - TOLERANCE_S - 1}, "-61 s from now"),
        ({"time_unix_s": NOW_S + TOLERANCE_S + 1}, "+61 s from now"),
        ({"time_unix_s": 10**400}, "invalid time_unix_s"),
        ({"time_unix_s": True}, "invalid time_unix_s"),
        ({"nonce": "short"}, "invalid nonce"),
        ({"nonce": "x" * 65}, "invalid nonce"),
        ({"payload": []}, "invalid payload"),
        ({"more": 1}, "exactly node"),
    ],
)
def test_what_is_signed_wrong_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    device = Device(tmp_path)
    result = device.send(**changes)
    assert not device.taken and words in result["error"]


@pytest.mark.parametrize("content", [{"signed": "{}"}, {"signed": 1, "hmac": "00"}, {"signed": "{}", "hmac": "ü"}])
def test_what_is_not_quite_signed_is_refused(tmp_path: Path, content: object) -> None:
    device = Device(tmp_path)
    assert device.hear("recalibrate", content)["ok"] is False and not device.taken


def test_what_is_signed_for_one_verb_does_not_run_another(tmp_path: Path) -> None:
    device = Device(tmp_path)
    content = signed(SECRET, "stage", "recalibrate", device.verifier.session, {})
    assert "signed for the verb 'recalibrate'" in device.hear("model-rollback", content)["error"]


@pytest.mark.parametrize("synced", [True, False, None])
def test_no_command_runs_twice(tmp_path: Path, synced: bool | None) -> None:
    device = Device(tmp_path, synced=synced)
    assert device.send(nonce="the same one")["ok"]
    assert "replay" in device.send(nonce="the same one")["error"]
    device.now_s += 2 * TOLERANCE_S
    assert device.send()["ok"]
    old = device.send(nonce="the same one", time_unix_s=NOW_S)
    assert not old["ok"] and len(device.taken) == 2


def test_a_clock_that_nobody_has_set_refuses_nobody(tmp_path: Path) -> None:
    device = Device(tmp_path, synced=False)
    device.now_s = 1_000.0
    assert device.send(time_unix_s=NOW_S)["ok"]


def test_nonces_are_remembered_only_so_long_and_only_so_many(tmp_path: Path) -> None:
    device = Device(tmp_path)
    results = [device.send()["ok"] for _ in range(signed_command._MAX_NONCES + 5)]
    assert results.count(True) == signed_command._MAX_NONCES and "busy" in device.results[-1]["error"]
    device.now_s += TOLERANCE_S + 1
    assert device.send()["ok"] and len(device.verifier._nonces) == 1


def test_models_below_the_signed_ones_are_for_signed_commands_only(tmp_path: Path) -> None:
    device = Device(tmp_path)
    assert device.send("model-rollback", payload={"allow_downgrade": True})["ok"]
    assert device.taken[0].args == {"allow_downgrade": True}
    results: list[bytes] = []
    Commands("all", lambda _, result: results.append(result)).handle(
        "model-rollback", b'{"allow_downgrade": true}', retained=False
    )
    assert b"for signed commands only" in results[0]


@pytest.mark.parametrize("content", [None, b"", b"short", b"\xff" * 40])
def test_a_secret_that_is_none_lets_nobody_in(tmp_path: Path, content: bytes | None) -> None:
    device = Device(tmp_path)
    if content is None:
        (tmp_path / "secret").unlink()
    else:
        (tmp_path / "secret").write_bytes(content)
    result = device.send(secret=content or b"")
    assert not device.taken and "openssl rand" in result["error"]


def test_a_signed_command_where_there_is_no_secret_is_refused() -> None:
    results: list[bytes] = []
    commands = Commands("all", lambda _, result: results.append(result))
    commands.handle("recalibrate", json.dumps(signed(SECRET, "n", "recalibrate", "s", {})).encode(), retained=False)
    assert b"there is no secret here" in results[0]


def test_the_secret_must_be_long_enough(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x" * 15)
    with pytest.raises(TransportError, match="at least 16 are needed"):
        signed_command.read_command_secret(tmp_path / "secret")
