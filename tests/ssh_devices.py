"""Devices for tests of deploy: a real sshd on loopback for each, with a store and an avdrift of its own.

All of them are this user on this computer; what makes them devices of their own is the environment of their sessions.
"""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from device.bundles.store import Store
from tests.models.stores import make_key
from tests.scenes import ROOT

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
needs_sshd = pytest.mark.skipif(
    not (SSHD and shutil.which("rsync") and shutil.which("ssh")), reason="openssh-server or rsync is not installed"
)
_START_S = 20.0


@dataclass(frozen=True, slots=True)
class SshDevice:
    """A device that ssh reaches under its name with the configuration that lies beside it."""

    name: str
    folder: Path

    @property
    def store(self) -> Store:
        return Store(self.folder / "state")

    @property
    def temporary(self) -> list[str]:
        """What deploying has left behind."""
        return sorted(path.name for path in (self.folder / "tmp").iterdir())

    @contextmanager
    def measuring(self, source: Path, config: str = "") -> Iterator[subprocess.Popen[str]]:
        """Its daemon, on a recording at real-time pace."""
        (self.folder / "avdrift.toml").write_text(f"config_version = 1\n{config}")
        command = [str(self.folder / "bin" / "avdrift"), "run", "--source", str(source), "--config", "avdrift.toml"]
        log = (self.folder / "log").open("w")
        daemon = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, text=True)
        try:
            yield daemon
        finally:
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(60) == 0, (self.folder / "log").read_text()[-2000:]
            log.close()


class Site:
    """Devices, how to reach them, and a key that they trust."""

    def __init__(self, folder: Path) -> None:
        self.folder, mine = folder, folder / "my own"  # rsync takes its words apart at spaces
        mine.mkdir()
        self.config = mine / "config"
        self.key, self.host_key = make_key(mine / "key"), make_key(folder / "host_key")
        (folder / "authorized_keys").write_text(self.key.with_suffix(".pub").read_text())
        self._servers: list[subprocess.Popen[bytes]] = []
        self._entries = ""

    def device(self, name: str) -> SshDevice:
        """A new one, its sshd running."""
        made, port = SshDevice(name, self.folder / name), free_port()
        for below in ("bin", "home", "state", "tmp"):
            (made.folder / below).mkdir(parents=True)
        wrapper = made.folder / "bin" / "avdrift"
        environment = {"STATE_DIRECTORY": made.folder / "state", "PYTHONPATH": ROOT, "OMP_NUM_THREADS": 1}
        words = " ".join(f"{key}={shlex.quote(str(value))}" for key, value in environment.items())
        wrapper.write_text(f'#!/bin/sh\nexec env {words} {shlex.quote(sys.executable)} -m device.cli "$@"\n')
        wrapper.chmod(0o755)
        config = made.folder / "sshd_config"
        config.write_text(
            f"Port {port}\nListenAddress 127.0.0.1\nHostKey {self.host_key}\nPidFile none\nStrictModes no\nUsePAM no\n"
            f"AuthorizedKeysFile {self.folder / 'authorized_keys'}\nPasswordAuthentication no\n"
            f"KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n"
            f"SetEnv HOME={made.folder / 'home'} TMPDIR={made.folder / 'tmp'} "
            f"PATH={made.folder / 'bin'}:{os.environ['PATH']}\n"
        )
        assert SSHD is not None
        if not os.geteuid():
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd's own, which its package's service would make
        with (made.folder / "sshd.log").open("wb") as log:
            self._servers.append(subprocess.Popen([SSHD, "-D", "-e", "-f", str(config)], stderr=log))
        _await_port(port, self._servers[-1], made.folder / "sshd.log")
        self.reach(name, port)
        return made

    def reach(self, name: str, port: int, **options: str) -> None:
        """How ssh reaches a device; the port may be another one than its own."""
        known = self.folder / "known_hosts"
        with known.open("a") as file:
            file.write(f"[127.0.0.1]:{port} {self.host_key.with_suffix('.pub').read_text()}")
        usual = {
            "HostName": "127.0.0.1", "Port": str(port), "User": getpass.getuser(), "IdentityFile": f'"{self.key}"',
            "IdentitiesOnly": "yes", "UserKnownHostsFile": str(known), "StrictHostKeyChecking": "yes",
        }  # fmt: skip
        lines = [f"  {key} {value}\n" for key, value in (usual | options).items()]
        self._entries = f"Host {name}\n{''.join(lines)}" + self._entries
        self.config.write_text(self._entries)

    def close(self) -> None:
        for server in self._servers:
            server.terminate()
            server.wait(20)


@contextmanager
def cut_after(port: int, limit_bytes: int) -> Iterator[int]:
    """A port that passes everything on, and breaks each connection once so much was sent to the device."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_accept, args=(server, port, limit_bytes), daemon=True).start()
        yield server.getsockname()[1]


def _accept(server: socket.socket, port: int, limit_bytes: int) -> None:
    with suppress(OSError):  # the end of the test closes it
        while True:
            near, _ = server.accept()
            far = socket.create_connection(("127.0.0.1", port))
            threading.Thread(target=_pass_on, args=(near, far, limit_bytes), daemon=True).start()
            threading.Thread(target=_pass_on, args=(far, near, None), daemon=True).start()


def _pass_on(given: socket.socket, to: socket.socket, left_bytes: int | None) -> None:
    with suppress(OSError):
        while content := given.recv(1 << 14):
            to.sendall(content)
            if left_bytes is not None and (left_bytes := left_bytes - len(content)) <= 0:
                break
    for each in (given, to):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


def _await_port(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    end_s = time.monotonic() + _START_S
    while time.monotonic() < end_s and server.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise AssertionError(log.read_text())
