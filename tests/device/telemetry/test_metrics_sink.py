"""Metrics in a real file and over real HTTP: written atomically, with failing folders, disks, ports and clients."""

from __future__ import annotations

import http.client
import logging
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from device.config.settings import MetricsSettings
from device.telemetry.metrics_sink import MAX_CLIENTS, MetricsSink
from tests.device.telemetry.test_log_sink import EVENT, INFO
from tests.device.telemetry.test_metrics import HEALTH
from tests.device.telemetry.test_report_text import MEASURED

PATIENCE_S = 30.0


class Stepping:
    """The computer's clock, but waiting ends when the test says so, or at once when done."""

    def __init__(self) -> None:
        self._steps = threading.Semaphore(0)
        self.waiting = threading.Semaphore(0)

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def wait_for(self, changed: threading.Condition, done: Callable[[], bool], timeout_s: float | None = None) -> bool:
        changed.release()
        try:
            self.waiting.release()
            while not done() and not self._steps.acquire(timeout=0.02):
                continue
        finally:
            changed.acquire()
        return done()

    def start(self, work: Callable[[], None], name: str) -> threading.Thread:
        thread = threading.Thread(target=work, name=name, daemon=True)
        thread.start()
        return thread

    def settle(self) -> None:
        """Until the worker has nothing left to do."""
        assert self.waiting.acquire(timeout=PATIENCE_S)

    def step(self) -> None:
        """Let one period pass."""
        self._steps.release()
        self.settle()


class Rig:
    def __init__(self, folder: Path, file: str = "", listen: str = "") -> None:
        self.clock = Stepping()
        settings = MetricsSettings(file=file, listen=listen)
        self.sink = MetricsSink(settings, report_every_s=1.0, folder=folder, environment={}, clock=self.clock)
        self.clock.settle()


@pytest.fixture
def rigs() -> Iterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def make(folder: Path, file: str = "", listen: str = "") -> Rig:
        made.append(Rig(folder, file, listen))
        return made[-1]

    yield make
    for rig in made:
        rig.sink.close()


def names(text: str) -> set[str]:
    return {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}


# The file


def test_the_file_is_fresh_after_each_period_and_gone_at_the_end(tmp_path: Path, rigs: Callable[..., Rig]) -> None:
    rig, file = rigs(tmp_path, file="avdrift.prom"), tmp_path / "avdrift.prom"
    assert "avdrift_reports_total" in names(file.read_text())
    rig.sink.report(MEASURED)
    rig.sink.event(EVENT)
    rig.sink.health(HEALTH)
    rig.sink.info(INFO)
    rig.clock.step()
    assert names(file.read_text()) >= {"avdrift_offset_seconds", "avdrift_info", "avdrift_memory_bytes"}
    assert file.read_bytes() == rig.sink.text()
    rig.sink.close()
    assert list(tmp_path.iterdir()) == []


def test_others_may_read_the_file_whatever_the_services_umask(tmp_path: Path, rigs: Callable[..., Rig]) -> None:
    before = os.umask(0o077)
    try:
        rigs(tmp_path, file="avdrift.prom")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "avdrift.prom").stat().st_mode) == 0o644


def test_where_a_relative_path_begins(tmp_path: Path) -> None:
    run, other = tmp_path / "run", tmp_path / "etc"
    run.mkdir()
    other.mkdir()
    for variable, home in ((str(run), run), (f"{run}:{other}", run), ("", other)):
        clock = Stepping()
        sink = MetricsSink(
            MetricsSettings(file="a.prom"), report_every_s=1, folder=other,
            environment={"RUNTIME_DIRECTORY": variable}, clock=clock,
        )  # fmt: skip
        clock.settle()
        assert (home / "a.prom").is_file()
        sink.close()
    absolute = MetricsSink(
        MetricsSettings(file=str(other / "b.prom")), report_every_s=1, environment={"RUNTIME_DIRECTORY": str(run)}
    )
    absolute.close()
    assert list(run.iterdir()) == list(other.iterdir()) == []


def test_a_reader_never_sees_half_a_file(tmp_path: Path, rigs: Callable[..., Rig]) -> None:
    rig, file = rigs(tmp_path, file="avdrift.prom"), tmp_path / "avdrift.prom"
    with file.open() as old:
        rig.sink.report(MEASURED)
        rig.clock.step()
        assert "avdrift_offset_seconds " not in old.read() and "avdrift_offset_seconds " in file.read_text()


def test_a_missing_folder_is_said_once_and_measuring_goes_on(
    tmp_path: Path, rigs: Callable[..., Rig], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "device"):
        rig = rigs(tmp_path, file="later/avdrift.prom")
        for _ in range(5):
            rig.sink.report(MEASURED)
            rig.clock.step()
        (tmp_path / "later").mkdir()
        for _ in range(3):
            rig.clock.step()
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2 and "No such file or directory" in messages[0] and messages[1].endswith("again")
    assert str(tmp_path / "later/avdrift.prom") in messages[0]
    assert "avdrift_offset_seconds" in names((tmp_path / "later" / "avdrift.prom").read_text())


def test_a_full_disk_leaves_the_old_file_and_no_rest(
    tmp_path: Path, rigs: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rig, file = rigs(tmp_path, file="avdrift.prom"), tmp_path / "avdrift.prom"
    old = file.read_bytes()

    def full(descriptor: int, mode: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fchmod", full)
    rig.sink.report(MEASURED)
    rig.clock.step()
    assert file.read_bytes() == old and list(tmp_path.iterdir()) == [file]
    assert "No space left" in caplog.text
    monkeypatch.undo()
    rig.clock.step()
    assert file.read_bytes() != old


def test_nobody_leads_the_file_elsewhere(tmp_path: Path, rigs: Callable[..., Rig]) -> None:
    (tmp_path / "victim").write_text("mine")
    (tmp_path / ".avdrift.prom.new").symlink_to("victim")
    (tmp_path / "avdrift.prom").symlink_to("victim")
    rig = rigs(tmp_path, file="avdrift.prom")
    rig.clock.step()
    assert (tmp_path / "victim").read_text() == "mine"


def test_without_settings_there_is_no_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    sink = MetricsSink(MetricsSettings(), report_every_s=1.0, folder=tmp_path)
    sink.report(MEASURED)
    assert threading.active_count() == before and sink.port is None
    sink.close()


# HTTP


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def asked(port: int, path: str = "/metrics", method: str = "GET", host: str = "127.0.0.1") -> tuple[int, str, str]:
    connection = http.client.HTTPConnection(host, port, timeout=PATIENCE_S)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type") or "", answer.read().decode()
    finally:
        connection.close()


def test_metrics_over_http_are_always_the_latest(tmp_path: Path, rigs: Callable[..., Rig]) -> None:
    port = free_port()
    rig = rigs(tmp_path, listen=f"127.0.0.1:{port}")
    rig.sink.report(MEASURED)
    status, kind, text = asked(port)
    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert "avdrift_offset_seconds" in names(text) and text.encode() == rig.sink.text()
    assert asked(port, "/")[0] == asked(port, "/metrics?x=1")[0] == 200
    rig.sink.close()
    with pytest.raises(OSError):
        asked(port)


def test_ipv6(tmp_path: Path, rigs: Callable[..., Rig]) -> None:
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists() or not Path("/proc/net/if_inet6").read_text():
        pytest.skip("no IPv6 here")
    port = free_port()
    rigs(tmp_path, listen=f"[::1]:{port}")
    assert asked(port, host="::1")[0] == 200


@pytest.mark.parametrize(("path", "method", "status"), [
    ("/secret", "GET", 404), ("/metrics/../../etc/passwd", "GET", 404), ("/metrics", "POST", 501),
    ("/" + "a" * 70_000, "GET", 414),
])  # fmt: skip
def test_nothing_else_is_answered(
    tmp_path: Path, rigs: Callable[..., Rig], path: str, method: str, status: int
) -> None:
    port = free_port()
    rigs(tmp_path, listen=f"127.0.0.1:{port}")
    assert asked(port, path, method)[0] == status
    assert asked(port)[0] == 200


def test_rude_clients_cost_neither_threads_nor_lines(
    tmp_path: Path, rigs: Callable[..., Rig], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    rig = rigs(tmp_path, listen=f"127.0.0.1:{port}")
    assert asked(port)[0] == 200  # so its address has been logged
    before = threading.active_count()
    clients = []
    for said in (
        b"",
        b"\x00\xff\x16\x03\x01",
        b"GET",
        b"GET /metrics HTTP/9.9\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\n\r\n",
    ):
        client = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        client.sendall(said)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        if said != b"":
            client.close()
        clients.append(client)
    with caplog.at_level(logging.INFO, "device"):
        rig.sink.report(MEASURED)
        assert asked(port)[0] == 200
    assert threading.active_count() <= before + MAX_CLIENTS
    assert caplog.text == "" and capfd.readouterr().err == ""
    for client in clients:
        client.close()


def test_slow_clients_neither_block_others_nor_cost_a_thread_each(tmp_path: Path, rigs: Callable[..., Rig]) -> None:
    port = free_port()
    rigs(tmp_path, listen=f"127.0.0.1:{port}")
    before = threading.active_count()
    slow = [socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) for _ in range(5 * MAX_CLIENTS)]
    for client in slow:
        with suppress(OSError):  # the first have been dropped for those after them
            client.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
    began_s = time.monotonic()
    assert [asked(port)[0] for _ in range(5)] == [200] * 5
    assert time.monotonic() - began_s < 3, "the time that one of them may be silent for"
    assert threading.active_count() <= before + 2 * MAX_CLIENTS
    for client in slow:
        client.close()


def test_a_port_that_is_taken_is_said_once_and_used_when_it_is_free(
    tmp_path: Path, rigs: Callable[..., Rig], caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as other, caplog.at_level(logging.WARNING, "device"):
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        rig = rigs(tmp_path, listen=f"127.0.0.1:{port}", file="avdrift.prom")
        for _ in range(3):
            rig.clock.step()
    assert caplog.text.count("in use") == 1 and (tmp_path / "avdrift.prom").exists()
    rig.clock.step()
    assert asked(port)[0] == 200


def test_an_address_that_this_computer_does_not_have(
    tmp_path: Path, rigs: Callable[..., Rig], caplog: pytest.LogCaptureFixture
) -> None:
    rig = rigs(tmp_path, listen="203.0.113.1:9753")
    rig.clock.step()
    assert caplog.text.count("203.0.113.1:9753") == 1
