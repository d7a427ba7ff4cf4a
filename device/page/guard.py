"""Checks every request before it is answered: its host, its origin, its token, and the request rate.

Without a token, only the page's empty shell, its API description and the health status are available: no measurements,
and only GET.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from device.page.access import is_right, knows_host, same_origin
from device.page.connections import Bucket, Connections, Limits

_WRONG_TOKEN_S, _MAX_WRONG = 1.0, 4  # delay after each wrong token, and the number of requests in that delay at once
_LOGGED_COUNTS = (1, 10, 100, 1000, 10_000, 100_000)
_READ_METHODS = ("GET", "HEAD")
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_log = logging.getLogger(__name__)


class Guard:
    """ASGI middleware in front of an application."""

    def __init__(
        self, app: ASGIApp, *, token: Callable[[], str | None], open_paths: frozenset[str], names: frozenset[str],
        connections: Connections, limits: Limits,
    ) -> None:  # fmt: skip
        """`token` returns the valid one, or None if there is none now; `open_paths` can be read without it."""
        self._app, self._token, self._open_paths, self._names = app, token, open_paths, names
        self._connections = connections
        self._coming = Bucket(limits.requests_per_s, limits.burst)
        self._wrong = 0
        self.refused: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        peer = (scope["client"][0], scope["client"][1])
        self._connections.begin(peer)
        try:
            if wait_s := self._coming.take():
                await asyncio.sleep(wait_s)
            answer = await self._refusal(scope) or self._app
            await answer(scope, receive, _with_headers(send, scope["path"]))
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception:  # neither measuring nor the page may stop
            _log.exception("the page: %s %s", scope["method"], scope["path"][:80])
            raise
        finally:
            self._connections.end(peer)

    async def _refusal(self, scope: Scope) -> Response | None:
        """The response to a request that is refused; None if it may pass."""
        headers, method, path = Headers(scope=scope), scope["method"], scope["path"]
        peer = scope["client"][0]
        if not knows_host(headers.get("host", ""), self._names):
            known = "Use its IP address, or give the name under [page]"
            return self.refuse(421, "host", f"unknown host name. {known}", peer)
        is_open = path in self._open_paths and method in _READ_METHODS
        if is_open:
            return None
        if not same_origin(scope["scheme"], headers):
            return self.refuse(403, "origin", "another site sent this request", peer)
        if method not in _READ_METHODS and "origin" not in headers and "authorization" not in headers:
            return self.refuse(403, "origin", "the request does not say which page it comes from", peer)
        token = self._token()
        if token is None:
            return self.refuse(503, "no token", "there is no token now. The log says why", peer)
        right = is_right(token, headers)
        if right:
            return None
        if right is None:
            return self.refuse(401, "missing token", "Open the address that `avdrift page` prints", peer)
        return await self._slow_refusal(peer)

    async def _slow_refusal(self, peer: str) -> Response:
        if self._wrong >= _MAX_WRONG:
            return self.refuse(429, "wrong token", "too many wrong tokens. Try again later", peer)
        self._wrong += 1
        try:
            await asyncio.sleep(_WRONG_TOKEN_S)
        finally:
            self._wrong -= 1
        return self.refuse(401, "wrong token", "this token is wrong. `avdrift page` prints the address", peer)

    def refuse(self, status: int, reason: str, error: str, peer: str) -> Response:
        """Count the refusal and sometimes log it, but never what was shown."""
        self.refused[reason] += 1
        count = self.refused[reason]
        if count in _LOGGED_COUNTS:
            _log.warning("the page refused a request from %s: %s (%d so far)", peer, reason, count)
        return JSONResponse({"error": error}, status)


def _with_headers(send: Send, path: str) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            if "cache-control" not in headers:
                headers["Cache-Control"] = "no-store"
        await send(message)

    return sending
