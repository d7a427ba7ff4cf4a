"""The daemon at real-time pace on one core of this computer, held to the speed of a Raspberry Pi 4's.

    python -m tests.devices.held_to_a_pi4 [--seconds 40]          as root: it makes a control group

Method: an int8 thread of a Pi 4 is planned with at 3.5 million multiply-accumulates a millisecond. The same towers are
timed here, alone on one thread; the ratio of the two speeds is the share of one core that the daemon gets, through the
kernel's bandwidth control. It reads a recording of 640x480 at 25 fps, stored uncompressed, since a live rig has no
decoder to pay for. Asked: it keeps up with less than 60 % of that share, and reports within 1.5 s
beyond the window. Times of other programs here do not count: the kernel counts the group's own.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import av
import numpy as np

from device.bench.timing import best_of
from device.towers.bundle import DEFAULT_BUNDLE, load_bundle
from device.towers.macs import count_macs

PI4_MMAC_PER_MS = 3.5
MAX_SHARE = 0.6
MAX_LATENCY_MS = 1500
PERIOD_US = 10_000
GROUPS = Path("/sys/fs/cgroup")
SAMPLE = Path("device/models/sample.mkv")


def write_uncompressed(path: Path, seconds: float) -> None:
    """The built-in recording's beginning at 640x480, as raw pictures and raw sound."""
    with av.open(str(SAMPLE)) as source, av.open(str(path), "w", format="matroska") as out:
        pictures = out.add_stream("rawvideo", rate=25, width=640, height=480, pix_fmt="yuv420p")
        sound = out.add_stream("pcm_s16le", rate=16_000, layout="mono")
        resampler = av.AudioResampler("s16", "mono", 16_000)
        for frame in source.decode(video=0, audio=0):
            if not isinstance(frame, av.VideoFrame | av.AudioFrame) or (frame.time or 0) >= seconds:
                continue
            if isinstance(frame, av.VideoFrame):
                out.mux(pictures.encode(frame.reformat(640, 480, "yuv420p")))
            else:
                for block in resampler.resample(frame):
                    out.mux(sound.encode(block))
        out.mux(pictures.encode(None))
        out.mux(sound.encode(None))


def mmac_per_ms() -> float:
    """How fast one thread of this computer runs the towers."""
    bundle = load_bundle(DEFAULT_BUNDLE)
    counts, times_s = 0.0, 0.0
    for name, model in (("lips.tflite", bundle.lips), ("audio.tflite", bundle.audio)):
        values = np.zeros(model.input_shape, np.float32)
        counts += count_macs((DEFAULT_BUNDLE / name).read_bytes()) / 1e6
        times_s += best_of(partial(model, values), 5, 0.2).min_s
    return counts / (times_s * 1000)


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


def cpu_s(pid: int) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(recording: Path, share: float) -> dict[str, float]:
    """The daemon held to `share` of a core from its first report on; what it used and how late its reports came."""
    command = [sys.executable, "-m", "device.cli", "run", "--source", str(recording)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    daemon = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
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
        daemon.wait()
    # The first was made at full speed, the last ones at the recording's end.
    latencies_ms = [report["latency_ms"] or math.inf for report in lines[2:-2]] or [math.inf]
    return {
        "reports": len(lines),
        "measuring": sum(report["state"] == "measuring" for report in lines),
        "cpu_ms_per_s": (last_s - used_s) / (end_s - begin_s) * 1000,
        "latency_median_ms": median(latencies_ms),
        "latency_worst_ms": max(latencies_ms),
        "dropped": lines[-1]["video_dropped"] + lines[-1]["audio_dropped"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=30.0, help="of the recording (default: %(default)s)")
    options = parser.parse_args()
    speed = mmac_per_ms()
    share = PI4_MMAC_PER_MS / speed
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder) / "raw.mkv"
        write_uncompressed(recording, options.seconds)
        found = run(recording, share)
    used = found["cpu_ms_per_s"] / (share * 1000)
    print(f"towers: {speed:.0f} MMAC/ms on one thread; a Pi 4 has {PI4_MMAC_PER_MS}: {share:.1%} of this core")
    print(json.dumps(found))
    print(f"used {used:.0%} of that core (asked: below {MAX_SHARE:.0%})")
    ok = used < MAX_SHARE and found["latency_worst_ms"] < MAX_LATENCY_MS and not found["dropped"]
    print("holds" if ok else "DOES NOT HOLD")
    return not ok


if __name__ == "__main__":
    sys.exit(main())
