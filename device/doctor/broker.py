"""Checks the MQTT broker, if configured: whether it can be reached, TLS works, and it accepts the login."""

from __future__ import annotations

import importlib
import socket
import ssl
import sys
import time
from pathlib import Path
from typing import Any

from device.commands.devices import is_installed
from device.config.settings import Config
from device.doctor.finding import CheckResult, ok, warning
from device.errors import TransportError

TIMEOUT_S = 5.0
# MQTT 5, 3.1: protocol level 5, a clean start, a keep-alive of 10 s, without properties and without a name.
_CONNECT = bytes([0x10, 13, 0, 4, *b"MQTT", 5, 2, 0, 10, 0, 0, 0])
_CONNACK = bytes([0x20])
_POLL_S = 0.2


def broker(config: Config, folder: Path) -> CheckResult:
    """Connect as the daemon would, under another client's name, and disconnect. Raises TransportError."""
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
        answer = _log_in(access)
    except (OSError, TransportError) as error:
        if isinstance(error, ssl.SSLError | ConnectionResetError) and access.tls and _speaks_plain(access):
            remedy = "Give the port of its TLS listener, or set tls = false under [mqtt]"
            raise TransportError("this port speaks MQTT without TLS", where=access.where, remedy=remedy) from error
        raise mqtt_access.explained(error, access).error from error
    if answer is None:
        if not access.tls and _speaks_tls(access):
            remedy = "Set tls = true under [mqtt], or give the port of its plain listener"
            raise TransportError("this port speaks TLS", where=access.where, remedy=remedy)
        what = f"accepted the connection, but did not answer within {TIMEOUT_S:g} s"
        raise TransportError(what, where=access.where, remedy="Check that this port is an MQTT broker's, and its log")
    if answer != "Success":
        raise mqtt_access.broker_refusal(answer, access).error
    what = f"{what}, and lets {access.username or 'us without a name'} in"
    if unwise := access.warnings():
        return warning(f"{what}; but: {unwise[0].what}", f"{unwise[0].where}: {unwise[0].remedy}")
    return ok(what)


def _speaks_tls(access: Any) -> bool:
    """Whether a port answers a TLS greeting, whatever its certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((access.host, access.port), TIMEOUT_S) as plain, context.wrap_socket(plain):
            return True
    except ssl.SSLError as error:
        return "ALERT" in str(error)  # it requires a client certificate, for example
    except OSError:
        return False


def _speaks_plain(access: Any) -> bool:
    """Whether a port answers an MQTT 5 CONNECT with any CONNACK."""
    try:
        with socket.create_connection((access.host, access.port), TIMEOUT_S) as plain:
            plain.sendall(_CONNECT)
            return plain.recv(1) == _CONNACK
    except OSError:
        return False


def _reach(access: Any) -> str | None:
    """The TLS version, if TLS is used. Raises OSError, TransportError."""
    with socket.create_connection((access.host, access.port), TIMEOUT_S) as plain:
        if not access.tls:
            return None
        context: ssl.SSLContext = access.context()
        with context.wrap_socket(plain, server_hostname=access.host) as wrapped:
            return wrapped.version()


def _log_in(access: Any) -> str | None:
    """The broker's answer to our name and password; None without an answer. Raises OSError, TransportError."""
    paho: Any = importlib.import_module("paho.mqtt.client")
    bounded: Any = importlib.import_module("device.telemetry.mqtt.client")
    answers: list[str] = []
    client = bounded.BoundedClient(paho.CallbackAPIVersion.VERSION2, access.client_id, protocol=paho.MQTTv5)
    client.on_connect = lambda client, userdata, flags, reason, properties: answers.append(str(reason))
    client.connect_timeout = TIMEOUT_S
    if access.username:
        client.username_pw_set(access.username, access.password())
    if access.tls:
        client.tls_set_context(access.context())
    try:
        client.connect(access.host, access.port, keepalive=access.keepalive_s)
        until_s = time.monotonic() + TIMEOUT_S
        while not answers and time.monotonic() < until_s and client.loop(_POLL_S) == paho.MQTT_ERR_SUCCESS:
            continue
    finally:
        client.disconnect()
    return answers[0] if answers else None
