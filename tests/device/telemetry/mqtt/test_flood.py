"""A thousand commands a second from a broker: a report each second all the same, memory flat, and `busy` as the answer.

With a real broker, and the real `avdrift run` in a process of its own, open and with signed commands.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import psutil
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from device.features.model_download import face_model_path
from device.records import Verb
from device.telemetry.mqtt.signed_command import signed
from tests.brokers import ROOT_TOPIC, Mosquitto, needs_mosquitto, wait_until
from tests.scenes import ROOT, looped

pytestmark = [
    pytest.mark.slow,
    needs_mosquitto,
    pytest.mark.skipif(not face_model_path().is_file(), reason="the face detector's model is not here"),
]
SECRET = b"0123456789abcdef0123456789abcdef"
PER_S, TICK_S, FLOOD_S = 1000, 0.02, 20.0
WARM_S, AFTER_S = 8.0, 4.0
MISSING_S, GROWTH_MB = 2.0, 15.0
# Beyond these this computer cannot tell: processes that want to run, and how late a thread without work is.
TOO_BUSY_LOAD, TOO_BUSY_S = 3.0, 0.3  # the first for each core


class Watcher:
    """What the device publishes and when, its memory, and how late a thread without work is meanwhile."""

    def __init__(self, port: int, device: psutil.Process) -> None:
        self.states_s: list[float] = []
        self.info: dict[str, Any] = {}
        self.answers: Counter[str] = Counter()
        self.memory_mb: list[float] = []
        self.late_s = 0.0
        self._device, self._ended = device, threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, "watcher")
        self._client.on_message = self._heard
        self._client.on_connect = lambda client, *_: client.subscribe(f"{ROOT_TOPIC}/#", qos=0)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        threading.Thread(target=self._look, daemon=True).start()

    def _heard(self, _: paho.Client, __: Any, message: paho.MQTTMessage) -> None:
        name = message.topic.removeprefix(f"{ROOT_TOPIC}/")
        if name == "state" and not message.retain:
            self.states_s.append(time.monotonic())
        elif name == "info":
            self.info = json.loads(message.payload)
        elif name.endswith("/result"):
            self.answers[json.loads(message.payload)["error"] or "done"] += 1

    def _look(self) -> None:
        due_s = time.monotonic()
        while not self._ended.wait(max(due_s - time.monotonic(), 0.0)):
            self.late_s = max(self.late_s, time.monotonic() - due_s)
            self.memory_mb.append(self._device.memory_info().rss / 1e6)
            due_s += 0.2

    def close(self) -> None:
        self._ended.set()
        self._client.disconnect()
        self._client.loop_stop()


@contextmanager
def device(folder: Path, port: int, *more: str) -> Iterator[psutil.Process]:
    """The daemon on a recording, which goes on talking; its reports are in `reports`."""
    mqtt = ["[mqtt]", 'host = "127.0.0.1"', f"port = {port}", 'node = "stage"', 'commands = "all"', *more]
    (folder / "avdrift.toml").write_text("\n".join(["config_version = 1", "[page]", 'listen = ""', *mqtt, ""]))
    command: list[str | Path] = [sys.executable, "-m", "device.cli", "run", "--source", looped(20)]
    command += ["--store", folder / "state", "--config", folder / "avdrift.toml"]
    with (folder / "reports").open("wb") as out, (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=log)
        try:
            yield psutil.Process(process.pid)
            assert process.poll() is None, (folder / "log").read_text()[-2000:]
        finally:
            process.terminate()
            process.wait(30)


def flood(port: int, payloads: Sequence[tuple[Verb, str]]) -> None:
    """Send them, a thousand a second."""
    client = paho.Client(CallbackAPIVersion.VERSION2, "stranger")
    client.connect("127.0.0.1", port)
    client.loop_start()
    due_s, at_once = time.monotonic(), round(PER_S * TICK_S)
    for start in range(0, len(payloads), at_once):
        for verb, payload in payloads[start : start + at_once]:
            client.publish(f"{ROOT_TOPIC}/cmd/{verb}", payload, qos=0)
        due_s += TICK_S
        time.sleep(max(0.0, due_s - time.monotonic()))
    client.disconnect()
    client.loop_stop()


def payload(verb: Verb, session: str | None) -> str:
    args = {"profile": "ebu-r37"} if verb is Verb.SET_PROFILE else {}
    return json.dumps(args if session is None else signed(SECRET, "stage", verb, session, args))


@pytest.mark.parametrize("kind", ["open", "unsigned", "signed"])
def test_a_thousand_commands_a_second(tmp_path: Path, kind: str) -> None:
    (tmp_path / "secret").write_bytes(SECRET)
    needs_secret = [] if kind == "open" else ['commands_secret_file = "secret"']
    with (
        Mosquitto(tmp_path / "broker", "allow_anonymous true\nlog_dest none") as broker,
        device(tmp_path, broker.port, *needs_secret) as process,
    ):
        watcher = Watcher(broker.port, process)
        wait_until(lambda: len(watcher.states_s) > WARM_S, "the reports", 60)
        session = str(watcher.info["command_session"]) if kind == "signed" else None
        verbs = list(Verb)
        payloads = [(verb, payload(verb, session)) for verb in verbs * (round(PER_S * FLOOD_S) // len(verbs))]
        before_mb, watcher.late_s, began_s = max(watcher.memory_mb), 0.0, time.monotonic()
        flood(broker.port, payloads)
        took_s = time.monotonic() - began_s
        time.sleep(AFTER_S)
        watcher.close()
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    if load > TOO_BUSY_LOAD or watcher.late_s > TOO_BUSY_S or took_s > FLOOD_S + 2:
        pytest.skip(f"this computer is too busy: {load:.1f} processes a core, a thread {watcher.late_s:.1f} s late")
    reports = [json.loads(line) for line in (tmp_path / "reports").read_text().splitlines()]
    arrived_s = [at_s for at_s in watcher.states_s if at_s > began_s - 1]
    for times_s in ([report["uptime_s"] for report in reports], arrived_s):
        assert max(later - earlier for earlier, later in pairwise(times_s)) < MISSING_S
    assert max(watcher.memory_mb) - before_mb < GROWTH_MB
    words = {"open": "busy", "unsigned": "not signed", "signed": "busy"}[kind]
    assert sum(count for answer, count in watcher.answers.items() if words in answer) > PER_S
    assert watcher.answers["done"]
