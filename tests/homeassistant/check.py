"""Does Home Assistant read what avdrift sends? Its own core and MQTT integration against a real mosquitto and the sink.

    python -m tests.homeassistant.check [--python PYTHON3.13] [--folder build/homeassistant]

Makes an environment of its own for Home Assistant (about 600 MB), once. `make test-homeassistant` runs it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from device.records import Command
from device.telemetry.mqtt.sink import MqttSink
from tests.brokers import (
    FAST,
    NODE,
    Mosquitto,
    Reader,
    event,
    free_port,
    health,
    info,
    report,
    settings,
    silent,
    wait_until,
)  # fmt: skip
from tests.scenes import ROOT

VERSION = "2025.4.4"  # for Python 3.13; device-based discovery came with 2024.12
PAHO = "2.1.0"  # what that version's MQTT integration asks for
PATIENCE_S = 60.0
# How each entity stands in Home Assistant while all is well, by the end of its unique id.
WELL = {
    "offset": "-42.5", "direction": "audio_late", "verdict": "in_sync", "state": "measuring", "confidence": "98.7",
    "drift": "1.5", "speech_ratio": "75.0", "latency": "320.0", "fault": "none", "problem": "off", "in_sync": "on",
    "video_dropped": "0", "audio_dropped": "0", "temperature": "51.2", "cpu": "42.0", "memory": "180.5",
    "microphone_ppm": "-12.5", "video_rate": "24.98", "load_step": "0", "sources_reopened": "0", "events_lost": "0",
    "undervoltage": "off", "profile": "itu-r-bt1359",
}  # fmt: skip
UNKNOWN = ("offset", "direction", "confidence", "drift", "speech_ratio", "latency", "in_sync")
DISABLED = ("offset_std", "drift_std")


def environment(python: str, folder: Path) -> Path:
    """Python with Home Assistant in it."""
    made = folder / "bin" / "python"
    if not (folder / f".made-{VERSION}").exists():
        subprocess.run([python, "-m", "venv", "--clear", str(folder)], check=True)
        packages = [f"homeassistant=={VERSION}", f"paho-mqtt=={PAHO}"]
        subprocess.run([str(made), "-m", "pip", "install", "--quiet", *packages], check=True)
        (folder / f".made-{VERSION}").touch()
    return made


class HomeAssistant:
    """In its own process; one question at a time."""

    def __init__(self, python: Path, port: int, log: Path) -> None:
        command = [str(python), str(ROOT / "tests" / "homeassistant" / "inside.py"), str(port), str(free_port())]
        self._log = log
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        assert self._answer() == {"started": True}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.communicate(timeout=PATIENCE_S)

    def _answer(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, self._log.read_text()[-3000:]
        return json.loads(line)

    def ask(self, line: str) -> Any:
        assert self._process.stdin
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._answer()

    def entities(self) -> dict[str, dict[str, Any]]:
        return {name.removeprefix(f"avdrift_{NODE}_"): entity for name, entity in self.ask("states").items()}

    def shows(self, expected: dict[str, str]) -> None:
        def wrong() -> dict[str, tuple[str, Any]]:
            found = self.entities()
            now = {name: found.get(name, {}).get("state") for name in expected}
            return {name: (value, now[name]) for name, value in expected.items() if now[name] != value}

        wait_until(lambda: not wrong(), f"agreement (expected, found): {wrong()}", PATIENCE_S, every_s=0.3)


class Daemon:
    """Says the same thing every half second, and keeps the commands that come."""

    def __init__(self, port: int) -> None:
        self.taken: list[Command] = []
        self.sink = MqttSink(settings(port), report_every_s=0.5, backoff=FAST)
        self.sink.submit_to(self._take)
        self.make: Callable[[int], None] = lambda seq: self.sink.report(report(seq))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _take(self, command: Command) -> None:
        self.taken.append(command)
        command.reply({"ok": True, "error": None})

    def _run(self) -> None:
        for seq in range(1_000_000):
            self.make(seq)
            if self._stop.wait(0.5):
                return

    def silence(self) -> None:
        self._stop.set()
        self._thread.join()


def check(python: Path, folder: Path) -> None:
    with Mosquitto(folder) as broker, Reader(broker.port).ready(broker) as reader:
        daemon = Daemon(broker.port)
        daemon.sink.info(info())
        daemon.sink.health(health())
        with HomeAssistant(python, broker.port, folder / "homeassistant.log") as home:
            said("the broker's address entered; waiting for the device")
            home.shows(WELL)
            look(home)
            birth(daemon, reader)
            events(daemon, home)
            commands(daemon, home)
            unknowns(daemon, home)
            availability(daemon, broker, home)
            complaints = [
                line for line in (folder / "homeassistant.log").read_text().splitlines()
                if line.startswith(("WARNING:homeassistant.components", "ERROR"))
            ]  # fmt: skip
            assert not complaints, complaints
            said("no warning and no error of its integrations")
            removal(broker, home)


def look(home: HomeAssistant) -> None:
    entities = home.entities()
    for name, entity in sorted(entities.items()):
        unit = entity["attributes"].get("unit_of_measurement", "")
        disabled = "  (begins disabled)" if entity["disabled"] else ""
        print(f"  {entity['entity_id']:52} {entity['state']} {unit}{disabled}")
        assert entity["disabled"] == (name in DISABLED), name
    assert entities["offset"]["attributes"].get("device_class") is None
    assert entities["offset"]["attributes"]["state_class"] == "measurement"
    (device,) = home.ask("devices")
    assert device["name"] == f"avdrift {NODE}" and device["identifiers"] == [["mqtt", f"avdrift_{NODE}"]]
    said(f"{len(entities)} entities on one device, {device}")


def birth(daemon: Daemon, reader: Reader) -> None:
    wait_until(lambda: any(r.topic == "homeassistant/status" and r.payload == "online" for r in reader.lines), "birth")
    wait_until(lambda: len(reader.of("info")) >= 2, "the answer to its birth message", PATIENCE_S)
    said("its birth message was heard and answered")


def events(daemon: Daemon, home: HomeAssistant) -> None:
    daemon.sink.event(event(7, before=None, after='it\'s "späť"'))
    wait_until(lambda: home.entities()["event"]["attributes"].get("seq") == 7, "the event", PATIENCE_S, every_s=0.3)
    attributes = home.entities()["event"]["attributes"]
    assert attributes["event_type"] == "verdict" and attributes["before"] is None, attributes
    assert attributes["after"] == 'it\'s "späť"', attributes
    said(f"an event with its attributes: {attributes['about']}")


def commands(daemon: Daemon, home: HomeAssistant) -> None:
    entities = home.entities()
    for name in ("recalibrate", "restart_sources", "model_rollback"):
        home.ask(f"press {entities[name]['entity_id']}")
    home.ask(f"select {entities['profile']['entity_id']} ebu-r37")
    wait_until(lambda: len(daemon.taken) == 4, f"commands ({daemon.taken})", PATIENCE_S)
    assert [command.verb for command in daemon.taken] == [
        "recalibrate", "restart-sources", "model-rollback", "set-profile"
    ]  # fmt: skip
    assert daemon.taken[-1].args == {"profile": "ebu-r37"}
    said("three buttons and the select arrive as commands")


def unknowns(daemon: Daemon, home: HomeAssistant) -> None:
    daemon.make = lambda seq: daemon.sink.report(silent(seq, fault="camera_lost"))
    home.shows(dict.fromkeys(UNKNOWN, "unknown") | {"fault": "camera_lost", "problem": "on", "state": "stalled"})
    said("null is unknown, a fault is a problem")


def availability(daemon: Daemon, broker: Mosquitto, home: HomeAssistant) -> None:
    daemon.make = lambda seq: daemon.sink.report(report(seq))
    home.shows(WELL)
    broker.publish(f"avdrift/{NODE}/availability", "offline", retain=True)
    home.shows(dict.fromkeys(WELL, "unavailable"))
    broker.publish(f"avdrift/{NODE}/availability", "online", retain=True)
    home.shows(WELL)
    daemon.silence()
    began_s = time.monotonic()
    home.shows({"offset": "unavailable", "state": "unavailable", "temperature": "51.2"})
    said(f"without reports the measured values expire after {time.monotonic() - began_s:.0f} s, those of health do not")
    daemon.sink.close()
    home.shows(dict.fromkeys(WELL, "unavailable"))
    said("offline and stopped are unavailable")


def removal(broker: Mosquitto, home: HomeAssistant) -> None:
    broker.publish(f"homeassistant/device/avdrift_{NODE}/config", None, retain=True)
    wait_until(lambda: not home.entities() and not home.ask("devices"), "the removal", PATIENCE_S, every_s=0.3)
    said("an empty payload takes the device away")


def said(text: str) -> None:
    print(f"Home Assistant {VERSION}: {text}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Asks Home Assistant itself.")
    parser.add_argument("--python", default="python3.13", help="the Python that Home Assistant needs")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "homeassistant")
    options = parser.parse_args()
    python = environment(options.python, options.folder.absolute())
    with tempfile.TemporaryDirectory() as folder:
        check(python, Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
