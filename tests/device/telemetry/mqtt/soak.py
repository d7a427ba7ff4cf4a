"""Half an hour of bad luck for the MQTT sink, with a real mosquitto: `python -m tests.device.telemetry.mqtt.soak`.

A stand-in for the daemon reports and has five events a second all the time, whatever happens to the broker;
mosquitto_sub reads. Each line says what was done, and what became of the events, the daemon's pace and the memory.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from array import array
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil

from device.telemetry.mqtt.connection import Phase
from device.telemetry.mqtt.sink import MqttSink
from tests.brokers import ROOT_TOPIC, Mosquitto, Read, Reader, event, health, report, settings, wait_until
from tests.device.telemetry.mqtt.rough_network import Manner, Way

TICK_S = 0.2
STEADY_S = 5.5  # a connection that held for so long counts as a success, and its loss as the first one
OUTAGE_S = 600.0


class Daemon:
    """Says something every tick; notes how much processor time that took it, and how late it was."""

    def __init__(self, port: int) -> None:
        self.sink = MqttSink(settings(port, keepalive_s=10), report_every_s=TICK_S)
        self.seq = 0
        self.call_s = self.late_s = self.idle_late_s = 0.0

    def run(self) -> None:
        due_s = time.monotonic()
        while True:
            began_s = time.thread_time()
            self.late_s = max(self.late_s, time.monotonic() - due_s)
            self.sink.event(event(self.seq))
            self.sink.report(report(self.seq))
            if self.seq % 300 == 0:
                self.sink.health(health())
            self.seq += 1
            self.call_s = max(self.call_s, time.thread_time() - began_s)
            due_s += TICK_S
            time.sleep(max(0.0, due_s - time.monotonic()))

    def idle(self) -> None:
        """A thread with nothing to do: how late this computer lets anybody be."""
        due_s = time.monotonic()
        while True:
            self.idle_late_s = max(self.idle_late_s, time.monotonic() - due_s)
            due_s += TICK_S
            time.sleep(max(0.0, due_s - time.monotonic()))

    def serve(self) -> None:
        """For each line on standard input, how it is; then the counts begin anew."""
        for work in (self.run, self.idle):
            threading.Thread(target=work, daemon=True).start()
        process = psutil.Process()
        for _ in sys.stdin:
            found = {
                "seq": self.seq, "phase": self.sink.phase, "lost": self.sink.events_lost, "call_ms": self.call_s * 1e3,
                "late_ms": self.late_s * 1e3, "idle_late_ms": self.idle_late_s * 1e3,
                "mb": process.memory_info().rss / 1e6, "threads": threading.active_count(), "files": process.num_fds(),
            }  # fmt: skip
            self.call_s = self.late_s = self.idle_late_s = 0.0
            print(json.dumps(found), flush=True)
        self.sink.close()


class Child:
    """The daemon, in a process of its own."""

    def __init__(self, port: int) -> None:
        command = [sys.executable, "-m", "tests.device.telemetry.mqtt.soak", "--daemon", str(port)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self) -> dict[str, Any]:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found

    def close(self) -> None:
        self._process.communicate(timeout=30)


class Counter(Reader):
    """Remembers no more than the numbers of the events, so that the memory that is measured is not its own."""

    def __init__(self, port: int) -> None:
        self._seqs = array("l")
        super().__init__(port, f"{ROOT_TOPIC}/event")

    def _keep(self, read: Read) -> None:
        if read.topic == "ready":
            self.lines = [read]
        else:
            self._seqs.append(json.loads(read.payload)["seq"])

    def seqs(self) -> list[int]:
        return list(self._seqs)


class Soak:
    def __init__(self, daemon: Child, broker: Mosquitto, way: Way, reader: Counter) -> None:
        self.daemon, self.broker, self.way, self.reader = daemon, broker, way, reader
        self._calls_ms = self._late_ms = self._idle_ms = 0.0

    def ask(self) -> dict[str, Any]:
        found = self.daemon.ask()
        self._calls_ms = max(self._calls_ms, found["call_ms"])
        self._late_ms, self._idle_ms = max(self._late_ms, found["late_ms"]), max(self._idle_ms, found["idle_late_ms"])
        return found

    def steady(self) -> dict[str, Any]:
        """Connected for a while, and everything read; how the daemon is then."""
        wait_until(lambda: self.ask()["phase"] == Phase.ONLINE, "the connection", within_s=150, every_s=0.2)
        time.sleep(STEADY_S)
        found = self.ask()
        target = found["seq"] - 1
        wait_until(lambda: target in self.reader.seqs()[-2000:], f"event {target}", within_s=150, every_s=0.2)
        return found

    def phase(self, name: str, work: Callable[[], None]) -> bool:
        """Do it, wait until all is well, and print what became of it; whether nothing was lost."""
        first, began_s = self.steady()["seq"], time.monotonic()
        self._calls_ms = self._late_ms = self._idle_ms = 0.0
        work()
        found = self.steady()
        seqs = [seq for seq in self.reader.seqs() if first <= seq < found["seq"]]
        missing, firsts = sorted(set(range(first, found["seq"])) - set(seqs)), list(dict.fromkeys(seqs))
        print(
            f"{name}: {time.monotonic() - began_s:.0f} s, {found['seq'] - first} events, {len(missing)} missing, "
            f"{len(seqs) - len(firsts)} twice, {'in' if firsts == sorted(firsts) else 'out of'} order, "
            f"{found['lost']} counted as lost; longest call {self._calls_ms:.1f} ms of processor, latest tick "
            f"{self._late_ms:.0f} ms (a thread without work: {self._idle_ms:.0f} ms); {found['mb']:.1f} MB, "
            f"{found['threads']} threads, {found['files']} files",
            flush=True,
        )
        if missing:
            print(f"  missing: {missing[:20]}", flush=True)
        return not missing

    def restart(self, times: int, number: int) -> None:
        for _ in range(times):
            self.broker.stop(number)
            time.sleep(random.uniform(0.1, 1.0))
            self.broker.start()
            self.steady()

    def behave(self, manner: Manner, seconds: float) -> None:
        self.way.become(manner)
        time.sleep(seconds)
        self.way.become(Manner.FAIR)
        if manner is not Manner.SLOW:
            self.way.cut()

    def stop_for(self, seconds: float) -> None:
        self.broker.signal(signal.SIGSTOP)
        time.sleep(seconds)
        self.broker.signal(signal.SIGCONT)

    def away(self, seconds: float) -> None:
        self.broker.stop()
        time.sleep(seconds)
        self.broker.start()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--restarts", type=int, default=50)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--outage-s", type=float, default=OUTAGE_S)
    parser.add_argument("--daemon", type=int, metavar="PORT", help="be the daemon")
    options = parser.parse_args()
    if options.daemon:
        Daemon(options.daemon).serve()
        return 0
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = stack.enter_context(Mosquitto(folder))
        way = stack.enter_context(Way(broker.port, delay_s=2.0))
        reader = stack.enter_context(Counter(broker.port)).ready(broker)
        daemon = Child(way.port)
        stack.callback(daemon.close)
        soak = Soak(daemon, broker, way, reader)
        done = [
            soak.phase(f"restarted {options.restarts} times", lambda: soak.restart(options.restarts, signal.SIGTERM)),
            soak.phase(f"killed {options.kills} times", lambda: soak.restart(options.kills, signal.SIGKILL)),
            soak.phase("slow, 2 s each way, for 30 s", lambda: soak.behave(Manner.SLOW, 30)),
            soak.phase("rubbish for 30 s", lambda: soak.behave(Manner.GARBAGE, 30)),
            soak.phase("half-open for 30 s", lambda: soak.behave(Manner.SWALLOWING, 30)),
            soak.phase("broker stopped in its tracks for 30 s", lambda: soak.stop_for(30)),
            soak.phase(f"unreachable for {options.outage_s:g} s", lambda: soak.away(options.outage_s)),
        ]
    return 0 if all(done) else 1


if __name__ == "__main__":
    sys.exit(main())
