"""Faults of the page: none delays measuring, each is named once, and the page recovers."""

from __future__ import annotations

import http.client
import logging
import os
import random
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from device.config.settings import PageSettings
from device.page.connections import Bucket, Connections, Limits
from device.page.sink import PageSink
from device.page.token import FILE
from tests.device.page.served import NO_LIMITS, PATIENCE_S, Served, events, free_port, until
from tests.device.telemetry.test_metrics import FULL

QUICK = replace(NO_LIMITS, idle_s=1.0, answer_s=2.0)
SLOWEST_S = 0.1  # that a report may wait for the page: the thread's turn, on a machine that is busy


class Measuring:
    """Gives reports as the daemon's thread would, and remembers how long that took at most."""

    def __init__(self, page: PageSink) -> None:
        self._page, self._on, self.slowest_s, self.given = page, True, 0.0, 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while self._on:
            begun_s = time.thread_time()
            self._page.report(replace(FULL, seq=self.given))
            self.slowest_s = max(self.slowest_s, time.thread_time() - begun_s)
            self.given += 1
            time.sleep(0.02)

    def __enter__(self) -> Measuring:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._on = False
        self._thread.join()
        assert self.given and self.slowest_s < SLOWEST_S


def raw(port: int, payload: bytes = b"") -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
    client.sendall(payload)
    return client


def malformed(random_: random.Random, token: str) -> bytes:
    """A request that is none, or nearly one."""
    good = f"GET /api/report HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    kind = random_.randrange(6)
    if kind == 0:
        return random_.randbytes(random_.randrange(1, 300))
    if kind == 1:
        changed = bytearray(good)
        for _ in range(random_.randrange(1, 8)):
            changed[random_.randrange(len(changed))] = random_.randrange(256)
        return bytes(changed)
    if kind == 2:
        return good[: random_.randrange(1, len(good))]
    if kind == 3:
        return b"POST /api/command/diagnostics HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n"
    if kind == 4:
        return b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\nzz\r\n"
    return b"GET /" + b"a" * random_.randrange(20_000) + b" HTTP/1.1\r\n" + b"x: y\r\n" * random_.randrange(200)


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_requests_that_are_none_end_nothing(
    serve: Callable[..., Served], caplog: pytest.LogCaptureFixture, count: int
) -> None:
    page, random_ = serve(limits=QUICK).opened().tell(), random.Random(7)
    with Measuring(page.page):
        for _ in range(count):
            with raw(page.port) as client:
                try:
                    client.sendall(malformed(random_, page.token))
                    client.shutdown(socket.SHUT_WR)
                    client.recv(100)
                except OSError as error:  # it was shut in our face, which is right as well
                    assert error.errno
        assert page.ask("/api/report").status == 200
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_two_hundred_slow_clients_keep_nobody_out(serve: Callable[..., Served]) -> None:
    page = serve(limits=QUICK).opened().tell()
    with Measuring(page.page):
        slow = [raw(page.port, b"GET / HTTP/1.1\r\nHost: loc") for _ in range(200)]
        assert page.ask("/api/report").status == 200
        until(lambda: all(_is_shut(client) for client in slow), "they are all sent away")
        for client in slow:
            client.close()


def _is_shut(client: socket.socket) -> bool:
    client.settimeout(0.01)
    try:
        return client.recv(100) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_a_client_that_does_not_read_is_dropped_and_the_others_go_on(serve: Callable[..., Served]) -> None:
    page = serve(limits=QUICK).opened().tell()
    request = f"GET /api/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {page.token}\r\n\r\n"
    with raw(page.port, request.encode()) as deaf, page.stream("/api/events") as stream:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        until(lambda: page.page.viewers == 2, "both have come")
        coming = events(stream)
        with Measuring(page.page):
            huge = replace(FULL, model="x" * 200_000)
            end_s = time.monotonic() + PATIENCE_S
            while page.page.viewers == 2:
                assert time.monotonic() < end_s
                page.page.report(huge)
                next(coming)
        assert page.page.viewers == 1 and next(coming)


def test_clients_that_vanish_leave_nothing_behind(serve: Callable[..., Served]) -> None:
    page = serve(limits=QUICK).opened().tell()
    before = len(list(Path("/proc/self/fd").iterdir()))
    request = f"GET /api/events?live=1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {page.token}\r\n\r\n"
    with Measuring(page.page):
        for _ in range(30):
            client = raw(page.port, request.encode())
            client.recv(100)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # ends with a reset
            client.close()
        until(lambda: page.page.viewers == 0, "all have gone")
        until(lambda: len(list(Path("/proc/self/fd").iterdir())) <= before + 2, "no file is left open")


def test_a_flood_of_connections_costs_little_and_is_over_when_it_is_over(serve: Callable[..., Served]) -> None:
    page = serve(limits=Limits(idle_s=1.0)).opened().tell()
    with Measuring(page.page):
        for _ in range(500):
            raw(page.port).close()
        until(lambda: _refused_connections(page) > 200, "there is room again")


def _refused_connections(page: Served) -> int:
    try:
        return int(page.ask("/api/page").json["refused"]["connections"])
    except (OSError, http.client.HTTPException):
        return 0


def test_a_port_in_use_is_named_once_and_taken_when_it_is_free(
    serve: Callable[..., Served], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("device.page.sink._RETRY_S", 0.1)
    with socket.create_server(("127.0.0.1", free_port())) as other:
        port = int(other.getsockname()[1])
        page = serve(port=port)
        assert page.page.address(PATIENCE_S) is None
        page.tell()
        time.sleep(2.5)
        (record,) = caplog.records
        assert (
            record.getMessage()
            == f"no page at 127.0.0.1 port {port}: Address already in use. Give another port or address under [page]"
        )
    until(lambda: page.page.address(0), "it is there")
    assert page.ask("/api/report").status == 200


def test_the_page_of_a_recording_takes_another_port_where_its_own_is_in_use(serve: Callable[..., Served]) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as other:
        port = int(other.getsockname()[1])
        page = serve(port=port, recording=True)
        address = page.page.address(PATIENCE_S)
        assert address and f":{port}/" not in address
        page.port = int(address.split(":")[2].partition("/")[0])
        assert page.tell().ask("/api/report").status == 200


def test_a_wrong_certificate_is_named_once(
    serve: Callable[..., Served], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cert.pem").write_text("no certificate")
    page = serve(cert_file="cert.pem", key_file="cert.pem")
    assert page.page.address(PATIENCE_S) is None
    page.tell()
    (record,) = caplog.records
    assert "cert.pem: no certificate (no PEM file" in record.getMessage()


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc/self/ns/user").exists(), reason="root may write anywhere")
def test_without_a_place_for_the_token_measuring_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "state").touch()  # a file where the folder should be
    page = Served(tmp_path / "state")
    assert page.page.address(PATIENCE_S) is None
    with Measuring(page.page):
        assert page.ask("/api/report", token="x" * 22).status == 503
        assert page.ask("/", token=None).status == 200
    page.page.close()
    assert len([record for record in caplog.records if "no token for the page" in record.getMessage()]) == 1


def test_deleting_the_token_ends_all_access_with_it(served: Served) -> None:
    before = served.token
    assert served.ask("/api/report", token=before).status == 200
    (served.state_dir / FILE).unlink()
    assert served.ask("/api/report", token=before).status == 401
    assert served.token != before and served.ask("/api/report").status == 200


def test_no_page_costs_no_thread(tmp_path: Path) -> None:
    from device.runtime.sinks import page_sink

    threads = threading.active_count()
    off = PageSettings(listen="")
    none = page_sink(off, report_every_s=1.0, folder=tmp_path, state_dir=tmp_path, recording=False)
    assert none is None and threading.active_count() == threads


# The bounds by themselves


def test_a_bucket_gives_so_many_a_second_and_a_burst() -> None:
    now_s = 0.0
    bucket = Bucket(10.0, 3.0, lambda: now_s)
    assert [bucket.take() for _ in range(4)] == [0, 0, 0, pytest.approx(0.1)]
    now_s = 0.2
    assert bucket.take() == 0


def test_the_one_that_is_idle_for_longest_makes_room() -> None:
    now_s = 0.0
    connections = Connections(replace(NO_LIMITS, connections=2), lambda: now_s)
    pairs = [socket.socketpair() for _ in range(3)]
    for k, (mine, _) in enumerate(pairs):
        now_s = float(k)
        assert connections.admit(mine, ("192.0.2.1", k))
        connections.begin(("192.0.2.1", 0))
    assert pairs[1][1].recv(1) == b"" and len(connections) == 2, "the one that is not busy"
    connections.begin(("192.0.2.1", 2))
    assert not connections.admit(pairs[1][0], ("192.0.2.1", 9)), "all are busy"
    now_s = 60.0
    connections.sweep()
    assert len(connections) == 0
    for pair in pairs:
        for one in pair:
            one.close()
