"""Metrics for Prometheus: a file for node_exporter's textfile collector, and optionally an HTTP server."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from device.clock import Clock, SystemClock
from device.config.constraints import parse_listen
from device.config.settings import MetricsSettings
from device.records import Event, Health, Info, Report
from device.telemetry.metrics import Metrics

RUNTIME_VARIABLE = "RUNTIME_DIRECTORY"
PATHS = ("/metrics", "/")
_STALE_REPORTS = 3  # samples expire after this many missing reports
_MIN_STALE_S = 10.0
MAX_CLIENTS = 8
_CLIENT_TIMEOUT_S = 3.0  # without a byte from a client
_SHUTDOWN_TIMEOUT_S = 0.5

_log = logging.getLogger(__name__)


class MetricsSink:
    """A Sink that keeps a file fresh and answers over HTTP, in threads of its own. Never blocks and never raises."""

    def __init__(
        self, settings: MetricsSettings, *, report_every_s: float, folder: Path = Path(),
        environment: Mapping[str, str] = os.environ, clock: Clock | None = None,
    ) -> None:  # fmt: skip
        """A relative path of the file starts at the service's runtime folder, or at `folder` without one."""
        self._clock = clock or SystemClock()
        self._metrics = Metrics(max(_STALE_REPORTS * report_every_s, _MIN_STALE_S), self._clock.now_ns)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self._metrics)
        home = Path(environment.get(RUNTIME_VARIABLE, "").partition(":")[0] or folder)
        self._file = home / settings.file if settings.file else None
        self._listen, self._every_s = parse_listen(settings.listen), settings.every_s
        self._server: _Server | None = None
        self._last_problem: dict[str, str] = {}  # the last problem of each of the two
        self._changed, self._closed = threading.Condition(), False
        self._worker = self._clock.start(self._run, "metrics") if self._file or self._listen else None

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    @property
    def port(self) -> int | None:
        """The port of the HTTP server; None while there is none."""
        return self._server.server_port if self._server else None

    def report(self, report: Report) -> None:
        self._metrics.report(report)

    def event(self, event: Event) -> None:
        self._metrics.event(event)

    def health(self, health: Health) -> None:
        self._metrics.health(health)

    def info(self, info: Info) -> None:
        self._metrics.info(info)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._worker is not None:
            self._worker.join(_SHUTDOWN_TIMEOUT_S)

    def _run(self) -> None:
        over = False
        while not over:
            if self._listen and self._server is None:
                self._try("at {}:{}".format(*self._listen), self._serve)
            if self._file is not None:
                self._try(f"in {self._file}", self._write)
            over = self._wait()
        if self._file is not None:
            self._try(f"in {self._file}", self._remove)
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _wait(self) -> bool:
        """Wait for the next turn; return whether the sink is closed."""
        with self._changed:
            return self._clock.wait_for(self._changed, lambda: self._closed, self._every_s)

    def _try(self, where: str, work: Callable[[], object]) -> None:
        """Do the work, and log a problem once, until it changes or the work succeeds again."""
        try:
            work()
        except OSError as error:
            problem = error.strerror or str(error)
            if self._last_problem.get(where) != problem:
                self._last_problem[where] = problem
                _log.warning("no metrics %s: %s; trying again every %g s", where, problem, self._every_s)
            return
        if self._last_problem.pop(where, None):
            _log.info("metrics %s again", where)

    def _write(self) -> None:
        """Write the file atomically; readable for everybody, whatever the service's umask."""
        assert self._file is not None
        new = self._file.with_name(f".{self._file.name}.new")  # node_exporter reads only names that end in .prom
        try:
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
            with os.fdopen(descriptor, "wb") as stream:
                os.fchmod(descriptor, 0o644)
                stream.write(self.text())
            new.replace(self._file)
        except OSError:
            new.unlink(missing_ok=True)
            raise

    def _remove(self) -> None:
        """The numbers of a daemon that has ended are wrong."""
        assert self._file is not None
        self._file.unlink(missing_ok=True)

    def _serve(self) -> None:
        assert self._listen is not None
        server = _Server(self._listen, self.text)
        self._server = server
        _log.info("metrics at http://%s", server.shown)
        threading.Thread(target=server.serve_forever, args=[0.2], name="metrics-http", daemon=True).start()


class _Server(ThreadingMixIn, HTTPServer):
    """Serves a few clients at once. One more replaces the one that has been connected for longest.

    So any number of clients costs only a few threads, and slow ones do not shut out the others.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], text: Callable[[], bytes]) -> None:
        host, _ = address
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.text = text
        self._clients: list[socket.socket] = []  # in order of arrival
        self._changing = threading.Lock()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changing:
            if len(self._clients) >= MAX_CLIENTS:
                with suppress(OSError):  # it is already gone
                    self._clients.pop(0).shutdown(socket.SHUT_RDWR)
            self._clients.append(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._changing:
            self._clients = [client for client in self._clients if client is not request]
        super().shutdown_request(request)

    def server_bind(self) -> None:
        """Without HTTPServer's reverse DNS query, which may take long."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        host, self.server_port = self.socket.getsockname()[:2]
        self.server_name = host
        self.shown = f"[{host}]:{self.server_port}" if ":" in host else f"{host}:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        _log.debug("a client of the metrics has disconnected", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _CLIENT_TIMEOUT_S
    server_version, sys_version = "avdrift", ""

    def do_GET(self) -> None:
        if self.path.partition("?")[0] not in PATHS:
            self.send_error(404)
            return
        text = self.server.text()
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE_PLAIN_0_0_4)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:
        _log.debug("metrics over HTTP: " + format, *args)
