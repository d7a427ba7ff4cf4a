"""Commands from an open broker: valid ones reach the daemon, all others get an answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device.errors import UsageError
from device.records import Command, Verb
from device.telemetry.mqtt.command_parser import MAX_BYTES, UNKNOWN, Commands


class Rig:
    """Commands with a daemon that keeps what it is given, and a broker that keeps results."""

    def __init__(self, setting: str = "all") -> None:
        self.results: list[tuple[str, dict[str, Any]]] = []
        self.refused: list[dict[str, Any]] = []
        self.taken: list[Command] = []
        self.now_s = 0.0
        self.commands = Commands(setting, self._publish, self._publish_refusal, lambda: self.now_s)
        self.commands.submit_to(self.taken.append)

    def _publish(self, verb: str, result: bytes) -> None:
        assert len(result) < 2000
        self.results.append((verb, json.loads(result)))

    def _publish_refusal(self, verb: str, result: bytes) -> None:
        self._publish(verb, result)
        self.refused.append(self.results[-1][1])

    def send(self, verb: str, payload: bytes | str = b"", *, retained: bool = False) -> None:
        self.commands.handle(verb, payload.encode() if isinstance(payload, str) else payload, retained=retained)

    def only_result(self) -> dict[str, Any]:
        ((_, result),) = self.results
        return result


@pytest.mark.parametrize("verb", [verb for verb in Verb if verb is not Verb.SET_PROFILE])
@pytest.mark.parametrize("payload", ["", "{}", " { } \n"])
def test_commands_without_arguments_reach_the_daemon(verb: Verb, payload: str) -> None:
    rig = Rig()
    rig.send(verb.value, payload)
    (command,) = rig.taken
    assert (command.verb, command.args) == (verb, {}) and rig.results == []


@pytest.mark.parametrize("verb", Verb)
@pytest.mark.parametrize("setting", ["off", "read"])
def test_what_the_setting_does_not_allow_is_refused_with_its_name(setting: str, verb: Verb) -> None:
    rig = Rig(setting)
    rig.send(verb.value, '{"profile": "ebu-r37", "id": 7}' if verb is Verb.SET_PROFILE else '{"id": 7}')
    if (setting, verb) == ("read", Verb.DIAGNOSTICS):
        assert len(rig.taken) == 1 and not rig.results
        return
    result = rig.only_result()
    assert not rig.taken and (result["ok"], result["id"]) == (False, 7)
    assert f"commands under [mqtt] is {setting}" in result["error"]


def test_the_result_goes_back_with_the_id_of_the_request() -> None:
    rig = Rig()
    rig.send("set-profile", '{"profile": "ebu-r37", "id": "küche 7"}')
    (command,) = rig.taken
    assert command.args == {"profile": "ebu-r37"}
    command.reply({"verb": "other", "ok": True, "error": None, "profile": "ebu-r37", "id": 5})
    expected = {"verb": "set-profile", "id": "küche 7", "ok": True, "error": None, "profile": "ebu-r37"}
    assert rig.results == [("set-profile", expected)]
    command.reply({"ok": False})
    assert len(rig.results) == 1, "a second reply"


def test_a_result_that_is_no_json_is_said_to_be_none() -> None:
    rig = Rig()
    rig.send("diagnostics")
    rig.taken[0].reply({"ok": True, "temperature_c": float("nan")})
    assert rig.only_result()["ok"] is False and "cannot be written" in rig.only_result()["error"]


@pytest.mark.parametrize(
    ("verb", "payload", "words"),
    [
        ("set-profile", "", ("profile is missing", "itu-r-bt1359, atsc-is191, ebu-r37")),
        ("set-profile", '{"profile": "pal"}', ("profile is 'pal'", "ebu-r37")),
        ("set-profile", '{"profile": null}', ("profile is null",)),
        ("set-profile", '{"profile": ["ebu-r37"]}', ("profile is an array",)),
        ("set-profile", '{"profile": "ebu-r37", "now": true}', ("'now' is an unknown name", "takes profile")),
        ("recalibrate", '{"x": 1}', ("'x' is an unknown name", "Leave it out")),
        ("reboot", "{}", ("command 'reboot'", "no such command", "recalibrate")),
        ("Recalibrate", "", ("no such command",)),
        ("", "", ("no such command",)),
        ("recalibrate/result", "", ("no such command",)),
        ("recalibrate", "press", ("not JSON",)),
        ("recalibrate", b"\xff\xfe", ("not JSON", "utf-8")),
        ("recalibrate", "[]", ("not an object",)),
        ("recalibrate", "null", ("not an object",)),
        ("recalibrate", '{"id": NaN}', ("NaN is not JSON",)),
        ("recalibrate", "[" * 4000, ("not JSON",)),
        ("recalibrate", '{"id": ' + "1" * 4080 + "}", ("no id",)),
        ("recalibrate", '{"id": true}', ("true is no id",)),
        ("recalibrate", '{"id": 1.5}', ("1.5 is no id",)),
        ("recalibrate", '{"id": "' + "a" * 65 + '"}', ("is no id", "64 characters")),
        ("recalibrate", '{"id": "a\\nb"}', ("is no id",)),
        ("recalibrate", " " * (MAX_BYTES + 1), (f"{MAX_BYTES + 1} bytes", f"allowed is {MAX_BYTES}")),
    ],
)
def test_what_is_wrong_is_answered_with_what_and_what_to_do(
    verb: str, payload: str | bytes, words: tuple[str, ...]
) -> None:
    rig = Rig()
    rig.send(verb, payload)
    assert not rig.taken and rig.only_result()["ok"] is False
    assert all(word in rig.only_result()["error"] for word in words), rig.only_result()
    assert rig.results[0][0] in (verb, UNKNOWN)


def test_a_retained_command_never_runs() -> None:
    rig = Rig()
    rig.send("recalibrate", '{"id": 7}', retained=True)
    assert not rig.taken and rig.only_result()["id"] == 7 and "retain flag" in rig.only_result()["error"]


def test_before_there_is_a_daemon_and_when_it_fails(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()

    def fail(command: Command) -> None:
        raise RuntimeError(command.verb)

    rig.commands.submit_to(fail)
    rig.send("diagnostics")
    assert "failed (RuntimeError)" in rig.only_result()["error"] and "diagnostics" in caplog.text
    results: list[bytes] = []
    Commands("all", lambda verb, result: results.append(result)).handle("diagnostics", b"", retained=False)
    assert b"avdrift is not ready yet" in results[0]


def test_what_the_daemon_refuses_is_a_refusal_and_blocks_no_other() -> None:
    rig = Rig()

    def refuse(command: Command) -> None:
        raise UsageError("busy", where=command.verb.value, remedy="Send it again later")

    rig.commands.submit_to(refuse)
    for number in range(20):
        rig.send("diagnostics", json.dumps({"id": number}))
    assert [result["id"] for result in rig.refused] == list(range(20))
    assert all("busy" in result["error"] for result in rig.refused)
    rig.commands.submit_to(rig.taken.append)
    rig.send("diagnostics", '{"id": 20}')
    rig.taken[0].reply({"ok": False, "error": "it did not work"})
    assert rig.results[-1][1]["id"] == 20 and len(rig.refused) == 20, "a result, although it says no"


def test_a_flood_is_answered_and_does_not_reach_the_daemon() -> None:
    rig = Rig()
    for _ in range(100):
        rig.send("diagnostics")
    assert len(rig.taken) == 8 and len(rig.results) == 92
    assert "8 commands wait" in rig.results[0][1]["error"]
    rig.taken[0].reply({"ok": True})
    rig.send("diagnostics")
    assert len(rig.taken) == 9
    rig.now_s = 100.0
    rig.send("diagnostics")
    assert len(rig.taken) == 10, "requests that the daemon never answered block others for ever"
    for _ in range(2):
        rig.taken[1].reply({"ok": True})
    assert len(rig.results) == 94, "a late reply is one all the same"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["profile", "id", "verb", ""]) | st.text(max_size=8)
OBJECTS = st.dictionaries(NAMES, VALUES | st.sampled_from(["ebu-r37", 7]), max_size=4).map(
    lambda content: json.dumps(content).encode("utf-8", "surrogatepass")
)
PAYLOADS = st.one_of(
    OBJECTS, OBJECTS.map(lambda payload: payload[:-1]), VALUES.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=60), st.sampled_from([b"{" * 3000, b"0" * 5000, b'{"id":"\\ud800"}', b'{"profile":"ebu-r37"}']),
)  # fmt: skip
VERBS = st.sampled_from([*[verb.value for verb in Verb], "reboot", "../state"]) | st.text(max_size=50)


def right(verb: str, payload: bytes, retained: bool) -> bool:
    """A second judge, written without the code under test."""
    try:
        content = json.loads(payload.decode("utf-8") or "{}")
        floats = "NaN" in payload.decode() or "Infinity" in payload.decode()
    except (ValueError, RecursionError):
        return False
    if retained or len(payload) > 4096 or type(content) is not dict or floats:
        return False
    request_id = content.pop("id", None)
    if type(request_id) is str:
        id_right = len(request_id) <= 64 and (request_id.isprintable())
    else:
        id_right = request_id is None or (type(request_id) is int and -(2**53) <= request_id <= 2**53)
    profiles = ("itu-r-bt1359", "atsc-is191", "ebu-r37", "itu-t-j100", "en-301549", "own")
    if verb == "set-profile":
        return id_right and set(content) == {"profile"} and content["profile"] in profiles
    others = {verb.value for verb in Verb} - {"set-profile"}
    return id_right and not content and verb in others


@settings(max_examples=300, derandomize=True)
@given(VERBS, PAYLOADS, st.booleans())
def test_random_commands_get_an_answer_each_and_never_an_exception(verb: str, payload: bytes, retained: bool) -> None:
    rig = Rig()
    rig.send(verb, payload, retained=retained)
    if right(verb, payload, retained):
        assert len(rig.taken) == 1 and not rig.results
        rig.taken[0].reply({"ok": True, "error": None})
        assert rig.only_result()["ok"] is True
    else:
        assert not rig.taken
        result = rig.only_result()
        assert result["ok"] is False and len(result["error"]) > 20 and result["error"].isprintable()
