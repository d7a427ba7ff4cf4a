"""`avdrift command`: sends one command to a running avdrift over the broker, signed if the device requires it."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from device.config.constraints import Range
from device.config.file import DEFAULT_FILE, load_config
from device.config.settings import Config, MqttSettings
from device.errors import UsageError
from device.printable import printable
from device.records import Verb
from device.standards import PROFILE_NAMES

_TIMEOUT_S = Range(1, 600)
_DEFAULT_TIMEOUT_S = 60.0  # recalibrate takes 30 s
_ABOUT = (
    "Sends one command to an avdrift that runs, here or elsewhere, and prints its result. Broker, user, password and "
    "secret are those of the configuration file, unless they are given here."
)


def add_command_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    asked = commands.add_parser("command", help="send a command to a running avdrift over MQTT", description=_ABOUT)
    asked.add_argument("verb", choices=list(Verb), metavar="VERB", help=", ".join(Verb))
    asked.add_argument("--profile", choices=PROFILE_NAMES, help="for set-profile: the standard")
    asked.add_argument(
        "--allow-downgrade",
        action="store_true",
        help="for model-rollback: accept a version below the highest signed one",
    )
    asked.add_argument("--config", type=Path, metavar="FILE", help=f"default: {DEFAULT_FILE}, where it is there")
    asked.add_argument("--host", help="the broker")
    asked.add_argument("--node", help="name of the device in MQTT topics")
    asked.add_argument("--username", metavar="NAME", help="user name on the broker")
    asked.add_argument("--password-file", type=Path, metavar="FILE", help="file with the password of that user")
    asked.add_argument("--secret-file", type=Path, metavar="FILE", help="file with the secret that signs commands")
    asked.add_argument(
        "--timeout",
        type=float,
        default=_DEFAULT_TIMEOUT_S,
        metavar="S",
        help="seconds to wait for the result (default: %(default)g)",
    )
    asked.add_argument("--json", action="store_true", help="print the result as one JSON object")


def command_command(options: argparse.Namespace) -> int:
    """Send it and print the result. Raises UsageError if the device refuses, TransportError."""
    from device.telemetry.mqtt import access as mqtt_access  # imported here because most commands do not need it
    from device.telemetry.mqtt.request import Request
    from device.telemetry.mqtt.signed_command import read_command_secret
    from device.telemetry.mqtt.sink import topics_of

    if not _TIMEOUT_S.allows(options.timeout):
        raise UsageError(f"{options.timeout:g} s is not possible", where="--timeout", remedy=f"Give {_TIMEOUT_S} s")
    file = options.config or (DEFAULT_FILE if DEFAULT_FILE.is_file() else None)
    settings = _settings(load_config(file) if file else Config(), options)
    folder = file.parent if file else Path()
    secret_file = mqtt_access.command_secret_file(settings, folder)
    topics = topics_of(settings)
    request = Request(
        mqtt_access.access(settings, f"{topics.node}-command", folder), topics, options.verb, _arguments(options),
        read_command_secret(secret_file) if secret_file else None,
    )  # fmt: skip
    result = request.result(options.timeout)
    if options.json:
        print(json.dumps(result))
    if not result.get("ok"):
        what = f"refused: {printable(str(result.get('error')))}"
        raise UsageError(what, where=topics.node, remedy="See docs/mqtt.md")
    if not options.json:
        _print(result)
    return 0


def _settings(config: Config, options: argparse.Namespace) -> MqttSettings:
    given: dict[str, Any] = {
        name: value
        for name, value in (("host", options.host), ("node", options.node), ("username", options.username))
        if value is not None
    }
    files = (("password_file", options.password_file), ("commands_secret_file", options.secret_file))
    given |= {name: str(path.absolute()) for name, path in files if path is not None}
    if "commands_secret_file" in given:
        given["commands"] = "all"
    settings = replace(config.mqtt, **given)
    if not settings.host:
        raise UsageError("no broker is given", where="avdrift command", remedy="Give --host, or --config FILE with one")
    return settings


def _arguments(options: argparse.Namespace) -> dict[str, Any]:
    given: dict[str, Any] = {}
    if options.profile is not None:
        given["profile"] = options.profile
    if options.allow_downgrade:
        given["allow_downgrade"] = True
    return given


def _print(result: dict[str, Any]) -> None:
    more = {name: value for name, value in result.items() if name not in ("verb", "id", "ok", "error")}
    print(f"{result.get('verb')}: done")
    for name, value in more.items():
        print(f"  {printable(name)}: {printable(value if isinstance(value, str) else json.dumps(value))}")
