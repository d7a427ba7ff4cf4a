"""paho's client with bounds on what a broker can make it store."""

from __future__ import annotations

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode

from device.errors import TransportError

MAX_PACKET_BYTES = 65_536  # limit for incoming packets; a longer one is no command
MAX_QOS = 1
_MAX_WAITING = 1000  # packets that the broker does not read, mostly acknowledgements of its own
_QOS_SHIFT, _QOS_MASK = 1, 0b11  # of the first byte of PUBLISH (MQTT 5, 3.3.1)


class BoundedClient(paho.Client):
    """Ends the connection of a broker that would fill memory. Raises TransportError from its loop methods."""

    def _sock_recv(self, bufsize: int) -> bytes:
        """Refuse to allocate up to 256 MB for a packet length that the broker merely claims."""
        if bufsize > MAX_PACKET_BYTES:
            raise self._refused(f"announces a packet of {bufsize} bytes")
        if len(self._out_packet) > _MAX_WAITING:
            raise self._refused("sends without end, and reads nothing")
        return super()._sock_recv(bufsize)

    def _handle_publish(self) -> MQTTErrorCode:
        """Nothing here subscribes to QoS 2, for which paho keeps each message until the broker releases it."""
        qos = self._in_packet["command"] >> _QOS_SHIFT & _QOS_MASK
        if qos > MAX_QOS:
            raise self._refused(f"sends a message of QoS {qos}, where QoS {MAX_QOS} was asked for")
        return super()._handle_publish()

    def _refused(self, what: str) -> TransportError:
        where = f"MQTT broker {self.host}:{self.port}"
        return TransportError(what, where=where, remedy="Check that this is the broker that you mean")
