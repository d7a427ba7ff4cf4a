"""For tests of trials: made-up reports, and a child that measures with the store's models until it is killed."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

from device.bundles.bundle import DEFAULT_BUNDLE, Bundle, load_bundle
from device.bundles.rollout import POLL_EVERY_S, Models
from device.bundles.store import Store
from device.bundles.trial_file import TrialFile
from device.config.settings import ModelSettings
from device.records import NS_PER_S, DriftClass, Report, State, Verdict
from device.state.disk import Disk

SHORT = ModelSettings(trial_reports=3, trial_speech_min=0.1)


class Device:
    """A daemon reduced to what it does for its models; a report is as the test says."""

    def __init__(self, folder: Path, settings: ModelSettings = SHORT, disk: Disk | None = None) -> None:
        self.now_ns, self.told = 1, list[str]()
        self.models = Models(Store(folder, disk), settings, disk)
        self.bundle = self.models.first()
        self._seq = 0
        self._listen()

    def measure(self, state: State = State.MEASURING, times: int = 1, **values: object) -> Bundle:
        """So many reports, one a second, and a look after each."""
        for _ in range(times):
            self._seq, self.now_ns = self._seq + 1, self.now_ns + NS_PER_S
            made = report(state, seq=self._seq, model=self.bundle.label, uptime_s=self.now_ns / NS_PER_S, **values)
            for _ in range(2):  # a report is seen more than once
                self.bundle = self.models.poll(self.bundle, made, self.now_ns) or self.bundle
            self._listen()
        return self.bundle

    def notice(self) -> Bundle:
        """Nothing is reported, and time for a look passes."""
        self.now_ns += round(POLL_EVERY_S * NS_PER_S) + 1
        self.bundle = self.models.poll(self.bundle, None, self.now_ns) or self.bundle
        self._listen()
        return self.bundle

    def end(self) -> None:
        self.models.__exit__(None, None, None)

    def die(self) -> None:
        """As kill -9: nothing is written, and the lock is free."""
        self.models.__exit__(MemoryError, MemoryError(), None)

    def _listen(self) -> None:
        self.told += [change.about for change in self.models.changes]
        self.models.changes.clear()


def builtin() -> Bundle:
    return load_bundle(DEFAULT_BUNDLE)


def report(state: State, *, seq: int = 1, model: str = "", uptime_s: float = 0.0, **values: object) -> Report:
    """A report that says nothing but what is given."""
    usual: dict[str, object] = {
        "schema": 1, "boot_id": "b", "t_unix_ms": 1, "clock_synced": None, "offset_ms": None, "offset_std_ms": None,
        "direction": None, "confidence": None, "drift_ppm": None, "drift_std_ppm": None,
        "drift_class": DriftClass.UNKNOWN, "step_ms": None,
        "verdict": Verdict.UNKNOWN, "profile": "itu-r-bt1359", "window_s": 5.0, "faces": None, "speech_ratio": None,
        "video_dropped": 0, "audio_dropped": 0, "latency_ms": None,
    }  # fmt: skip
    made: Report = Report(**(usual | {"seq": seq, "state": state, "model": model, "uptime_s": uptime_s} | values))  # type: ignore[arg-type]
    return made


def _measure_for_ever(folder: Path, bundles: list[Path], seed: int) -> None:
    """Bundles in and out, some pass and some fail, starts and ends; never stopping."""
    dice, store = random.Random(seed), Store(folder)
    while True:
        device = Device(folder)
        for _ in range(dice.randrange(1, 6)):
            bundle = store.install(dice.choice(bundles), allow_unsigned=True, allow_downgrade=True)
            store.activate(bundle.digest, allow_downgrade=True)
            device.notice()
            state = dice.choice([State.MEASURING, State.UNCERTAIN, State.STALLED])
            device.measure(state, dice.randrange(9), fault="model_failed" if state is State.STALLED else None)
        device.end()


def kill_often(folder: Path, bundles: list[Path], times: int, seed: int) -> None:
    """Kill a child that tries models at random moments. Whatever was cut short, the next start measures."""
    dice, seen = random.Random(seed), set[str]()
    for number in range(times):
        child = os.fork()
        if not child:
            try:
                _measure_for_ever(folder, bundles, seed + number)
            finally:
                os._exit(1)
        time.sleep(dice.uniform(0.0, 0.25))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), "the child ended before it was killed"
        before = TrialFile(folder).read()
        device = Device(folder)
        device.notice()
        current = Store(folder).load_current()
        assert device.bundle.digest == (current or builtin()).digest
        seen |= {trial.standing.value for trial in before.values()}
        device.end()
    print(f"killed {times}, standings {len(seen)}")


if __name__ == "__main__":  # forks, so in a process that has no threads
    kill_often(Path(sys.argv[1]), [Path(name) for name in sys.argv[4:]], int(sys.argv[2]), int(sys.argv[3]))
