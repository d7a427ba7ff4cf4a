"""uvicorn as this page needs it: on our own sockets, which can change, and without wake-ups while nobody connects.

Why Starlette on uvicorn and not aiohttp: after 2,000 requests it has added 4.1 MB to the daemon against 10.5 MB, and
memory is what a computer with 512 MB lacks. A request costs 0.31 ms of a server's core against 0.16 ms, so frequent
data is sent as one stream, not by many requests.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from device.errors import TransportError
from device.page.connections import Connections, listen

_BACKLOG = 64
_HANDSHAKE_S, _SHUTDOWN_TIMEOUT_S = 5.0, 0.3
_MAX_HEAD_BYTES = 16_384
TRANSPORT = "transport"  # of a request's connection, in its state


def tls_context(cert_file: Path, key_file: Path) -> ssl.SSLContext:
    """TLS 1.2 or newer with this certificate. Raises TransportError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(cert_file, key_file, "")  # otherwise a password would be asked for on the terminal
    except (OSError, ValueError) as error:  # SSLError is an OSError
        reason = "no PEM file, or its key does not fit or is encrypted"
        if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
            reason = str(error.strerror)
        remedy = "Give cert_file and key_file under [page] as readable PEM files, the key without a password"
        raise TransportError(f"no certificate ({reason})", where=str(cert_file), remedy=remedy) from error
    return context


class _Protocol(H11Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {TRANSPORT: transport}


class PageServer:
    """Serves one address at a time. For one event loop."""

    def __init__(self, app: ASGIApp, connections: Connections, context: ssl.SSLContext | None) -> None:
        self._connections, self._context = connections, context
        self._config = uvicorn.Config(
            app, http=H11Protocol, ws="none", lifespan="off", log_config=None, access_log=False, server_header=False,
            date_header=False, proxy_headers=False, timeout_keep_alive=5, h11_max_incomplete_event_size=_MAX_HEAD_BYTES,
        )  # fmt: skip
        self._config.load()
        # Requests from strangers are not worth logging, and may contain a token by mistake.
        for name in ("uvicorn.error", "uvicorn.access"):
            logging.getLogger(name).propagate = False
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        self._state = ServerState()
        self._listening: asyncio.Server | None = None

    async def move(self, address: str, port: int) -> int:
        """Serve this address from now on, instead of the previous one; return the port. 0: any. Raises OSError."""
        self.leave()
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(
            lambda: _Protocol(self._config, self._state, {}),
            sock=listen(address, port, self._connections),
            ssl=self._context,
            backlog=_BACKLOG,
            ssl_handshake_timeout=_HANDSHAKE_S if self._context else None,
        )
        return int(self._listening.sockets[0].getsockname()[1])

    def leave(self) -> None:
        """Stop serving."""
        if self._listening is not None:
            self._listening.close()
            self._listening = None
        self._connections.drop_all()

    async def close(self) -> None:
        """Release everything, soon."""
        self.leave()
        for task in self._state.tasks:
            task.cancel()
        if self._state.tasks:
            await asyncio.wait(set(self._state.tasks), timeout=_SHUTDOWN_TIMEOUT_S)
