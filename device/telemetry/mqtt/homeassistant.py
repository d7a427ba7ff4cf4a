"""Home Assistant's MQTT discovery in its device-based form, so that it finds avdrift by itself. Pure.

The payload goes to `<prefix>/device/<id>/config`, retained. An empty one there removes the device:
`mosquitto_pub -r -n -t homeassistant/device/avdrift_NODE/config`. Each template turns null into None, which Home
Assistant shows as unknown. The offset has no device class: `duration` would be shown as a clock.

Source: https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload
"""

from __future__ import annotations

import math
from collections.abc import Container
from typing import Any

from device import __version__
from device.records import Direction, DriftClass, EventKind, Info, State, Verb, Verdict
from device.standards import PROFILE_NAMES
from device.telemetry.mqtt.topics import Topics

BIRTH = b"online"  # Home Assistant's message when it has started
HEALTH_EVERY_S = 60.0
_MIN_EXPIRY_S = 5
_DIAGNOSTIC = {"entity_category": "diagnostic"}
_MEASURED = {"state_class": "measurement"}
_COUNTED = {"state_class": "total_increasing"}

Component = dict[str, Any]


def birth_topic(prefix: str) -> str:
    return f"{prefix}/status"


def discovery(topics: Topics, report_every_s: float, info: Info | None, allowed: Container[Verb]) -> dict[str, Any]:
    """The whole payload; without `info` it lacks the model's name. Only `allowed` commands get controls."""
    components = {
        **_measuring(topics.state, _expiry_s(report_every_s)),
        **_diagnostics(topics, _expiry_s(report_every_s), _expiry_s(HEALTH_EVERY_S)),
        "event": _event(topics),
    }
    for verb, (name, component) in _controls(topics).items():
        # An entry with only a platform removes what was announced before.
        components[name] = component if verb in allowed else {"platform": component["platform"]}
    for name, component in components.items():
        if len(component) > 1:
            component["unique_id"] = f"{topics.device_id}_{name}"
    return {
        "device": {
            "identifiers": [topics.device_id],
            "name": f"avdrift {topics.node}",
            "manufacturer": "avdrift",
            "model": "Lip-sync meter",
            "sw_version": __version__,
            **({"hw_version": f"models {info.model}"} if info else {}),
        },
        "origin": {"name": "avdrift", "sw_version": __version__},
        "availability": [
            {
                "topic": topics.availability,
                # `stopped` also means unavailable
                "value_template": "{{ 'online' if value == 'online' else 'offline' }}",
                "payload_available": "online",
                "payload_not_available": "offline",
            }
        ],
        "qos": 1,
        "components": components,
    }


def _expiry_s(every_s: float) -> int:
    """After three missing messages, a value expires."""
    return max(_MIN_EXPIRY_S, math.ceil(3 * every_s))


def _sensor(topic: str, expire_after_s: int, name: str, template: str, **more: Any) -> Component:
    return {
        "platform": "sensor", "name": name, "state_topic": topic, "value_template": "{{ " + template + " }}",
        "expire_after": expire_after_s, **more,
    }  # fmt: skip


def _number(key: str) -> str:
    return f"value_json.{key}"


def _percent(key: str) -> str:
    return f"none if value_json.{key} is none else (value_json.{key} * 100) | round(1)"


def _word(options: type[State] | type[Verdict] | type[Direction] | type[DriftClass]) -> Component:
    return {"device_class": "enum", "options": [option.value for option in options]}


def _measuring(state: str, expiry_s: int) -> dict[str, Component]:
    def sensor(name: str, template: str, **more: Any) -> Component:
        return _sensor(state, expiry_s, name, template, **more)

    def binary(name: str, template: str, **more: Any) -> Component:
        return sensor(name, template, **more) | {"platform": "binary_sensor"}

    in_sync = (  # borderline is unknown, because a binary sensor has no third state and it may still be in sync
        "none if value_json.verdict == 'unknown' "
        "or (value_json.verdict == 'borderline' and value_json.verdict_range[0] == 'in_sync') "
        "else 'ON' if value_json.verdict == 'in_sync' else 'OFF'"
    )
    return {
        "offset": sensor(
            "Offset", _number("offset_ms"), **_MEASURED, unit_of_measurement="ms", suggested_display_precision=0,
            icon="mdi:account-voice",
        ),
        "offset_std": sensor(
            "Offset uncertainty", _number("offset_std_ms"), **_MEASURED, **_DIAGNOSTIC, unit_of_measurement="ms",
            suggested_display_precision=0, enabled_by_default=False,
        ),
        "direction": sensor("Direction", _number("direction"), **_word(Direction)),
        "verdict": sensor("Verdict", _number("verdict"), **_word(Verdict)),
        "state": sensor("State", _number("state"), **_word(State)),
        "confidence": sensor(
            "Confidence", _percent("confidence"), **_MEASURED, unit_of_measurement="%", suggested_display_precision=0
        ),
        "drift": sensor(
            "Drift", _number("drift_ppm"), **_MEASURED, unit_of_measurement="ppm", suggested_display_precision=1
        ),
        "drift_std": sensor(
            "Drift uncertainty", _number("drift_std_ppm"), **_MEASURED, **_DIAGNOSTIC, unit_of_measurement="ppm",
            suggested_display_precision=1, enabled_by_default=False,
        ),
        "drift_class": sensor("Drift class", _number("drift_class"), **_word(DriftClass)),
        "speech_ratio": sensor(
            "Speech", _percent("speech_ratio"), **_MEASURED, unit_of_measurement="%", suggested_display_precision=0
        ),
        "latency": sensor("Latency", _number("latency_ms"), **_MEASURED, **_DIAGNOSTIC, unit_of_measurement="ms"),
        "fault": sensor("Fault", "value_json.fault or 'none'", **_DIAGNOSTIC),
        "problem": binary(
            "Problem", "'OFF' if value_json.fault is none else 'ON'", device_class="problem", **_DIAGNOSTIC
        ),
        "in_sync": binary("In sync", in_sync),
    }  # fmt: skip


def _diagnostics(topics: Topics, report_expiry_s: int, health_expiry_s: int) -> dict[str, Component]:
    def dropped(name: str, key: str) -> Component:
        return _sensor(topics.state, report_expiry_s, name, _number(key), **_COUNTED, **_DIAGNOSTIC)

    def health(name: str, template: str, **more: Any) -> Component:
        return _sensor(topics.health, health_expiry_s, name, template, **_DIAGNOSTIC, **more)

    undervoltage = "none if value_json.undervoltage is none else 'ON' if value_json.undervoltage else 'OFF'"
    return {
        "video_dropped": dropped("Dropped frames", "video_dropped"),
        "audio_dropped": dropped("Dropped sound blocks", "audio_dropped"),
        "temperature": health(
            "Temperature", _number("temperature_c"), **_MEASURED, device_class="temperature", unit_of_measurement="°C"
        ),
        "cpu": health("CPU", _percent("cpu_ratio"), **_MEASURED, unit_of_measurement="%"),
        "memory": health(
            "Memory", _number("memory_mb"), **_MEASURED, device_class="data_size", unit_of_measurement="MB"
        ),
        "microphone_ppm": health("Microphone clock", _number("microphone_ppm"), **_MEASURED, unit_of_measurement="ppm"),
        "video_rate": health(
            "Frame rate", _number("video_rate_hz"), **_MEASURED, device_class="frequency", unit_of_measurement="Hz"
        ),
        "load_step": health("Load step", _number("load_step"), **_MEASURED),
        "sources_reopened": health("Sources reopened", _number("sources_reopened"), **_COUNTED),
        "events_lost": health("Events lost", _number("events_lost"), **_COUNTED),
        "undervoltage": health("Undervoltage", undervoltage, device_class="problem") | {"platform": "binary_sensor"},
    }


def _event(topics: Topics) -> Component:
    event = ", ".join(f"'{key}': value_json.{key}" for key in ("before", "after", "about", "seq", "t_unix_ms"))
    return {
        "platform": "event",
        "name": "Event",
        "state_topic": topics.event,
        "event_types": [kind.value for kind in EventKind],
        "value_template": "{{ {'event_type': value_json.kind, " + event + "} | tojson }}",
    }


def _controls(topics: Topics) -> dict[Verb, tuple[str, Component]]:
    """By the command that each sends."""

    def button(name: str, verb: Verb, **more: Any) -> Component:
        return {
            "platform": "button", "name": name, "command_topic": topics.command(verb), "payload_press": "{}",
            "entity_category": "config", **more,
        }  # fmt: skip

    profile = {
        "platform": "select",
        "name": "Profile",
        "state_topic": topics.state,
        "value_template": "{{ value_json.profile }}",
        "options": list(PROFILE_NAMES),
        "command_topic": topics.command(Verb.SET_PROFILE),
        "command_template": '{"profile": "{{ value }}"}',
        "entity_category": "config",
    }
    restart = button("Restart camera and microphone", Verb.RESTART_SOURCES, device_class="restart")
    return {
        Verb.SET_PROFILE: ("profile", profile),
        Verb.RECALIBRATE: ("recalibrate", button("Recalibrate", Verb.RECALIBRATE)),
        Verb.UNDO_RECALIBRATE: ("undo_recalibrate", button("Undo recalibrate", Verb.UNDO_RECALIBRATE)),
        Verb.RESET_CALIBRATION: ("reset_calibration", button("Remove calibration", Verb.RESET_CALIBRATION)),
        Verb.RESTART_SOURCES: ("restart_sources", restart),
        Verb.MODEL_ROLLBACK: ("model_rollback", button("Back to the previous models", Verb.MODEL_ROLLBACK)),
    }
