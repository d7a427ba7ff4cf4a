"""The MQTT broker, where one is configured: can it be reached, does TLS hold, does it let us in."""

from __future__ import annotations

import importlib
import socket
import ssl
import sys
import threading
from pathlib import Path
from typing import Any

from device.commands.devices import is_installed
from device.config.settings import Config
from device.doctor.finding import Look, ok, warning
from device.errors import TransportError

TIMEOUT_S = 5.0


def broker(config: Config, folder: Path) -> Look:
    """Connect as the daemon would, under another client's name, and leave. Raises TransportError."""
    settings = getattr(config, "mqtt", None)
    if settings is None or not settings.host:
        return ok("none is configured")
    from device.telemetry.mqtt import access as mqtt_access

    access = mqtt_access.access(settings, f"{mqtt_access.node_name(settings)}-doctor", folder)
    try:
        version = _reach(access)
        what = f"{access.where} can be reached" + (f" with {version}" if version else "")
        if not is_installed("paho"):
            remedy = f"Install it: {sys.executable} -m pip install paho-mqtt"
            return warning(f"{what}; without paho-mqtt nothing can be sent", remedy)
        answer = _let_in(access)
    except (OSError, TransportError) as error:
        raise mqtt_access.explained(error, access).error from error
    if answer is None:
        what = f"took the connection, but gave no answer in {TIMEOUT_S:g} s"
        raise TransportError(what, where=access.where, remedy="Check that this port is an MQTT broker's, and its log")
    if answer != "Success":
        raise mqtt_access.broker_refusal(answer, access).error
    return ok(f"{what}, and lets {access.username or 'us without a name'} in")


def _reach(access: Any) -> str | None:
    """The version of TLS, if there is any. Raises OSError, TransportError."""
    with socket.create_connection((access.host, access.port), TIMEOUT_S) as plain:
        if not access.tls:
            return None
        context: ssl.SSLContext = access.context()
        with context.wrap_socket(plain, server_hostname=access.host) as wrapped:
            return wrapped.version()


def _let_in(access: Any) -> str | None:
    """The broker's answer to our name and password; None without one."""
    paho: Any = importlib.import_module("paho.mqtt.client")
    answered = threading.Event()
    answers: list[str] = []

    def on_connect(client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        answers.append(str(reason))
        answered.set()

    client = paho.Client(paho.CallbackAPIVersion.VERSION2, access.client_id, protocol=paho.MQTTv5)
    client.on_connect = on_connect
    client.connect_timeout = TIMEOUT_S
    if access.username:
        client.username_pw_set(access.username, access.password())
    if access.tls:
        client.tls_set_context(access.context())
    try:
        client.connect(access.host, access.port, keepalive=access.keepalive_s)
        client.loop_start()
        answered.wait(TIMEOUT_S)
    finally:
        client.disconnect()
        client.loop_stop()
    return answers[0] if answers else None
