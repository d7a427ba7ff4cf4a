"""The doctor's check of the broker: a real mosquitto with and without TLS and passwords, and servers that are none."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from device.config.settings import SECTIONS
from device.doctor import broker as doctor_broker
from device.doctor.broker import broker
from device.doctor.finding import Level
from device.errors import TransportError

pytest.importorskip("device.telemetry.mqtt.access")
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
needs_mosquitto = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


def settings(**values: Any) -> Any:
    section: Any = SECTIONS["mqtt"]
    return section(**values)


def configured(port: int, **values: Any) -> Any:
    """A configuration with only that section."""
    return SimpleNamespace(mqtt=settings(host="localhost", port=port, **values))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def mosquitto(folder: Path, *lines: str) -> Iterator[int]:
    assert MOSQUITTO is not None
    port = free_port()
    file = folder / "mosquitto.conf"
    file.write_text("\n".join([f"listener {port} 127.0.0.1", f"pid_file {folder / 'pid'}", "user root", *lines]) + "\n")
    process = subprocess.Popen([MOSQUITTO, "-c", str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with socket.socket() as trying:
                if trying.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def listening(answer: bytes | None) -> Iterator[int]:
    """Something that is no broker."""
    held: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                taken, _ = server.accept()
            except OSError:
                return
            held.append(taken)
            if answer is not None:
                taken.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    for each in held:
        each.close()


def passwords(folder: Path) -> tuple[str, ...]:
    file = folder / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(file), "stage", "right"], check=True, timeout=30)
    (folder / "right").write_text("right\n")
    (folder / "wrong").write_text("wrong\n")
    return "allow_anonymous false", f"password_file {file}"


def certificates(folder: Path) -> tuple[str, ...]:
    """An authority, its certificate for localhost, and another authority."""
    for name in ("ca", "other"):
        _openssl(
            folder, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.crt",
        )  # fmt: skip
    _openssl(
        folder, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost",
        "-keyout", "broker.key", "-out", "broker.csr",
    )  # fmt: skip
    (folder / "names").write_text("subjectAltName=DNS:localhost\n")
    _openssl(
        folder, "x509", "-req", "-in", "broker.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days",
        "2", "-extfile", "names", "-out", "broker.crt",
    )  # fmt: skip
    return f"certfile {folder / 'broker.crt'}", f"keyfile {folder / 'broker.key'}"


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)


def test_none_is_configured(tmp_path: Path) -> None:
    nothing: Any = SimpleNamespace(mqtt=settings())
    assert broker(nothing, tmp_path)[1] == "none is configured"


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(TransportError, match=r"cannot be reached.*host and port"):
        broker(configured(free_port()), tmp_path)


@needs_mosquitto
def test_a_broker_that_lets_everybody_in(tmp_path: Path) -> None:
    with mosquitto(tmp_path, "allow_anonymous true") as port:
        level, found, _ = broker(configured(port), tmp_path)
    assert level is Level.OK and f"localhost:{port}" in found and "lets us without a name in" in found


@needs_mosquitto
def test_passwords(tmp_path: Path) -> None:
    with mosquitto(tmp_path, *passwords(tmp_path)) as port:
        right = configured(port, username="stage", password_file="right")
        assert "lets stage in" in broker(right, tmp_path)[1]
        with pytest.raises(TransportError, match="does not let the user stage in"):
            broker(configured(port, username="stage", password_file="wrong"), tmp_path)
        with pytest.raises(TransportError, match="without a user name"):
            broker(configured(port), tmp_path)
        with pytest.raises(TransportError, match="no password"):
            broker(configured(port, username="stage", password_file="missing"), tmp_path)


@needs_mosquitto
@needs_openssl
def test_tls(tmp_path: Path) -> None:
    with mosquitto(tmp_path, "allow_anonymous true", *certificates(tmp_path)) as port:
        level, found, _ = broker(configured(port, tls=True, ca_file="ca.crt"), tmp_path)
        assert level is Level.OK and "TLSv1" in found
        with pytest.raises(TransportError, match="not trusted"):
            broker(configured(port, tls=True, ca_file="other.crt"), tmp_path)
        with pytest.raises(TransportError, match=r"none\.crt"):
            broker(configured(port, tls=True, ca_file="none.crt"), tmp_path)
        with pytest.raises(TransportError, match="this port speaks TLS"):
            broker(configured(port), tmp_path)


@needs_mosquitto
def test_tls_where_there_is_none(tmp_path: Path) -> None:
    with mosquitto(tmp_path, "allow_anonymous true") as port, pytest.raises(TransportError, match="without TLS"):
        broker(configured(port, tls=True), tmp_path)


@pytest.mark.parametrize("answer", [None, b"HTTP/1.1 400 Bad Request\r\n\r\n", bytes(range(256))])
def test_something_that_is_no_broker(answer: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_broker, "TIMEOUT_S", 1.0)
    with listening(answer) as port, pytest.raises(TransportError):
        broker(configured(port), tmp_path)


def test_without_paho(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_broker, "is_installed", lambda _: False)
    with listening(None) as port:
        level, found, remedy = broker(configured(port), tmp_path)
    assert level is Level.WARNING and "can be reached" in found and "pip install paho-mqtt" in remedy
