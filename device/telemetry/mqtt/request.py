"""Sends one command to a device over the broker and waits for its result: `avdrift command`."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode

from device.errors import TransportError
from device.telemetry.mqtt.access import Access, broker_refusal, explained
from device.telemetry.mqtt.client import MAX_QOS, BoundedClient
from device.telemetry.mqtt.signed_command import signed
from device.telemetry.mqtt.topics import Topics

_POLL_S = 0.2
_CONNECT_TIMEOUT_S = 10.0  # until the broker has accepted the connection and sent the device's retained messages


class Request:
    """A request: runs once, in the thread that calls `result`."""

    def __init__(
        self, access: Access, topics: Topics, verb: str, arguments: dict[str, Any], secret: bytes | None
    ) -> None:
        """secret: signs the command, for devices that require it."""
        self._access, self._topics, self._verb, self._secret = access, topics, verb, secret
        self._id = secrets.token_hex(8)
        self._arguments = arguments
        self._error: TransportError | None = None
        self._result: dict[str, Any] | None = None
        self._info: dict[str, Any] | None = None
        client = BoundedClient(CallbackAPIVersion.VERSION2, f"{access.client_id}-{self._id}", protocol=paho.MQTTv5)
        client.connect_timeout = _CONNECT_TIMEOUT_S
        client.on_connect, client.on_message = self._on_connect, self._on_message
        self._client = client

    def result(self, timeout_s: float) -> dict[str, Any]:
        """Send the command and return the device's answer. Raises TransportError."""
        access, client = self._access, self._client
        try:
            if access.username:
                client.username_pw_set(access.username, access.password())
            if access.tls:
                client.tls_set_context(access.context())
            client.connect(access.host, access.port, access.keepalive_s)
            self._wait(lambda: self._info is not None, _CONNECT_TIMEOUT_S, f"knows no device {self._topics.node}")
            self._send()
            self._wait(lambda: self._result is not None, timeout_s, f"delivered no result within {timeout_s:g} s")
        except TransportError:
            raise
        except Exception as error:  # paho may raise anything if a broker sends invalid data
            raise explained(error, access).error from error
        finally:
            client.disconnect()
        assert self._result is not None
        return self._result

    def _wait(self, done: Callable[[], bool], timeout_s: float, what: str) -> None:
        until_s = time.monotonic() + timeout_s
        while not done():
            code = self._client.loop(_POLL_S)
            if self._error:
                raise self._error
            if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
                raise self._fault("the connection was lost", "Check the broker's log")
            if time.monotonic() > until_s:
                raise self._fault(what, "Check that avdrift runs there, node and topic_prefix under [mqtt]")

    def _send(self) -> None:
        session = (self._info or {}).get("command_session")
        payload: dict[str, Any] = self._arguments
        if self._secret is not None and isinstance(session, str):
            payload = signed(self._secret, self._topics.node, self._verb, session, payload)
        self._client.publish(self._topics.command(self._verb), json.dumps(payload | {"id": self._id}), qos=MAX_QOS)

    def _on_connect(self, client: paho.Client, _: Any, __: Any, reason: ReasonCode, ___: Any) -> None:
        if reason.is_failure:
            self._error = broker_refusal(reason.getName(), self._access).error
            return
        client.subscribe([(topic, MAX_QOS) for topic in (self._topics.info, self._topics.result(self._verb))])

    def _on_message(self, _: paho.Client, __: Any, message: paho.MQTTMessage) -> None:
        try:
            content = json.loads(message.payload)
        except (ValueError, RecursionError):
            return
        if not isinstance(content, dict):
            return
        if message.topic == self._topics.info:
            self._info = content
        elif content.get("id") == self._id:
            self._result = content

    def _fault(self, what: str, remedy: str) -> TransportError:
        return TransportError(what, where=self._access.where, remedy=remedy)
