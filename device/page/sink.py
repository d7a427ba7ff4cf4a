"""The page as a Sink: takes the daemon's records and returns at once; everything else runs in a thread of its own.

A thread and not a process: another Python would need as much memory as the whole page may use. Connection limits
(`device.page.connections`), a lower priority, and passing only references keep it from delaying the measurement.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from device.clock import Clock, SystemClock
from device.config.settings import PageSettings
from device.errors import TransportError
from device.page import network
from device.page.access import own_names
from device.page.app import PageApp, PageInfo
from device.page.connections import Connections, Limits
from device.page.history import HistoryFile
from device.page.server import PageServer, tls_context
from device.page.state import PageState
from device.page.stream import Streams
from device.page.token import Token, token_file
from device.records import NS_PER_MS, Command, Event, Health, Info, Report, Verb
from device.reporting.live_view import LiveView
from device.standards import Profile

_POLL_S = 2.0  # how soon a lost token, an opened network and a disconnected client are noticed
_RETRY_S = 15.0
_SHUTDOWN_TIMEOUT_S = 1.0
_NICE = 5

_log = logging.getLogger(__name__)


class PageSink:
    """The page as a Sink. The daemon puts its live data into `view`."""

    def __init__(
        self, settings: PageSettings, *, report_every_s: float, calibration_s: float, folder: Path, state_dir: Path,
        recording: bool = False, clock: Clock | None = None, limits: Limits | None = None,
    ) -> None:  # fmt: skip
        """Relative paths of the settings start at `folder`. A recording's history is not kept on disk."""
        self.view = LiveView()
        self._settings, self._folder, self._state_dir = settings, folder, state_dir
        self._clock, self._limits = clock or SystemClock(), limits or Limits()
        self._state = PageState(report_every_s, self._clock)
        self._token = Token(token_file(settings, folder, state_dir))
        self._problem: str | None = None  # why there is no page
        self._history_file = None if recording else HistoryFile(state_dir)
        self._page_info = PageInfo(
            settings.pictures, report_every_s, recording, calibration_s,
            tuple(verb.value for verb in Verb),
        )  # fmt: skip
        self._submit: Callable[[Command], None] | None = None
        self._app: PageApp | None = None
        self._streams: Streams | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._served: str | None = None
        self._port = 0
        self._next_try_s = 0.0
        self._ready = threading.Event()
        self._thread = self._clock.start(self._run, "page")

    # For the daemon's thread

    def report(self, report: Report) -> None:
        self._handle("report", report)

    def event(self, event: Event) -> None:
        self._handle("event", event)

    def health(self, health: Health) -> None:
        self._handle("health", health)

    def info(self, info: Info) -> None:
        self._handle("info", info)

    def submit_to(self, submit: Callable[[Command], None]) -> None:
        """Set the handler of commands."""
        self._submit = submit

    def set_limits(self, own_limits: Profile) -> None:
        """Set the limits of the profile `own`."""
        self._state.own_limits = own_limits

    def close(self) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # it has already ended
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_SHUTDOWN_TIMEOUT_S)

    # For the code that starts it

    @property
    def viewers(self) -> int:
        """How many pages are open."""
        return len(self._streams) if self._streams else 0

    def address(self, timeout_s: float) -> str | None:
        """The address for a browser on this computer; None if there is no page, or not in time."""
        self._ready.wait(timeout_s)
        token = self._token.current() if self._served is not None else None
        if self._served is None or token is None:
            return None
        host = {network.ANYWHERE: "localhost", "0.0.0.0": "localhost"}.get(self._served, self._served)
        return network.url(host, self._port, token, tls=bool(self._settings.cert_file))

    @property
    def refused(self) -> dict[str, int]:
        """Refused requests by reason."""
        return dict(self._app.guard.refused) if self._app else {}

    # In the page's own thread

    def _handle(self, kind: str, record: Report | Event | Health | Info) -> None:
        self._state.update(record)
        if self._streams is not None:
            self._streams.publish(kind, record)

    def _run(self) -> None:
        with suppress(OSError):  # the lower priority is optional
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        try:
            asyncio.run(self._serve())
        except Exception:  # no error may stop measuring
            _log.exception("the page has ended")
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        connections = Connections(self._limits)
        names = own_names(self._settings.name)
        self._streams = Streams(self.view, self._clock, connections, self._settings.pictures, self._loop)
        self._app = PageApp(
            self._state, self.view, self._streams, self._clock, self._page_info, connections, self._token.current,
            lambda: self._submit, names, self._limits,
        )  # fmt: skip
        if self._history_file:
            self._state.history.day.extend(self._history_file.load(time.time_ns() // NS_PER_MS))
        known = self._token.current()
        server: PageServer | None = None
        while not self._stop.is_set():
            server = await self._update_address(server, connections)
            self._ready.set()
            if (token := self._token.current()) != known:
                known = token
                connections.drop_all()  # the token has changed
            connections.sweep()
            self._streams.ping()
            if self.view.frame is not None and not self.view.is_watched(self._clock.now_ns()):
                self.view.leave()
            self._save_history()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), _POLL_S)
        self._save_history()
        if server is not None:
            await server.close()

    async def _update_address(self, server: PageServer | None, connections: Connections) -> PageServer | None:
        """Serve the address that is currently wanted, or log once why that is not possible."""
        opened = network.open_s(self._state_dir) > 0
        wanted = network.ANYWHERE if opened else self._settings.listen
        if wanted == self._served or time.monotonic() < self._next_try_s:
            return server
        before, self._served = self._served, None
        try:
            server = server or self._make_server(connections)
            self._port = await self._move(server, wanted)
        except (OSError, TransportError) as error:
            self._next_try_s = time.monotonic() + _RETRY_S
            where = f"no page at {wanted} port {self._settings.port:g}"
            problem = f"{where}: {error}"
            if isinstance(error, OSError):
                problem = f"{where}: {error.strerror}. Give another port or address under [page]"
            if problem != self._problem:
                _log.warning("%s", problem)
            self._problem = problem
            return server
        self._served = wanted
        if self._problem is not None:
            _log.info("the page is now available at %s port %d", wanted, self._port)
        elif before is not None:
            what = "open to the network" if opened else "no longer open to the network"
            _log.info("the page is %s", what, extra={"always": True})
        self._problem = None
        return server

    async def _move(self, server: PageServer, address: str) -> int:
        """The port; for a recording, any other one if the configured one is in use."""
        try:
            return await server.move(address, int(self._settings.port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not self._page_info.recording:
                raise
            return await server.move(address, 0)

    def _make_server(self, connections: Connections) -> PageServer:
        settings, context = self._settings, None
        if settings.cert_file:
            context = tls_context(self._folder / settings.cert_file, self._folder / settings.key_file)
        assert self._app is not None
        return PageServer(self._app.guard, connections, context)

    def _save_history(self) -> None:
        if self._history_file is not None and self._state.history.day and self._history_file.is_due():
            self._history_file.save(list(self._state.history.day))
