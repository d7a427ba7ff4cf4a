"""docs/reference/mqtt.md, from the topics, the verbs and what is announced to Home Assistant."""

from __future__ import annotations

from collections.abc import Iterator

from device.config.settings import MqttSettings
from device.records import Verb
from device.telemetry.mqtt.command_parser import ALLOWED, ARGUMENTS, IF_SIGNED
from device.telemetry.mqtt.homeassistant import birth_topic, discovery
from device.telemetry.mqtt.sink import DEFAULT_PREFIX
from device.telemetry.mqtt.topics import Topics
from tools.reference.markdown import page, table

_INTRODUCTION = """QoS 1, JSON unless said otherwise. `<node>` is the name of the host, or `[mqtt] node`; the first
level is `[mqtt] topic_prefix`. [MQTT](../mqtt.md) explains commands, signatures and passwords."""
_TOPICS = Topics(DEFAULT_PREFIX, "<node>")
_PREFIX = MqttSettings().discovery_prefix
_EVERY_S = 1.0  # a report


def mqtt_page() -> str:
    return page(
        "MQTT topics",
        _INTRODUCTION,
        "## Topics",
        table(("topic", "direction", "retained", "content"), _topics()),
        "## Commands",
        "A command is published to `cmd/<verb>`. `[mqtt] commands` says which of them are accepted.",
        table(("verb", "accepted with", "needs", "may have, if signed"), (_command(verb) for verb in Verb)),
        "## Home Assistant",
        "What avdrift announces. Controls appear only where the commands behind them are accepted.",
        table(("entity", "platform", "unit", "name"), _entities()),
    )


def _topics() -> Iterator[tuple[str, str, str, str]]:
    sent, heard = "from avdrift", "to avdrift"
    yield f"`{_TOPICS.availability}`", sent, "yes", "`online`, `stopped` or `offline`, as plain text"
    for topic, retained, record in (
        (_TOPICS.state, "yes", "Report"), (_TOPICS.event, "no", "Event"), (_TOPICS.info, "yes", "Info"),
        (_TOPICS.health, "yes", "Health"),
    ):  # fmt: skip
        yield f"`{topic}`", sent, retained, f"[{record}](json.md#{record.lower()})"
    yield f"`{_TOPICS.command('<verb>')}`", heard, "never", "what the command needs, or nothing; an `id` comes back"
    yield f"`{_TOPICS.result('<verb>')}`", sent, "no", "`verb`, `ok`, `error`, the `id`, and the result"
    yield f"`{_TOPICS.discovery(_PREFIX)}`", sent, "yes", "the announcement to Home Assistant"
    yield f"`{birth_topic(_PREFIX)}`", heard, "", "Home Assistant's birth message: all is published again"


def _command(verb: Verb) -> tuple[str, str, str, str]:
    settings = " or ".join(f"`{name}`" for name, verbs in ALLOWED.items() if verb in verbs)
    needed, signed = (
        ", ".join(f"`{name}`: {allowed}" for name, allowed in arguments.get(verb, {}).items())
        for arguments in (ARGUMENTS, IF_SIGNED)
    )
    return f"`{verb}`", settings, needed, signed


def _entities() -> Iterator[tuple[str, str, str, str]]:
    components = discovery(_TOPICS, _EVERY_S, None, frozenset(Verb))["components"]
    for name, component in components.items():
        unit = component.get("unit_of_measurement", "")
        yield f"`{name}`", component["platform"], unit, component.get("name") or ""
