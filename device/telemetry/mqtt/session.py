"""One connection to a broker, from its socket to its end: sends the outbox, receives commands."""

from __future__ import annotations

import os
import select
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, LogLevel, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from device.errors import TransportError
from device.telemetry.mqtt.access import Access, ConnectionEnd, broker_refusal, explained, tls_refusal
from device.telemetry.mqtt.client import MAX_PACKET_BYTES, MAX_QOS, BoundedClient
from device.telemetry.mqtt.outbox import WINDOW, Kind, Message, Outbox

_CONNACK_TIMEOUT_S = 15.0  # from the socket to the broker's CONNACK
_POLL_TIMEOUT_S = 1.0
_FLUSH_TIMEOUT_S, _DISCONNECT_TIMEOUT_S = 0.35, 0.45  # together less than a sink may take to close
_PACKET_HEAD_BYTES = 16


@dataclass(frozen=True, slots=True)
class Presence:
    """The topic of the device's availability, and its three payloads."""

    topic: str
    online: bytes = b"online"
    stopped: bytes = b"stopped"
    offline: bytes = b"offline"  # published by the broker after a connection is lost


@dataclass(frozen=True, slots=True)
class Listener:
    """Callbacks of a session. They run in its thread and must not raise."""

    online: Callable[[], None]
    heard: Callable[[str, bytes, bool], None]  # topic, payload, retained
    log_once: Callable[[str], None]  # a problem worth reporting that does not end the session
    stopping: Callable[[], bool]


class Wakeup:
    """Wakes the thread that polls it. Ringing never blocks, even if nobody listens any more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fd: int | None = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def ring(self) -> None:
        with self._lock:
            if self._fd is not None:
                os.eventfd_write(self._fd, 1)

    def wait(self, timeout_s: float, sock: Any = None, *, writing: bool = False) -> bool:
        """Wait until it rings, the socket is ready, or the time is over; return whether to read."""
        poll = select.poll()
        if self._fd is not None:
            poll.register(self._fd, select.POLLIN)
        if sock is not None:
            poll.register(sock, select.POLLIN | (select.POLLOUT if writing else 0))
        ready = dict(poll.poll(timeout_s * 1000))
        if self._fd in ready:
            os.eventfd_read(self._fd)
        return sock is not None and bool(ready.get(sock.fileno(), 0) & ~select.POLLOUT)

    def close(self) -> None:
        with self._lock:
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None


class Session:
    """A session: runs once, in one thread."""

    def __init__(
        self,
        access: Access,
        outbox: Outbox,
        presence: Presence,
        topics: Sequence[str],
        listener: Listener,
        wakeup: Wakeup,
    ) -> None:
        self._access, self._outbox, self._presence = access, outbox, presence
        self._topics, self._listener, self._wakeup = topics, listener, wakeup
        self._online = False
        self._only: str | None = None  # the only topic that may still be sent
        self._ended: ConnectionEnd | None = None
        self._window, self._max_packet_bytes = WINDOW, MAX_PACKET_BYTES * 4
        self._last_error = ""  # from paho's log: the only place where a TLS alert shows
        self._started_s = time.monotonic()

    def run(self) -> ConnectionEnd:
        """Block until the connection has ended; return why. Messages in flight are back in the outbox."""
        client = None
        try:
            client = self._client()
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.MaximumPacketSize = MAX_PACKET_BYTES
            access = self._access
            client.connect(access.host, access.port, access.keepalive_s, clean_start=True, properties=properties)
            while self._ended is None and not self._listener.stopping():
                self._step(client, _POLL_TIMEOUT_S)
            if self._ended is None:
                self._disconnect(client)
        except Exception as error:  # paho may raise anything if a broker sends invalid data
            self._ended = self._ended or explained(error, self._access)
        finally:
            if client and (sock := client.socket()):
                sock.close()
            self._outbox.connection_lost()
        return self._ended or ConnectionEnd(False, self._error("said goodbye to", ""))

    def _client(self) -> BoundedClient:
        client = BoundedClient(
            CallbackAPIVersion.VERSION2, self._access.client_id, protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )  # fmt: skip
        client.will_set(self._presence.topic, self._presence.offline, qos=MAX_QOS, retain=True)
        if self._access.username:
            client.username_pw_set(self._access.username, self._access.password())
        if self._access.tls:
            client.tls_set_context(self._access.context())
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_publish, client.on_subscribe = self._on_publish, self._on_subscribe
        client.on_message, client.on_log = self._on_message, self._on_log
        return client

    def _step(self, client: BoundedClient, timeout_s: float) -> None:
        """Read what has come, send what waits, and check that the broker is alive."""
        self._read(client, 0.0)  # shows why the broker disconnects, before a write fails
        while self._online and self._ended is None:
            message = self._outbox.next_message(self._window, time.monotonic(), only=self._only)
            if message is None:
                break
            self._send(client, message)
        self._read(client, timeout_s)
        if client.want_write() and self._ended is None:
            client.loop_write()
        if self._ended is None:
            client.loop_misc()
        if self._ended is None:
            self._check_timeouts()

    def _read(self, client: BoundedClient, timeout_s: float) -> None:
        sock = client.socket()
        if sock is None or self._ended:
            self._ended = self._ended or self._lost()
            return
        readable = self._wakeup.wait(timeout_s, sock, writing=client.want_write())
        # TLS may have decrypted more than was read: poll does not show the rest.
        while readable and self._ended is None:
            client.loop_read()
            readable = isinstance(sock, ssl.SSLSocket) and sock.fileno() >= 0 and sock.pending() > 0

    def _check_timeouts(self) -> None:
        now_s, oldest_s = time.monotonic(), self._outbox.oldest_sent_s()
        if not self._online and now_s - self._started_s > _CONNACK_TIMEOUT_S:
            self._ended = ConnectionEnd(False, self._error("does not answer", "Check that this port speaks MQTT"))
        elif oldest_s is not None and now_s - oldest_s > self._access.keepalive_s:
            self._ended = ConnectionEnd(False, self._error("accepts messages but acknowledges none", "Check its log"))

    def _send(self, client: BoundedClient, message: Message) -> None:
        now_s = time.monotonic()
        size = len(message.topic.encode()) + len(message.payload) + _PACKET_HEAD_BYTES
        if size > self._max_packet_bytes:
            self._outbox.sent(0, message, now_s)
            self._outbox.refused(0, now_s, pause_topic=False)
            self._listener.log_once(f"the broker takes no {size} bytes, so nothing for {message.topic}")
            return
        message_id = 0  # an invalid id: if paho raises, the message counts as unacknowledged, and so is sent again
        try:
            retain = message.kind is Kind.RETAINED
            message_id = client.publish(message.topic, message.payload, qos=MAX_QOS, retain=retain).mid
        finally:
            self._outbox.sent(message_id, message, now_s)

    def _disconnect(self, client: BoundedClient) -> None:
        """Send what waits, then `stopped`, then DISCONNECT."""
        if not self._online:
            return
        until_s = time.monotonic() + _FLUSH_TIMEOUT_S
        while self._ended is None and self._outbox.events_waiting and time.monotonic() < until_s:
            self._step(client, 0.05)
        self._only = self._presence.topic
        self._outbox.retain(self._presence.topic, self._presence.stopped)
        until_s = time.monotonic() + _DISCONNECT_TIMEOUT_S
        # Closing a socket with unread data resets the connection, and what was written last would be lost.
        while self._ended is None and not self._outbox.is_done(self._presence.topic) and time.monotonic() < until_s:
            self._step(client, 0.02)
        if self._ended is None:
            client.disconnect()

    def _on_connect(self, client: paho.Client, _: Any, __: Any, reason: ReasonCode, properties: Any) -> None:
        if reason.is_failure:
            self._ended = broker_refusal(reason.getName(), self._access)
            return
        self._online = True
        self._window = max(1, min(WINDOW, getattr(properties, "ReceiveMaximum", WINDOW)))
        self._max_packet_bytes = getattr(properties, "MaximumPacketSize", self._max_packet_bytes)
        # A retained command or birth message is old.
        options = SubscribeOptions(
            qos=MAX_QOS, retainAsPublished=True, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND
        )  # fmt: skip
        if self._topics:  # paho does not accept an empty list
            client.subscribe([(topic, options) for topic in self._topics])
        self._outbox.retain(self._presence.topic, self._presence.online)
        self._listener.online()

    def _on_disconnect(self, _: paho.Client, __: Any, flags: Any, reason: ReasonCode, ___: Any) -> None:
        if self._ended is None:
            by_broker = flags.is_disconnect_packet_from_server
            self._ended = broker_refusal(reason.getName(), self._access) if by_broker else self._lost()

    def _on_publish(self, _: paho.Client, __: Any, message_id: int, reason: ReasonCode, ___: Any) -> None:
        if not reason.is_failure:
            self._outbox.acknowledged(message_id)
        elif message := self._outbox.refused(message_id, time.monotonic()):
            remedy = "Let this user write there"
            self._listener.log_once(f"the broker refuses {message.topic} ({reason.getName().lower()}). {remedy}")

    def _on_subscribe(self, _: paho.Client, __: Any, ___: int, reasons: list[ReasonCode], ____: Any) -> None:
        for topic, reason in zip(self._topics, reasons, strict=False):
            if reason.is_failure:
                self._listener.log_once(f"the broker does not let avdrift read {topic} ({reason.getName().lower()})")

    def _on_message(self, _: paho.Client, __: Any, message: paho.MQTTMessage) -> None:
        self._listener.heard(message.topic, bytes(message.payload), message.retain)

    def _on_log(self, _: paho.Client, __: Any, level: int, text: str) -> None:
        if level == LogLevel.MQTT_LOG_ERR:
            self._last_error = text

    def _lost(self) -> ConnectionEnd:
        if refusal := tls_refusal(self._last_error, self._access):
            return refusal
        if self._online:
            return ConnectionEnd(False, self._error("the connection was lost", "Check the network and the broker"))
        hint = "plain MQTT" if self._access.tls else "TLS (then set tls = true)"
        what = "closed the connection instead of an answer, or sent something that is not MQTT 5"
        return ConnectionEnd(False, self._error(what, f"Check that this port does not speak {hint}"))

    def _error(self, what: str, remedy: str) -> TransportError:
        return TransportError(what, where=self._access.where, remedy=remedy)
