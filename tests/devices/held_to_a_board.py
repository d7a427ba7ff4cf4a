"""The daemon at real-time pace on one core of this computer, held to the speed of a Raspberry Pi's.

    python -m tests.devices.held_to_a_board pi4 [--seconds 40]          as root: it makes a control group
    python -m tests.devices.held_to_a_board zero2w

Method: one int8 thread of a Pi 4 is planned with at 3.5 million multiply-accumulates a millisecond, half of what it has
been seen to do, and one of a Pi Zero 2 W at 1.2; a small network (12.5 million) ran at 54 on a server's core. Their
ratio is the share of one core that the daemon gets, through the kernel's bandwidth control. `--mmac-per-ms` takes
another speed: the towers alone reach twice as much where the processor has instructions for int8, which no other part
of the pipeline gains from.
Its camera gives pictures of 640x480 at 25 fps as a Raspberry Pi's does (YUV 4:2:0, copied when they come), its
microphone 16 kHz; both are scripted, so that what libcamera and ALSA cost is not in it. Asked: it keeps up with less
than 60 % of that share (all of it on a Zero 2 W, which has three more cores), drops nothing, and reports within 1.5 s
beyond the window.

All shares are of processor time, not of the clock's. Other programs still make each instruction dearer, as they take
the caches: compare two versions in turns on the same machine. One look of the face detector, in a loop, is told beside.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from device.bundles.bundle import DEFAULT_BUNDLE, load_bundle
from device.capture.cameras.pixels import to_picture
from device.capture.file import FileSource
from device.capture.microphones.resampler import CHUNK_MS
from device.capture.source import Closing
from device.config.settings import MeasureSettings, PageSettings
from device.features.model_download import require_face_model
from device.litert import Model
from device.records import NS_PER_MS, NS_PER_S, Chunk, Frame, Samples
from device.reporting.sink import Hub, Sink
from device.runtime.daemon import Daemon
from device.runtime.inputs.source_thread import Feed
from device.runtime.sinks import page_sink
from device.telemetry.stdout_sink import Lines

SERVER_MMAC_PER_MS = 54.0
MAX_LATENCY_MS = 1500
PERIOD_US = 10_000
GROUPS = Path("/sys/fs/cgroup")
SAMPLE = Path("device/models/sample.mkv")


@dataclass(frozen=True)
class Board:
    name: str
    mmac_per_ms: float
    max_share: float  # of one core


BOARDS = {"pi4": Board("Pi 4", 3.5, 0.6), "zero2w": Board("Pi Zero 2 W", 1.2, 1.0)}


class Scripted(Closing):
    """A live source that gives made items, each when its time has come, made at that moment as a driver's would be."""

    def __init__(self, times_s: Sequence[float], make: Callable[[int, int], Frame | Chunk], begin_ns: int) -> None:
        self._times_s, self._make, self._begin_ns = times_s, make, begin_ns
        self.device, self.dropped, self.rate_ppm = "scripted", 0, None

    def close(self) -> None: ...

    def __iter__(self) -> Iterator[Frame | Chunk]:
        for k, t_s in enumerate(self._times_s):
            t_ns = self._begin_ns + round(t_s * NS_PER_S)
            time.sleep(max(t_ns - time.monotonic_ns(), 0) / NS_PER_S)
            yield self._make(k, t_ns)
        time.sleep(60)  # the daemon is stopped before


def recorded() -> tuple[list[npt.NDArray[np.uint8]], list[Samples]]:
    """The sample's frames as a camera's, and its audio as blocks, as long as the frames."""
    pictures: list[npt.NDArray[np.uint8]] = []
    heard: list[Samples] = []
    for item in FileSource(SAMPLE):
        if isinstance(item, Frame):
            large = cv2.resize(item.rgb, (640, 480))
            pictures.append(np.asarray(cv2.cvtColor(large, cv2.COLOR_RGB2YUV_I420), np.uint8))
        else:
            heard.append(item.samples)
    count, blocks = 16_000 * CHUNK_MS // 1000, len(pictures) * 40 // CHUNK_MS
    whole = np.concatenate([*heard, np.zeros(count * blocks, np.float32)])
    return pictures, [whole[k * count : (k + 1) * count] for k in range(blocks)]


def measure(seconds: float, state_dir: Path | None) -> None:
    """In a process of its own: the daemon on scripted live sources, its reports as lines of JSON.

    With a state folder it also shows the page, at the port in the file `port` there.
    """
    cv2.setNumThreads(1)
    pictures, sounds = recorded()
    begin_ns = time.monotonic_ns() + NS_PER_S

    def picture(k: int, t_ns: int) -> Frame:
        found = to_picture(pictures[k % len(pictures)].ravel(), "YUV420", (640, 480), 640)
        assert found is not None
        return Frame(k, t_ns, found)

    def sound(k: int, t_ns: int) -> Chunk:
        return Chunk(k, t_ns - CHUNK_MS * NS_PER_MS, 16_000, sounds[k % len(sounds)])

    frame_times_s = [k / 25 for k in range(int(seconds * 25))]
    chunk_times_s = [(k + 1) * CHUNK_MS / 1000 for k in range(int(seconds * 1000) // CHUNK_MS)]
    feeds = [
        Feed("camera", lambda: Scripted(frame_times_s, picture, begin_ns)),
        Feed("microphone", lambda: Scripted(chunk_times_s, sound, begin_ns)),
    ]
    sinks: list[Sink] = [Lines(sys.stdout.fileno(), as_json=True)]
    page = None
    if state_dir is not None:
        settings = PageSettings(port=int((state_dir / "port").read_text()))
        page = page_sink(settings, report_every_s=1.0, folder=state_dir, state_dir=state_dir, recording=False)
        assert page is not None
        sinks.append(page)
    view = page.view if page else None
    daemon = Daemon(load_bundle(DEFAULT_BUNDLE), require_face_model(), MeasureSettings(), Hub(sinks), view=view)
    threading.Timer(seconds, daemon.stop).start()
    daemon.run(feeds)


@contextmanager
def held_to(share: float) -> Iterator[Path]:
    """A control group whose processes get this share of one core; give it process numbers through the yielded file."""
    quota_us = max(round(share * PERIOD_US), 1000)  # the kernel's least
    period_us = round(quota_us / share)
    first_version = (GROUPS / "cpu").is_dir()
    group = (GROUPS / "cpu" if first_version else GROUPS) / f"avdrift-{os.getpid()}"
    group.mkdir()
    try:
        if first_version:
            (group / "cpu.cfs_period_us").write_text(str(period_us))
            (group / "cpu.cfs_quota_us").write_text(str(quota_us))
        else:
            (group / "cpu.max").write_text(f"{quota_us} {period_us}")
        yield group / "cgroup.procs"
    finally:
        group.rmdir()


def face_detector_ms() -> float:
    """Processor time of one look, in a loop that nothing interrupts."""
    detector = Model(require_face_model().read_bytes(), name="face detector")
    picture = np.zeros(detector.input_shape, np.float32)
    times_ms: list[float] = []
    for _ in range(50):
        begun_ns = time.thread_time_ns()
        detector(picture)
        times_ms.append((time.thread_time_ns() - begun_ns) / NS_PER_MS)
    return median(times_ms)


def cpu_s(pid: int) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    """Memory that a process holds."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def daemon_process(seconds: float, state_dir: Path | None = None) -> subprocess.Popen[str]:
    """The daemon of `measure` in a process of its own."""
    command = [sys.executable, "-m", "tests.devices.held_to_a_board", "--measure", "--seconds", str(seconds)]
    command += ["--state-dir", str(state_dir)] if state_dir else []
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def run(seconds: float, share: float) -> dict[str, float]:
    """The daemon held to `share` of a core from its first report on; what it used and how late its reports came."""
    daemon = daemon_process(seconds)
    with held_to(share) as members, daemon:
        assert daemon.stdout
        begin_s = used_s = 0.0
        lines: list[dict[str, Any]] = []
        for line in daemon.stdout:
            if not line.startswith("{"):
                continue
            if not lines:
                members.write_text(str(daemon.pid))
                begin_s, used_s = time.monotonic(), cpu_s(daemon.pid)
            lines.append(json.loads(line))
            end_s, last_s = time.monotonic(), cpu_s(daemon.pid)
            memory_mb = resident_mb(daemon.pid)
        daemon.wait()
    latencies_ms = [report["latency_ms"] or math.inf for report in lines if report["offset_ms"]] or [math.inf]
    return {
        "reports": len(lines),
        "measuring": sum(report["state"] == "measuring" for report in lines),
        "cpu_ms_per_s": (last_s - used_s) / (end_s - begin_s) * 1000,
        "latency_median_ms": median(latencies_ms),
        "latency_worst_ms": max(latencies_ms),
        "memory_mb": memory_mb,
        "dropped": lines[-1]["video_dropped"] + lines[-1]["audio_dropped"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("board", nargs="?", choices=BOARDS, default="pi4", help="default: %(default)s")
    parser.add_argument("--mmac-per-ms", type=float, default=SERVER_MMAC_PER_MS, help="of this core (%(default)s)")
    parser.add_argument("--seconds", type=float, default=30.0, help="of the recording (default: %(default)s)")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--state-dir", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    board = BOARDS[options.board]
    share = board.mmac_per_ms / options.mmac_per_ms
    if options.measure:
        measure(options.seconds, options.state_dir)
        return 0
    found = run(options.seconds, share)
    used = found["cpu_ms_per_s"] / (share * 1000)
    print(f"a {board.name} has {board.mmac_per_ms} MMAC/ms, this core {options.mmac_per_ms:g}: {share:.1%} of it")
    print(json.dumps(found))
    print(f"one look of the face detector takes {face_detector_ms():.2f} ms of this core")
    print(f"used {used:.0%} of that core (asked: below {board.max_share:.0%})")
    ok = used < board.max_share and found["latency_worst_ms"] < MAX_LATENCY_MS and not found["dropped"]
    print("holds" if ok else "DOES NOT HOLD")
    return not ok


if __name__ == "__main__":
    sys.exit(main())
