"""A real mosquitto on loopback, independent readers, and records to publish: for tests with MQTT."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from device.config.settings import MqttSettings
from device.records import Direction, DriftClass, Event, EventKind, Health, Info, Report, State, Verdict
from device.telemetry.mqtt.connection import Backoff

NODE = "stage"
ROOT_TOPIC = f"avdrift/{NODE}"
FAST = Backoff(first_s=0.05, longest_s=0.3, refused_s=0.3, steady_s=0.5)
PATIENCE_S = 30.0
_MOSQUITTO = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
needs_mosquitto = pytest.mark.skipif(
    not (_MOSQUITTO and shutil.which("mosquitto_sub") and shutil.which("openssl")),
    reason="no mosquitto here: apt-get install mosquitto mosquitto-clients openssl",
)


def wait_until(
    done: Callable[[], object], what: str = "it", within_s: float = PATIENCE_S, every_s: float = 0.01
) -> None:
    """Returns soon after `done()` is true; fails the test when that takes too long."""
    until_s = time.monotonic() + within_s
    while not done():
        assert time.monotonic() < until_s, f"{what} did not happen within {within_s:g} s"
        time.sleep(every_s)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Mosquitto:
    """A broker in a folder of its own, with its memory on disk. Listens on 127.0.0.1 only."""

    def __init__(self, folder: Path, lines: str = "allow_anonymous true", port: int | None = None) -> None:
        assert _MOSQUITTO
        folder.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        self._log = folder / "mosquitto.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._config = folder / "mosquitto.conf"
        head = "" if os.geteuid() else "user root\n"  # it cannot write here as the user that it changes to
        self._config.write_text(
            f"{head}listener {self.port} 127.0.0.1\npersistence true\npersistence_location {folder}/\n"
            f"autosave_on_changes true\nautosave_interval 1\nmax_queued_messages 0\nlog_type all\n{lines}\n"
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop(signal.SIGKILL)

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([str(_MOSQUITTO), "-c", str(self._config)], stdout=log, stderr=log)
        wait_until(self._listens, f"mosquitto's start ({self.log[-300:]})")

    def _listens(self) -> bool:
        assert self._process and self._process.poll() is None, self.log[-2000:]
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self._process:
            self._process.send_signal(number)
            self._process.wait(PATIENCE_S)
            self._process = None

    def signal(self, number: int) -> None:
        assert self._process
        self._process.send_signal(number)

    def publish(self, topic: str, payload: str | None, *, retain: bool = False) -> None:
        """With mosquitto's own client."""
        what = ["-n"] if payload is None else ["-m", payload]
        command = ["mosquitto_pub", "-p", str(self.port), "-q", "1", "-t", topic, *what, *(["-r"] if retain else [])]
        subprocess.run(command, check=True, timeout=PATIENCE_S)

    def retained(self, topics: str = "#") -> dict[str, str]:
        """What a reader who comes now is given."""
        command = ["mosquitto_sub", "-p", str(self.port), "-t", topics, "-W", "1", "-v", "--retained-only", "-q", "1"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)


@dataclass(frozen=True)
class Read:
    topic: str
    payload: str
    retained: bool


class Reader:
    """mosquitto_sub, with a session that the broker remembers, so that it misses nothing while it is away itself."""

    def __init__(self, port: int, topics: str = "#", options: tuple[str, ...] = ()) -> None:
        self.lines: list[Read] = []
        command = [
            "mosquitto_sub", "-p", str(port), "-t", topics, "-t", "ready", "-q", "1", "-c", "-i", "reader",
            "-F", "%r %t %p",
        ]  # fmt: skip
        self._process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            retained, topic, payload = (line.decode().rstrip("\n") + "  ").split(" ", 2)
            self._keep(Read(topic, payload.strip(), retained == "1"))

    def _keep(self, read: Read) -> None:
        self.lines.append(read)

    def of(self, name: str) -> list[str]:
        """Payloads of a topic below the node's."""
        return [line.payload for line in list(self.lines) if line.topic == f"{ROOT_TOPIC}/{name}"]

    def seqs(self) -> list[int]:
        return [json.loads(payload)["seq"] for payload in self.of("event")]

    def ready(self, broker: Mosquitto) -> Self:
        """Once it hears something that was sent after it came."""
        numbers = itertools.count()

        def heard() -> bool:
            broker.publish("ready", str(next(numbers)))
            return any(line.topic == "ready" for line in self.lines)

        wait_until(heard, "the reader's start")
        return self


def settings(port: int, **more: Any) -> MqttSettings:
    values: dict[str, Any] = {"host": "127.0.0.1", "port": port, "node": NODE, "commands": "all"}
    return MqttSettings(**values | more)


def report(seq: int = 1, **more: Any) -> Report:
    values: dict[str, Any] = {
        "schema": 1, "seq": seq, "boot_id": "boot", "uptime_s": 12.5, "t_unix_ms": 1_790_000_000_000,
        "clock_synced": True, "state": State.MEASURING, "offset_ms": -42.5, "offset_std_ms": 3.1,
        "direction": Direction.AUDIO_LATE, "confidence": 0.987, "drift_ppm": 1.5, "drift_std_ppm": 0.2,
        "drift_class": DriftClass.STEADY, "step_ms": None,
        "verdict": Verdict.IN_SYNC, "profile": "itu-r-bt1359", "window_s": 5.0, "faces": 1, "speech_ratio": 0.75,
        "model": "default 1", "video_dropped": 0, "audio_dropped": 0, "latency_ms": 320.0,
    }  # fmt: skip
    return Report(**values | more)


def silent(seq: int = 1, **more: Any) -> Report:
    """A report that knows nothing."""
    unknown = dict.fromkeys(
        ("offset_ms", "offset_std_ms", "direction", "confidence", "drift_ppm", "drift_std_ppm", "speech_ratio",
         "latency_ms", "faces", "clock_synced")
    )  # fmt: skip
    words = {"state": State.STALLED, "drift_class": DriftClass.UNKNOWN, "verdict": Verdict.UNKNOWN}
    return report(seq, **unknown | words | more)


def event(seq: int, **more: Any) -> Event:
    values: dict[str, Any] = {
        "schema": 1, "seq": seq, "boot_id": "boot", "uptime_s": 12.5, "t_unix_ms": 1_790_000_000_000,
        "clock_synced": None, "kind": EventKind.VERDICT, "before": "in_sync", "after": "detectable",
        "about": "The offset is now detectable.",
    }  # fmt: skip
    return Event(**values | more)


def health(**more: Any) -> Health:
    values: dict[str, Any] = {
        "schema": 1, "boot_id": "boot", "uptime_s": 60.0, "t_unix_ms": 1_790_000_000_000, "clock_synced": True,
        "cpu_ratio": 0.42, "memory_mb": 180.5, "threads": 9, "open_files": 30, "temperature_c": 51.2,
        "undervoltage": False, "disk_free_mb": 4000.0, "video_rate_hz": 24.98, "microphone_ppm": -12.5,
        "video_dropped": 1, "audio_dropped": 2, "sources_reopened": 0, "events_lost": 0, "load_step": 0,
    }  # fmt: skip
    return Health(**values | more)


def info(**more: Any) -> Info:
    values: dict[str, Any] = {
        "schema": 1, "version": "1.0", "model": "default 1", "model_digest": "ab" * 32, "profile": "itu-r-bt1359",
        "camera": "imx708", "microphone": "usb", "bias_ms": 8.0, "bias_std_ms": 1.0,
    }  # fmt: skip
    return Info(**values | more)
