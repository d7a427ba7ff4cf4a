"""Server-sent events: the daemon's records and the live view, to a few clients at once.

A client that does not read is disconnected, without delaying others. Images and levels are made once for all, five
times a second, only while a client asks for them. Messages are sent at once, not by a task for each client, because
each wake-up of a task costs a small computer as much as a message.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from starlette.types import Receive, Send

from device.clock import Clock
from device.page.connections import Connections, Peer
from device.page.live import EVERY_S, LiveMessages, curve
from device.records import NS_PER_S
from device.reporting.live_view import LiveView

MAX_CLIENTS = 8
_WATCHED_FOR_NS = 2 * NS_PER_S
_MAX_SHARE = 0.06  # of a core, for images: a slower computer shows fewer of them
RETRY = b"retry: 2000\n\n"
PING = b": still here\n\n"
_HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8")]
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


@dataclass(eq=False)
class _Client:
    peer: Peer
    live: bool
    send: Send

    def write(self, payload: bytes) -> bool:
        """Send without waiting; False if the client has not read so much that this is impossible."""
        sending = self.send({"type": "http.response.body", "body": payload, "more_body": True})
        try:
            sending.send(None)  # type: ignore[attr-defined]  # uvicorn's is a coroutine that waits only for that
        except StopIteration:
            return True
        sending.close()  # type: ignore[attr-defined]
        return False


class Streams:
    """All clients of the stream. For one event loop."""

    def __init__(self, view: LiveView, clock: Clock, connections: Connections, pictures: str) -> None:
        self._view, self._clock, self._connections = view, clock, connections
        self._messages = LiveMessages(view, clock, pictures)
        self._clients: set[_Client] = set()
        self._ticking = False
        self._curve_ns = 0

    def __len__(self) -> int:
        return len(self._clients)

    @property
    def full(self) -> bool:
        return len(self._clients) >= MAX_CLIENTS

    def publish(self, kind: str, content: dict[str, Any]) -> None:
        """Send an event to every client."""
        self._put(message(kind, content), self._clients)

    def ping(self) -> None:
        """Detect disconnected clients of which nothing is heard while there is nothing to send."""
        self._put(PING, [client for client in self._clients if not client.live])

    async def serve(self, peer: Peer, first: list[bytes], receive: Receive, send: Send, *, live: bool) -> None:
        """Respond to one client until it disconnects."""
        client = _Client(peer, live, send)
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        self._clients.add(client)
        try:
            self._put(RETRY + b"".join(first), [client])
            if live and not self._ticking:
                self._tick(asyncio.get_running_loop().time())
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            self._clients.discard(client)

    def _put(self, payload: bytes, clients: Iterable[_Client]) -> None:
        for client in list(clients):
            if client.write(payload):
                self._connections.begin(client.peer)
            else:
                self._clients.discard(client)
                self._connections.drop(client.peer)

    def _tick(self, due_s: float) -> None:
        """Send a live message and what is new of the curve, now and then every 0.2 s."""
        self._ticking = False
        clients = [client for client in self._clients if client.live]
        if not clients:
            return
        begun_s = time.thread_time()
        self._view.watch_until(self._clock.now_ns() + _WATCHED_FOR_NS)
        payload = message("live", self._messages.next())
        found = self._view.curve
        if found is not None and found.put_ns != self._curve_ns and (content := curve(self._view)):
            self._curve_ns = found.put_ns
            payload += message("curve", content)
        self._put(payload, clients)
        loop = asyncio.get_running_loop()
        next_s = max(due_s + max(EVERY_S, (time.thread_time() - begun_s) / _MAX_SHARE), loop.time())
        loop.call_at(next_s, self._tick, next_s)
        self._ticking = True


def message(kind: str, content: dict[str, Any]) -> bytes:
    """One event in the HTML standard's event stream format."""
    return f"event: {kind}\ndata: {_encode(content)}\n\n".encode()
