"""Server-sent events: the daemon's records and the live view, to a few clients at once.

A client that does not read is disconnected, without delaying others. Images and levels are made once for all, five
times a second, only while a client asks for them. Messages are written straight to the transport, records together with
the next image, because each wake-up of a thread and each layer in between costs a small computer as much as a message.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.types import Receive, Scope, Send

from device.clock import Clock
from device.page.connections import Connections, Peer
from device.page.live import EVERY_S, LiveMessages, curve
from device.page.server import TRANSPORT
from device.records import NS_PER_S, Event, Health, Info, Report
from device.reporting.live_view import LiveView

MAX_CLIENTS = 8
_MAX_WAITING = 100  # records
_WATCHED_FOR_NS = 2 * NS_PER_S
_MAX_SHARE = 0.06  # of a core, for images: a slower computer shows fewer of them
_MAX_UNREAD_BYTES = 262_144  # ten seconds of the live view
RETRY = b"retry: 2000\n\n"
PING = b": still here\n\n"
_HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8")]
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


@dataclass(eq=False)
class _Client:
    peer: Peer
    live: bool
    transport: asyncio.Transport
    chunked: bool

    def write(self, payload: bytes) -> bool:
        """Send without waiting; False if the client has gone, or has left too much unread."""
        if self.transport.is_closing() or self.transport.get_write_buffer_size() > _MAX_UNREAD_BYTES:
            return False
        self.transport.write(b"%x\r\n%b\r\n" % (len(payload), payload) if self.chunked else payload)
        return True


class Streams:
    """All clients of the stream. For one event loop, but for `publish`."""

    def __init__(
        self, view: LiveView, clock: Clock, connections: Connections, pictures: str, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._view, self._clock, self._connections, self._loop = view, clock, connections, loop
        self._messages = LiveMessages(view, clock, pictures)
        self._clients: set[_Client] = set()
        self._waiting: deque[tuple[str, Report | Event | Health | Info]] = deque(maxlen=_MAX_WAITING)
        self._ticking = False
        self._curve_ns = 0

    def __len__(self) -> int:
        return len(self._clients)

    @property
    def full(self) -> bool:
        return len(self._clients) >= MAX_CLIENTS

    def publish(self, kind: str, record: Report | Event | Health | Info) -> None:
        """Send a record to every client, at once or with the next image. Safe from any thread."""
        if self._clients:
            self._waiting.append((kind, record))
            if not self._ticking:
                with suppress(RuntimeError):  # the loop has ended
                    self._loop.call_soon_threadsafe(self._flush)

    def ping(self) -> None:
        """Detect disconnected clients of which nothing is heard while there is nothing to send."""
        self._put(PING, [client for client in self._clients if not client.live])

    async def serve(
        self, scope: Scope, peer: Peer, first: list[bytes], receive: Receive, send: Send, *, live: bool
    ) -> None:
        """Respond to one client until it disconnects."""
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        # From here on the body is written past uvicorn, in the framing that it has just announced.
        client = _Client(peer, live, scope["state"][TRANSPORT], scope["http_version"] == "1.1")
        self._clients.add(client)
        try:
            self._put(RETRY + b"".join(first), [client])
            if live and not self._ticking:
                self._tick(self._loop.time())
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

    def _flush(self, live: bytes = b"") -> None:
        """Send the records that wait, and to those who asked for it what is live."""
        records = b""
        while self._waiting:
            kind, record = self._waiting.popleft()
            records += message(kind, record.to_dict())
        if records:
            self._put(records, [client for client in self._clients if not (live and client.live)])
        if live:
            self._put(live + records, [client for client in self._clients if client.live])

    def _tick(self, due_s: float) -> None:
        """Send a live message and what is new of the curve, now and then every 0.2 s."""
        self._ticking = False
        if not any(client.live for client in self._clients):
            self._flush()
            return
        begun_s = time.thread_time()
        self._view.watch_until(self._clock.now_ns() + _WATCHED_FOR_NS)
        payload = message("live", self._messages.next())
        found = self._view.curve
        if found is not None and found.put_ns != self._curve_ns and (content := curve(self._view)):
            self._curve_ns = found.put_ns
            payload += message("curve", content)
        self._flush(payload)
        next_s = max(due_s + max(EVERY_S, (time.thread_time() - begun_s) / _MAX_SHARE), self._loop.time())
        self._loop.call_at(next_s, self._tick, next_s)
        self._ticking = True


def message(kind: str, content: dict[str, Any]) -> bytes:
    """One event in the HTML standard's event stream format."""
    return f"event: {kind}\ndata: {_encode(content)}\n\n".encode()
