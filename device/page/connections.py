"""The page's connections: few, and none idle for long, so that no client shuts out others.

A connection beyond the limit replaces the one that has been idle for longest. If none is idle, or too many come within
a second, it is closed at once, which costs microseconds.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

Peer: TypeAlias = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Limits:
    connections: int = 40
    connections_per_s: float = 20.0
    requests_per_s: float = 40.0
    burst: float = 80.0
    idle_s: float = 10.0  # for a complete request to arrive
    answer_s: float = 15.0  # for a response to be read


class Bucket:
    """A token bucket: a rate per second, and a burst."""

    def __init__(self, per_s: float, burst: float, now_s: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._burst, self._now_s = per_s, burst, now_s
        self._left, self._seen_s = burst, now_s()

    def take(self) -> float:
        """Take one; return 0, or the seconds to wait for one."""
        now_s = self._now_s()
        self._left = min(self._left + (now_s - self._seen_s) * self._per_s, self._burst) - 1
        self._seen_s = now_s
        return max(-self._left / self._per_s, 0.0)

    def give_back(self) -> None:
        """Return one that was not used."""
        self._left += 1


@dataclass(slots=True)
class _Connection:
    socket: socket.socket
    idle: bool
    until_s: float


class Connections:
    """The connections of one server, by the client's address and port. For one thread."""

    def __init__(self, limits: Limits, now_s: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._now_s = limits, now_s
        self._open: dict[Peer, _Connection] = {}
        self._coming = Bucket(limits.connections_per_s, limits.burst, now_s)
        self.refused = 0

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: socket.socket, peer: Peer) -> bool:
        """Whether a new connection may stay."""
        if self._coming.take() > 0:
            self._coming.give_back()
            self.refused += 1
            return False
        if len(self._open) >= self._limits.connections:
            self.sweep()
        if len(self._open) >= self._limits.connections:
            idle = [(one.until_s, other) for other, one in self._open.items() if one.idle]
            if not idle:
                self.refused += 1
                return False
            self.drop(min(idle)[1])
        self._open[peer] = _Connection(connection, True, self._now_s() + self._limits.idle_s)
        return True

    def begin(self, peer: Peer, longest_s: float | None = None) -> None:
        """A request has come, or its response continues; it may take this long until the next such call."""
        if (one := self._open.get(peer)) is not None:
            one.idle, one.until_s = False, self._now_s() + (longest_s or self._limits.answer_s)

    def end(self, peer: Peer) -> None:
        """The request is answered."""
        if (one := self._open.get(peer)) is not None:
            one.idle, one.until_s = True, self._now_s() + self._limits.idle_s

    def sweep(self) -> None:
        """Forget closed connections, and close those that have taken too long."""
        now_s = self._now_s()
        for peer, one in list(self._open.items()):
            if one.socket.fileno() < 0:
                del self._open[peer]
            elif now_s > one.until_s:
                self.drop(peer)

    def drop(self, peer: Peer) -> None:
        if (one := self._open.pop(peer, None)) is not None:
            with suppress(OSError):  # it is already gone
                one.socket.shutdown(socket.SHUT_RDWR)

    def drop_all(self) -> None:
        for peer in list(self._open):
            self.drop(peer)


class Listener(socket.socket):
    """A listening socket that accepts only what Connections admits."""

    connections: Connections

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        """Raises ConnectionAbortedError for one that was not admitted; asyncio then treats it as gone already."""
        connection, address = super().accept()
        if not self.connections.admit(connection, (address[0], address[1])):
            connection.close()
            raise ConnectionAbortedError
        return connection, address


def listen(address: str, port: int, connections: Connections) -> Listener:
    """A listening socket at an address of this computer; `::` accepts IPv4 as well. Raises OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        made = Listener(family, socket.SOCK_STREAM)
    except OSError:  # a kernel without IPv6
        if address != "::":
            raise
        return listen("0.0.0.0", port, connections)
    try:
        made.connections = connections
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind((address, port))
        made.setblocking(False)
    except OSError:
        made.close()
        raise
    return made
