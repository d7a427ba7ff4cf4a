"""The discovery payload, by the rules that Home Assistant's own schema enforces (`make test-homeassistant` asks it)."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from typing import Any

import pytest

from device.config.settings import MqttSettings
from device.records import EventKind, Health, Report, State, Verb, Verdict
from device.standards import PROFILE_NAMES
from device.telemetry.mqtt.command_parser import ALLOWED, Commands
from device.telemetry.mqtt.homeassistant import birth_topic, discovery
from device.telemetry.mqtt.topics import Topics
from tests.brokers import health, info, report, silent

TOPICS = Topics("avdrift", "stage")
PAYLOAD = discovery(TOPICS, 1.0, info(), set(Verb))
COMPONENTS: dict[str, dict[str, Any]] = PAYLOAD["components"]
# What Home Assistant takes for each platform, beside the keys that all have.
COMMON = {"platform", "unique_id", "name", "entity_category", "icon", "enabled_by_default"}
READ = {"state_topic", "value_template"}
KEYS = {
    "sensor": READ | {"expire_after", "device_class", "state_class", "unit_of_measurement", "options",
                      "suggested_display_precision"},
    "binary_sensor": READ | {"expire_after", "device_class"},
    "event": READ | {"event_types"},
    "select": READ | {"options", "command_topic", "command_template"},
    "button": {"command_topic", "payload_press", "device_class"},
}  # fmt: skip
UNITS = {"temperature": {"°C"}, "data_size": {"MB"}, "frequency": {"Hz"}}


def rendered(template: str, values: dict[str, Any]) -> Any:
    """What a template of ours gives: the few forms of Jinja that they use are Python, but for its filter."""
    match = re.fullmatch(r"\{\{ (.*) \}\}", template)
    assert match, template
    expression = re.sub(r"\((value_json\.\w+ \* 100)\) \| round\(1\)", r"round(\1, 1)", match[1])
    expression = expression.replace(" | tojson", "").replace("none", "None").replace("'None'", "'none'")

    class Values:
        def __getattr__(self, name: str) -> Any:
            return values[name]

    return eval(expression, {"__builtins__": {"round": round}}, {"value_json": Values()})


def test_device_origin_and_availability_stand_at_the_root() -> None:
    assert PAYLOAD["device"]["identifiers"] == ["avdrift_stage"] and PAYLOAD["device"]["name"] == "avdrift stage"
    assert PAYLOAD["origin"]["name"] == "avdrift" and PAYLOAD["qos"] == 1
    (availability,) = PAYLOAD["availability"]
    assert availability["topic"] == "avdrift/stage/availability"
    assert availability["value_template"] == "{{ 'online' if value == 'online' else 'offline' }}"
    assert (availability["payload_available"], availability["payload_not_available"]) == ("online", "offline")
    assert set(PAYLOAD) == {"device", "origin", "availability", "qos", "components"}
    assert "hw_version" not in discovery(TOPICS, 1.0, None, set(Verb))["device"]
    assert len(json.dumps(PAYLOAD)) < 20_000


@pytest.mark.parametrize("name", COMPONENTS)
def test_each_component_has_its_platform_a_unique_id_and_only_known_keys(name: str) -> None:
    component = COMPONENTS[name]
    assert component["unique_id"] == f"avdrift_stage_{name}" and component["name"]
    assert set(component) <= COMMON | KEYS[component["platform"]], set(component)
    assert component.get("entity_category") in (None, "diagnostic", "config")
    if component["platform"] == "sensor":
        if "options" in component:
            assert component["device_class"] == "enum" and not {"state_class", "unit_of_measurement"} & set(component)
        if "device_class" in component and component["device_class"] != "enum":
            assert component["unit_of_measurement"] in UNITS[component["device_class"]]
        assert component.get("entity_category") != "config", "a sensor of that category is refused"
    if "expire_after" in component:
        assert type(component["expire_after"]) is int and component["expire_after"] > 0


def test_the_ids_and_names_differ() -> None:
    assert len({component["unique_id"] for component in COMPONENTS.values()}) == len(COMPONENTS)
    assert len({component["name"] for component in COMPONENTS.values()}) == len(COMPONENTS)
    other = discovery(Topics("avdrift", "hall"), 1.0, None, set(Verb))["components"]
    assert not {c["unique_id"] for c in other.values()} & {c["unique_id"] for c in COMPONENTS.values()}


def test_what_people_want_is_there() -> None:
    offset = COMPONENTS["offset"]
    assert (offset["unit_of_measurement"], offset["state_class"]) == ("ms", "measurement")
    assert "device_class" not in offset, "duration is shown as a clock"
    assert COMPONENTS["drift"]["unit_of_measurement"] == "ppm"
    assert COMPONENTS["confidence"]["unit_of_measurement"] == "%"
    assert COMPONENTS["problem"]["device_class"] == "problem" and COMPONENTS["in_sync"]["platform"] == "binary_sensor"
    assert COMPONENTS["event"]["event_types"] == [kind.value for kind in EventKind]
    assert COMPONENTS["profile"]["options"] == list(PROFILE_NAMES)
    assert COMPONENTS["verdict"]["options"] == list(Verdict) and COMPONENTS["state"]["options"] == list(State)


@pytest.mark.parametrize(("every_s", "expiry_s"), [(0.2, 5), (1.0, 5), (2.0, 6), (2.5, 8), (60.0, 180)])
def test_measured_values_expire_after_three_reports(every_s: float, expiry_s: int) -> None:
    components = discovery(TOPICS, every_s, None, set(Verb))["components"]
    assert components["offset"]["expire_after"] == expiry_s == components["in_sync"]["expire_after"]
    assert components["temperature"]["expire_after"] == 180


@pytest.mark.parametrize("name", [name for name, made in COMPONENTS.items() if "value_template" in made])
def test_templates_name_keys_that_are_sent(name: str) -> None:
    component = COMPONENTS[name]
    kind = {TOPICS.state: Report, TOPICS.health: Health}.get(component["state_topic"])
    used = set(re.findall(r"value_json\.(\w+)", component["value_template"]))
    if kind:
        assert used and used <= {key.name for key in fields(kind)}


def test_templates_give_numbers_words_and_none_for_null() -> None:
    known, unknown = report().to_dict(), silent(fault="camera_lost").to_dict()

    def values(said: dict[str, Any]) -> dict[str, Any]:
        names = [name for name, made in COMPONENTS.items() if made.get("state_topic") == TOPICS.state]
        return {name: rendered(COMPONENTS[name]["value_template"], said) for name in names}

    assert values(known) == {
        "offset": -42.5, "offset_std": 3.1, "direction": "audio_late", "verdict": "in_sync", "state": "measuring",
        "confidence": 98.7, "drift": 1.5, "drift_std": 0.2, "drift_class": "steady", "speech_ratio": 75.0,
        "latency": 320.0, "fault": "none", "problem": "OFF", "in_sync": "ON", "video_dropped": 0, "audio_dropped": 0,
        "profile": "itu-r-bt1359",
    }  # fmt: skip
    nothing = values(unknown)
    assert (nothing.pop("fault"), nothing.pop("problem"), nothing.pop("state")) == ("camera_lost", "ON", "stalled")
    assert (nothing.pop("verdict"), nothing.pop("drift_class")) == ("unknown", "unknown")
    assert nothing.pop("profile") == "itu-r-bt1359"
    assert (nothing.pop("video_dropped"), nothing.pop("audio_dropped")) == (0, 0)
    assert set(nothing.values()) == {None}
    assert rendered(COMPONENTS["in_sync"]["value_template"], {"verdict": "detectable"}) == "OFF"
    for mildest, shown in (("in_sync", None), ("detectable", "OFF")):
        said = {"verdict": "borderline", "verdict_range": [mildest, "unacceptable"]}
        assert rendered(COMPONENTS["in_sync"]["value_template"], said) == shown
    no_health = health(temperature_c=None, cpu_ratio=None, undervoltage=None).to_dict()
    for name in ("temperature", "cpu", "undervoltage"):
        assert rendered(COMPONENTS[name]["value_template"], no_health) is None
    assert rendered(COMPONENTS["undervoltage"]["value_template"], {"undervoltage": True}) == "ON"


def test_buttons_and_the_select_send_commands_that_are_taken() -> None:
    sent: dict[str, str] = {}
    for component in COMPONENTS.values():
        if component["platform"] == "button":
            sent[component["command_topic"]] = component["payload_press"]
        elif component["platform"] == "select":
            sent[component["command_topic"]] = component["command_template"].replace("{{ value }}", "atsc-is191")
    assert len(sent) == 6
    taken: list[str] = []
    results: list[bytes] = []
    commands = Commands("all", lambda verb, result: results.append(result))
    commands.submit_to(lambda command: taken.append(command.verb.value))
    for topic, payload in sent.items():
        commands.handle(topic.removeprefix(TOPICS.command("")), payload.encode(), retained=False)
    assert not results and set(taken) == set(Verb) - {Verb.DIAGNOSTICS}


def test_what_would_be_refused_is_not_offered_and_taken_away_where_it_was() -> None:
    read = discovery(TOPICS, 1.0, info(), ALLOWED["read"])["components"]
    controls = {name: made for name, made in COMPONENTS.items() if "command_topic" in made}
    assert {name: read[name] for name in controls} == {
        name: {"platform": made["platform"]} for name, made in controls.items()
    }
    assert {name: made for name, made in read.items() if name not in controls} == {
        name: made for name, made in COMPONENTS.items() if name not in controls
    }


def test_topics() -> None:
    assert TOPICS.discovery("homeassistant") == "homeassistant/device/avdrift_stage/config"
    assert birth_topic(MqttSettings().discovery_prefix) == "homeassistant/status"
    assert (TOPICS.event, TOPICS.info) == ("avdrift/stage/event", "avdrift/stage/info")
    assert TOPICS.result("recalibrate") == "avdrift/stage/cmd/recalibrate/result"
