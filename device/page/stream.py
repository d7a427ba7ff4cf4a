"""Server-sent events: the daemon's records and the live view, to a few clients at once.

Each client has a short queue: a client that does not read is disconnected, without delaying others. Images and levels
are made once for all, five times a second, only while a client asks for them.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from device.clock import Clock
from device.page.connections import Connections, Peer
from device.page.live import EVERY_S, LiveMessages, curve
from device.records import NS_PER_S
from device.reporting.live_view import LiveView

MAX_CLIENTS = 8
_MAX_WAITING = 64
_WATCHED_FOR_NS = 2 * NS_PER_S
_MAX_SHARE = 0.06  # of a core, for images: a slower computer shows fewer of them
RETRY = b"retry: 2000\n\n"
PING = b": still here\n\n"


@dataclass(eq=False)
class _Client:
    peer: Peer
    live: bool
    waiting: asyncio.Queue[bytes] = field(default_factory=lambda: asyncio.Queue(_MAX_WAITING))


class Streams:
    """All clients of the stream. For one event loop."""

    def __init__(self, view: LiveView, clock: Clock, connections: Connections, pictures: str) -> None:
        self._view, self._clock, self._connections = view, clock, connections
        self._messages = LiveMessages(view, clock, pictures)
        self._clients: set[_Client] = set()
        self._ticking: asyncio.Task[None] | None = None
        self._curve_ns = 0

    def __len__(self) -> int:
        return len(self._clients)

    @property
    def full(self) -> bool:
        return len(self._clients) >= MAX_CLIENTS

    def publish(self, kind: str, content: dict[str, Any]) -> None:
        """Send an event to every client."""
        self._put(message(kind, content), live=False)

    def ping(self) -> None:
        """Detect disconnected clients while there is nothing to send."""
        self._put(PING, live=False)

    async def lines(self, peer: Peer, first: list[bytes], *, live: bool) -> AsyncIterator[bytes]:
        """The data for one client, until it disconnects."""
        client = _Client(peer, live)
        self._clients.add(client)
        if live and (self._ticking is None or self._ticking.done()):
            self._ticking = asyncio.create_task(self._tick())
        try:
            yield RETRY + b"".join(first)
            while client in self._clients:
                self._connections.begin(peer)  # the last part was sent
                waiting = [await client.waiting.get()]
                while not client.waiting.empty():  # sending costs more than joining
                    waiting.append(client.waiting.get_nowait())
                yield b"".join(waiting)
        finally:
            self._clients.discard(client)

    def _put(self, payload: bytes, *, live: bool) -> None:
        for client in list(self._clients):
            if live and not client.live:
                continue
            try:
                client.waiting.put_nowait(payload)
            except asyncio.QueueFull:
                self._clients.discard(client)
                self._connections.drop(client.peer)

    async def _tick(self) -> None:
        while any(client.live for client in self._clients):
            begun_s = time.thread_time()
            self._view.watch_until(self._clock.now_ns() + _WATCHED_FOR_NS)
            self._put(message("live", self._messages.next()), live=True)
            found = self._view.curve
            if found is not None and found.put_ns != self._curve_ns and (content := curve(self._view)):
                self._curve_ns = found.put_ns
                self._put(message("curve", content), live=True)
            await asyncio.sleep(max(EVERY_S, (time.thread_time() - begun_s) / _MAX_SHARE))


def message(kind: str, content: dict[str, Any]) -> bytes:
    """One event in the HTML standard's event stream format."""
    return f"event: {kind}\ndata: {json.dumps(content, separators=(',', ':'), allow_nan=False)}\n\n".encode()
