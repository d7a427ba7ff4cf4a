"""A rogue broker cannot fill the client's memory."""

from __future__ import annotations

import itertools
import socket
import threading
from contextlib import suppress
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from device.errors import TransportError
from device.telemetry.mqtt.client import BoundedClient

WELCOME = bytes([0x20, 3, 0, 0, 0])  # CONNACK: accepted, no properties
MESSAGE = bytes([8, 0, 2]) + b"ab" + bytes([0, 7, 0]) + b"x"  # to `ab`, with the number 7, without properties


def flood(listening: socket.socket, head: int) -> None:
    with suppress(OSError):
        taken, _ = listening.accept()
        taken.sendall(WELCOME)
        while True:
            taken.sendall((bytes([head]) + MESSAGE) * 1000)


@pytest.mark.parametrize(("qos", "words"), [(1, "reads nothing"), (2, "a message of QoS 2"), (3, "a message of QoS 3")])
def test_a_flood_from_a_broker_that_reads_nothing_ends_the_connection(qos: int, words: str) -> None:
    client = BoundedClient(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        threading.Thread(target=flood, args=[listening, 0x30 | qos << 1], daemon=True).start()
        client.connect(*listening.getsockname())
        sending: Any = client.socket()
        sending.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        with pytest.raises(TransportError, match=words):
            for _ in itertools.repeat(None, 200_000):
                client.loop_read()
        sending.close()
