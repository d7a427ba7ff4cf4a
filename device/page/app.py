"""The page's responses: its files, the daemon's records as JSON, images, metrics, events, and commands.

`static/openapi.json` describes them for programs.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from device.clock import Clock
from device.page.access import COOKIE, cookie_of
from device.page.connections import Connections, Limits
from device.page.guard import Guard
from device.page.history import DAY_COLUMNS, HOUR_COLUMNS
from device.page.live import curve, jpeg
from device.page.state import PageState
from device.page.stream import Streams, message
from device.records import NS_PER_S, Command
from device.reporting.live_view import LiveView
from device.standards import OWN_PROFILE, PROFILES
from device.telemetry.mqtt.command_parser import MAX_BYTES, Commands

_STATIC = Path(__file__).parent / "static"
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml",
    ".js": "text/javascript; charset=utf-8", ".json": "application/json",
}  # fmt: skip
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
_COOKIE_S = 30 * 86_400
_COMMAND_TIMEOUT_S = 60.0  # a calibration takes half a minute
_MAX_COMMANDS = 8
_VIEW_TIMEOUT_S, _POLL_S = 2.0, 0.05


@dataclass(frozen=True, slots=True)
class PageInfo:
    """What the page needs besides the daemon's records."""

    pictures: str
    report_every_s: float
    recording: bool
    calibration_s: float
    verbs: tuple[str, ...]


class PageApp:
    """The request handlers and their data. For one event loop."""

    def __init__(
        self, state: PageState, view: LiveView, streams: Streams, clock: Clock, page: PageInfo,
        connections: Connections, token: Callable[[], str | None],
        submit: Callable[[], Callable[[Command], None] | None], names: frozenset[str], limits: Limits,
    ) -> None:  # fmt: skip
        self._submit = submit
        self._state, self._view, self._streams, self._clock, self._page_info = state, view, streams, clock, page
        self._token, self._connections = token, connections
        self._files = {f"/{file.name}": file.read_bytes() for file in sorted(_STATIC.iterdir()) if file.is_file()}
        self._files["/"] = self._files.pop("/index.html")
        self._commands = 0
        api: dict[str, Callable[[Request], Any]] = {
            "report": self._report, "health": self._health, "info": self._info, "history": self._history,
            "history.csv": self._history_csv, "curve": self._curve, "picture.jpg": self._picture,
            "events": self._events, "page": self._page,
        }  # fmt: skip
        routes = [Route(path, self._file) for path in self._files]
        routes += [Route(f"/api/{name}", handler) for name, handler in api.items()]
        routes += [
            Route("/healthz", self._healthz),
            Route("/metrics", self._metrics),
            Route("/api/login", self._login, methods=["POST"]),
            Route("/api/command/{verb}", self._command, methods=["POST"]),
        ]
        app = Starlette(routes=routes, exception_handlers={HTTPException: self._http_error})
        self.guard = Guard(
            app, token=token, open_paths=frozenset({*self._files, "/healthz"}), names=names, connections=connections,
            limits=limits,
        )  # fmt: skip

    # Without a token

    async def _file(self, request: Request) -> Response:
        content = self._files[request.url.path]
        tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        headers = {"Cache-Control": "no-cache", "ETag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        kind = _MEDIA_TYPES[Path(request.url.path).suffix or ".html"]
        return Response(content, media_type=kind, headers=headers)

    async def _healthz(self, request: Request) -> Response:
        return JSONResponse({"ok": self._state.ok}, 200 if self._state.ok else 503)

    # With a token

    async def _login(self, request: Request) -> Response:
        """Set a cookie for a client that has shown the token."""
        answer = Response(status_code=204)
        value = cookie_of(self._token() or "")
        answer.set_cookie(
            COOKIE, value, _COOKIE_S, httponly=True, samesite="strict", secure=request.url.scheme == "https"
        )
        return answer

    async def _report(self, request: Request) -> Response:
        return _record(self._state.report)

    async def _health(self, request: Request) -> Response:
        return _record(self._state.health)

    async def _info(self, request: Request) -> Response:
        return _record(self._state.info)

    async def _page(self, request: Request) -> Response:
        profiles = PROFILES | {OWN_PROFILE: self._state.own_limits}
        limits = {name: asdict(profile) for name, profile in profiles.items()}
        events = [event.to_dict() for event in self._state.events]
        refused = {"requests": sum(self.guard.refused.values()), "connections": self._connections.refused}
        return JSONResponse(asdict(self._page_info) | {"profiles": limits, "events": events, "refused": refused})

    async def _history(self, request: Request) -> Response:
        since = request.query_params.get("since", "0")
        if not (since.isascii() and since.isdecimal() and len(since) <= 16):
            return JSONResponse({"error": "since is not a time in ms. Give t_unix_ms of the last row"}, 400)
        history = self._state.history
        return JSONResponse({
            "hour": {"columns": HOUR_COLUMNS, "rows": history.hour(int(since))},
            "day": {"columns": DAY_COLUMNS, "rows": [row for row in list(history.day) if row[0] > int(since)]},
        })  # fmt: skip

    async def _history_csv(self, request: Request) -> Response:
        headers = {"Content-Disposition": 'attachment; filename="avdrift.csv"'}
        return Response("".join(self._state.history.csv()), media_type="text/csv; charset=utf-8", headers=headers)

    async def _metrics(self, request: Request) -> Response:
        return Response(self._state.metrics(), headers={"Content-Type": _PROMETHEUS})

    async def _curve(self, request: Request) -> Response:
        every_s = self._page_info.report_every_s
        await self._wait_for_view(lambda: self._view.curve is not None, every_s + _VIEW_TIMEOUT_S)
        found = curve(self._view)
        return JSONResponse(found) if found else _error_response("no curve: nothing was measured yet")

    async def _picture(self, request: Request) -> Response:
        if self._page_info.pictures != "live":
            return _error_response("pictures under [page] is not live", 404)
        await self._wait_for_view(lambda: self._view.frame is not None, _VIEW_TIMEOUT_S)
        given = self._view.frame
        if given is None or self._clock.now_ns() - given[0] > _VIEW_TIMEOUT_S * NS_PER_S:
            return _error_response("no frame arrives")
        return Response(jpeg(given[1].picture), media_type="image/jpeg")

    async def _wait_for_view(self, is_available: Callable[[], bool], timeout_s: float) -> None:
        """Wait for data that is only produced while someone watches."""
        end_ns = self._clock.now_ns() + round(timeout_s * NS_PER_S)
        self._view.watch_until(end_ns + round(_VIEW_TIMEOUT_S * NS_PER_S))
        while not is_available() and self._clock.now_ns() < end_ns:
            await asyncio.sleep(_POLL_S)

    async def _events(self, request: Request) -> Response:
        if self._streams.full:
            return _error_response("too many pages are open. Close one")
        state = self._state
        known = {"info": state.info, "health": state.health, "report": state.report}
        first = [message(kind, record.to_dict()) for kind, record in known.items() if record is not None]
        assert request.client is not None
        peer = (request.client.host, request.client.port)
        live = "live" in request.query_params
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        scope = request.scope
        return _Stream(lambda receive, send: self._streams.serve(scope, peer, first, receive, send, live=live))

    async def _command(self, request: Request) -> Response:
        """As over MQTT: the body is the payload, the response is the result."""
        if self._commands >= _MAX_COMMANDS:
            return JSONResponse({"error": "busy: commands are waiting. Send it again later"}, 429)
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MAX_BYTES:
                return JSONResponse({"error": f"more than {MAX_BYTES} bytes"}, 413)
        assert request.client is not None
        self._connections.begin((request.client.host, request.client.port), _COMMAND_TIMEOUT_S)
        self._commands += 1
        try:
            answer = await asyncio.wait_for(self._run_command(request.path_params["verb"], body), _COMMAND_TIMEOUT_S)
        except TimeoutError:
            return JSONResponse({"error": "no result. See the log"}, 504)
        finally:
            self._commands -= 1
        return Response(answer, 200 if json.loads(answer)["ok"] else 409, media_type="application/json")

    async def _run_command(self, verb: str, body: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        result: asyncio.Future[bytes] = loop.create_future()

        def resolve(payload: bytes) -> None:
            if not result.done():
                result.set_result(payload)

        def publish(_: str, payload: bytes) -> None:
            loop.call_soon_threadsafe(resolve, payload)

        commands = Commands("all", publish)
        if submit := self._submit():
            commands.submit_to(submit)
        commands.handle(verb, body, retained=False)
        return await result

    async def _http_error(self, request: Request, error: Exception) -> Response:
        """No such path, or no such method there."""
        assert isinstance(error, HTTPException)
        assert request.client is not None
        return self.guard.refuse(error.status_code, "path", "there is no such page", request.client.host)


class _Stream(Response):
    """A response that goes on until its client disconnects."""

    def __init__(self, serve: Callable[[Receive, Send], Awaitable[None]]) -> None:
        super().__init__()
        self._serve = serve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._serve(receive, send)


def _record(record: Any) -> Response:
    return JSONResponse(record.to_dict()) if record is not None else _error_response("nothing yet")


def _error_response(error: str, status: int = 503) -> Response:
    return JSONResponse({"error": error}, status)
