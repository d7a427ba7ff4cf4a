"""A served page for tests: on a free port, with its own folder, queried over real HTTP."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from device.config.settings import PageSettings
from device.page.connections import Limits
from device.page.sink import PageSink
from device.page.token import FILE
from device.records import Chunk, Frame, Report, SeenFace
from device.reporting.live_view import Curve, Scene
from tests.device.telemetry.test_log_sink import EVENT, INFO
from tests.device.telemetry.test_metrics import FULL, HEALTH

PATIENCE_S = 20.0
NO_LIMITS = Limits(connections_per_s=1e6, requests_per_s=1e6, burst=1e6)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(done: Callable[[], object], what: str, patience_s: float = PATIENCE_S) -> None:
    end_s = time.monotonic() + patience_s
    while not done():
        assert time.monotonic() < end_s, what
        time.sleep(0.02)


class Served:
    """A page and its one client; `state_dir` is where it keeps things."""

    def __init__(
        self, state_dir: Path, limits: Limits = NO_LIMITS, *, recording: bool = False, **settings: Any
    ) -> None:
        self.state_dir, self.port = state_dir, int(settings.pop("port", 0)) or free_port()
        self.page = PageSink(
            PageSettings(port=self.port, **settings), report_every_s=1.0, calibration_s=30.0, folder=state_dir,
            state_dir=state_dir, recording=recording, limits=limits,
        )  # fmt: skip

    @property
    def token(self) -> str:
        return (self.state_dir / FILE).read_text(encoding="ascii").strip()

    def opened(self) -> Served:
        assert self.page.address(PATIENCE_S), "no page"
        return self

    def tell(self, report: Report = FULL) -> Served:
        """One of each record, as the daemon would."""
        self.page.info(INFO)
        self.page.report(report)
        self.page.event(EVENT)
        self.page.health(HEALTH)
        return self

    def ask(
        self, path: str, method: str = "GET", *, token: str | None = "", body: bytes | None = None,
        host: str | None = None, **headers: str,
    ) -> Answer:  # fmt: skip
        """One request on a connection of its own. token: the right one by default, None for none."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.putrequest(method, path, skip_host=True)
            connection.putheader("Host", host or f"127.0.0.1:{self.port}")
            if token is not None:
                connection.putheader("Authorization", f"Bearer {token or self.token}")
            for name, value in headers.items():
                connection.putheader(name.replace("_", "-"), value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    @contextmanager
    def stream(self, path: str = "/api/events?live=1") -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {self.token}"})
            yield connection.getresponse()
        finally:
            connection.close()


class Answer:
    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.body = status, body
        self.headers = {name.lower(): value for name, value in headers.items()}

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def events(stream: http.client.HTTPResponse) -> Iterator[tuple[str, dict[str, Any]]]:
    """(kind, content) of each event of a stream."""
    kind = ""
    for raw in stream:
        name, _, value = raw.decode().rstrip("\n").partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            yield kind, json.loads(value)


def shown(page: PageSink, *, peak: float = 0.5, seq: int = 0) -> None:
    """What the thread that measures would put: a gray picture with one face, a sound, a curve."""
    now_ns = time.monotonic_ns()
    page.view.put(Frame(seq, now_ns, np.full((240, 320, 3), 90, np.uint8)), now_ns)
    page.view.put(Chunk(0, now_ns, 16_000, np.full(320, peak, np.float32)), now_ns)
    page.view.scene = Scene(now_ns, (SeenFace((80.0, 60.0, 160.0, 120.0), (120.0, 120.0, 80.0, 60.0), True),), True)
    hill = np.exp(-(np.linspace(-6, 6, 241, dtype=np.float32) ** 2))
    page.view.curve = Curve(now_ns, -1200.0, 10.0, 10 * hill, hill / hill.sum())


class Showing:
    """Keeps showing while a test goes on; ends with `stop`."""

    def __init__(self, page: PageSink) -> None:
        self._page, self._on = page, True

    def __call__(self) -> None:
        seq = 0
        while self._on:
            if self._page.view.is_watched(time.monotonic_ns()):
                seq += 1
                shown(self._page, seq=seq)
            time.sleep(0.04)

    def stop(self) -> None:
        self._on = False
