"""Reports, events and health over MQTT, and commands from it. A Sink: no broker disturbs measuring.

Under `avdrift/<node>/`: `availability`, `state`, `info`, `health` (retained), `event`, `cmd/<verb>` and
`cmd/<verb>/result`. All with QoS 1: an event may come twice after a lost connection, then with the same `boot_id` and
`seq`.
"""

from __future__ import annotations

import json
import logging
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from device.config.settings import MqttSettings
from device.records import Command, Event, Health, Info, Report
from device.telemetry.mqtt.access import access, command_secret_file, node_name
from device.telemetry.mqtt.command_parser import ALLOWED, Commands
from device.telemetry.mqtt.connection import Backoff, Connection, Phase
from device.telemetry.mqtt.homeassistant import BIRTH, birth_topic, discovery
from device.telemetry.mqtt.outbox import Outbox
from device.telemetry.mqtt.session import Presence
from device.telemetry.mqtt.signed_command import Verifier
from device.telemetry.mqtt.state_filter import StateFilter
from device.telemetry.mqtt.topics import Topics

_LOG = logging.getLogger(__name__)
DEFAULT_PREFIX = "avdrift"
_BIRTH_DELAY_S = 0.2, 3.0  # many devices must not answer at the same instant


def topics_of(settings: MqttSettings) -> Topics:
    """The topics of this device."""
    return Topics(settings.topic_prefix or DEFAULT_PREFIX, node_name(settings))


class MqttSink:
    """Starts to connect when it is made. Without a host it does nothing at all."""

    def __init__(
        self, settings: MqttSettings, *, report_every_s: float, folder: Path = Path(), backoff: Backoff | None = None
    ) -> None:
        """Relative paths of the settings start at `folder`."""
        self.topics = topics_of(settings)
        node = self.topics.node
        self._discovery_prefix = settings.discovery_prefix
        self._states = StateFilter(report_every_s, settings.state_every_s, only_changes=settings.only_changes)
        self._outbox = Outbox(int(settings.queue_events))
        secret = command_secret_file(settings, folder)
        self._verifier = Verifier(node, secret) if secret and settings.commands == "all" else None
        self._commands = Commands(settings.commands, self._result, self._refusal, verifier=self._verifier)
        self._allowed = ALLOWED[settings.commands]
        self._presence = Presence(self.topics.availability)
        self._birth: threading.Timer | None = None
        self._connection: Connection | None = None
        if not settings.host:
            return
        topics = [self.topics.command("+")] if self._allowed else []
        topics += [birth_topic(self._discovery_prefix)] if self._discovery_prefix else []
        broker_access = access(settings, node, folder)
        for warning in broker_access.warnings():
            _LOG.warning("%s", warning)
        self._connection = Connection(
            broker_access, self._outbox, self._presence, topics, self._handle_message, backoff or Backoff()
        )
        self._publish_discovery(None)
        self._connection.start()

    @property
    def phase(self) -> Phase:
        return self._connection.phase if self._connection else Phase.OFF

    @property
    def problem(self) -> str | None:
        """Why there is no connection, for a person; None if there is one or none is wanted."""
        return self._connection.problem if self._connection else None

    @property
    def events_lost(self) -> int:
        return self._outbox.events_lost

    @property
    def events_waiting(self) -> int:
        return self._outbox.events_waiting

    def submit_to(self, submit: Callable[[Command], None]) -> None:
        """Set the handler of commands; `submit` must not block, and raises UsageError for what it refuses."""
        self._commands.submit_to(submit)

    def report(self, report: Report) -> None:
        if self._verifier:
            self._verifier.clock_synced = report.clock_synced
        if self._states.admits(report):
            self._put(self._outbox.retain, self.topics.state, report.to_dict())

    def event(self, event: Event) -> None:
        self._put(self._outbox.event, self.topics.event, event.to_dict())

    def health(self, health: Health) -> None:
        self._put(self._outbox.retain, self.topics.health, health.to_dict())

    def info(self, info: Info) -> None:
        session = {"command_session": self._verifier.session} if self._verifier else {}
        self._put(self._outbox.retain, self.topics.info, info.to_dict() | session)
        self._publish_discovery(info)

    def close(self) -> None:
        if self._birth:
            self._birth.cancel()
        if self._connection and self._connection.phase is not Phase.STOPPED:
            self._connection.stop()
            if waiting := self._outbox.events_waiting:
                _LOG.warning("MQTT: %d events have not reached the broker", waiting)

    def _put(self, put: Callable[[str, bytes], None], topic: str, record: dict[str, Any]) -> None:
        if self._connection is None:
            return
        try:
            payload = json.dumps(record, separators=(",", ":"), allow_nan=False).encode()
        except (TypeError, ValueError) as error:
            _LOG.error("MQTT: nothing for %s, because this is not JSON (%s): %s", topic, error, record)
            return
        put(topic, payload)
        self._connection.wake()

    def _publish_discovery(self, info: Info | None) -> None:
        if self._discovery_prefix and self._connection:
            # Home Assistant cannot sign, so commands that must be signed get no button.
            allowed = ALLOWED["read"] if self._verifier else self._allowed
            payload = discovery(self.topics, self._states.longest_s, info, allowed)
            self._outbox.retain(self.topics.discovery(self._discovery_prefix), json.dumps(payload).encode())
            self._connection.wake()

    def _handle_message(self, topic: str, payload: bytes, retained: bool) -> None:
        if topic == birth_topic(self._discovery_prefix):
            if payload == BIRTH and not (self._birth and self._birth.is_alive()):
                self._birth = threading.Timer(random.uniform(*_BIRTH_DELAY_S), self._publish_all)
                self._birth.daemon = True
                self._birth.start()
            return
        self._commands.handle(topic.removeprefix(self.topics.command("")), payload, retained=retained)

    def _publish_all(self) -> None:
        self._outbox.publish_again(last=self.topics.availability)
        if self._connection:
            self._connection.wake()

    def _result(self, verb: str, result: bytes) -> None:
        self._outbox.result(self.topics.result(verb), result)
        if self._connection:
            self._connection.wake()

    def _refusal(self, verb: str, result: bytes) -> None:
        self._outbox.refusal(self.topics.result(verb), result)
        if self._connection:
            self._connection.wake()
