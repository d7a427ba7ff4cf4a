"""Half an hour of bad luck for the MQTT sink, with a real mosquitto: `python -m tests.device.telemetry.mqtt_soak`.

A stand-in for the daemon reports and has five events a second all the time, whatever happens to the broker;
mosquitto_sub reads. Each line says what was done, and what became of the events, the daemon's pace and the memory.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from device.telemetry.mqtt import MqttSink
from device.telemetry.mqtt_connection import Phase
from tests.brokers import Mosquitto, Reader, event, health, report, settings, wait_until
from tests.rough_network import Manner, Way

TICK_S = 0.2
STEADY_S = 5.5  # a connection that held for so long counts as a success, and its loss as the first one
OUTAGE_S = 600.0


@dataclass
class Daemon:
    """Says something every tick, and notes how long that took it and how late it was."""

    sink: MqttSink
    seq: int = 0
    longest_call_s: float = 0.0
    latest_s: float = 0.0
    stopping: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        due_s = time.monotonic()
        while not self.stopping.is_set():
            began_s = time.monotonic()
            self.latest_s = max(self.latest_s, began_s - due_s)
            self.sink.event(event(self.seq))
            self.sink.report(report(self.seq))
            if self.seq % 300 == 0:
                self.sink.health(health())
            self.seq += 1
            self.longest_call_s = max(self.longest_call_s, time.monotonic() - began_s)
            due_s += TICK_S
            time.sleep(max(0.0, due_s - time.monotonic()))


class Soak:
    def __init__(self, daemon: Daemon, broker: Mosquitto, way: Way, reader: Reader) -> None:
        self.daemon, self.broker, self.way, self.reader = daemon, broker, way, reader
        self._read = 0

    def caught_up(self) -> None:
        target = self.daemon.seq - 1
        wait_until(lambda: target in self.reader.seqs()[-2000:], f"event {target}", within_s=150)

    def steady(self) -> None:
        wait_until(lambda: self.daemon.sink.phase is Phase.ONLINE, "the connection", within_s=150)
        time.sleep(STEADY_S)
        self.caught_up()

    def phase(self, name: str, work: Callable[[], None]) -> bool:
        """Do it, wait until all is well, and print what became of it; whether nothing was lost."""
        self.steady()
        self.daemon.longest_call_s = self.daemon.latest_s = 0.0
        first, began_s = self.daemon.seq, time.monotonic()
        work()
        self.steady()
        last = self.daemon.seq - 1
        self.caught_up()
        seqs = [seq for seq in self.reader.seqs() if first <= seq <= last]
        missing = sorted(set(range(first, last + 1)) - set(seqs))
        firsts = list(dict.fromkeys(seqs))
        print(
            f"{name}: {time.monotonic() - began_s:.0f} s, {last + 1 - first} events, {len(missing)} missing, "
            f"{len(seqs) - len(firsts)} twice, {'in' if firsts == sorted(firsts) else 'out of'} order, "
            f"{self.daemon.sink.events_lost} counted as lost; longest call {self.daemon.longest_call_s * 1000:.1f} ms, "
            f"latest tick {self.daemon.latest_s * 1000:.0f} ms, {psutil.Process().memory_info().rss / 1e6:.1f} MB, "
            f"{threading.active_count()} threads, {psutil.Process().num_fds()} files",
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
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = stack.enter_context(Mosquitto(folder))
        way = stack.enter_context(Way(broker.port, delay_s=2.0))
        reader = stack.enter_context(Reader(broker.port, "avdrift/#")).ready(broker)
        daemon = Daemon(MqttSink(settings(way.port, keepalive_s=10), report_every_s=TICK_S))
        stack.callback(daemon.sink.close)
        stack.callback(daemon.stopping.set)
        threading.Thread(target=daemon.run, daemon=True).start()
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
