"""`avdrift bench --streams N`: whether this machine can process so many streams at once, each in real time.

Method: N complete daemons, each in a process of its own, play the same recording at its own pace, including decoding. A
stream is real-time if it drops next to nothing, is never overloaded, and its reports are not late.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import IO

from device.records import Fault

MAX_STREAMS = 64
_DROPPED_PER_REPORT = 0.5  # of some 75 frames and chunks per second
_LATE_MS = 3500.0  # well above the latency of any real-time stream


@dataclass(frozen=True, slots=True)
class Carried:
    """The result of one stream. latency_ms: the median of its reports; None without reports."""

    reports: int
    latency_ms: float | None
    dropped: int
    overloaded: int

    @property
    def realtime(self) -> bool:
        """Whether it kept up."""
        late = self.latency_ms is None or self.latency_ms > _LATE_MS
        return not late and not self.overloaded and self.dropped <= _DROPPED_PER_REPORT * self.reports


@dataclass(frozen=True, slots=True)
class StreamCosts:
    """The results of all streams of one run."""

    streams: list[Carried]
    cores: int
    cpu_ratio: float  # of one core, for all together, including the start

    @property
    def realtime(self) -> int:
        """How many of them kept up."""
        return sum(stream.realtime for stream in self.streams)


def bench_streams(count: int, source: Path, *, as_json: bool) -> None:
    """Measure and print."""
    found = measure_streams(count, source)
    if as_json:
        print(json.dumps({**asdict(found), "realtime": found.realtime}))
    else:
        print(format_streams(found))


def measure_streams(count: int, source: Path) -> StreamCosts:
    """Play `source` in `count` daemons at once, to its end."""
    command = [sys.executable, "-m", "device.cli", "replay", str(source), "--json", "--speed", "realtime"]
    began_s, cpu_s = time.monotonic(), _children_s()
    running: list[subprocess.Popen[bytes]] = []
    with ExitStack() as files:
        outputs = [files.enter_context(tempfile.TemporaryFile("w+")) for _ in range(count)]
        try:
            for out in outputs:
                process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.DEVNULL)
                running.append(process)
            for process in running:
                process.wait()
        finally:
            for process in running:
                process.kill()
                process.wait()
        ratio = (_children_s() - cpu_s) / max(time.monotonic() - began_s, 1e-6)
        streams = [carried(_lines(out)) for out in outputs]
    return StreamCosts(streams, len(os.sched_getaffinity(0)), round(ratio, 3))


def carried(lines: Sequence[str]) -> Carried:
    """The result from one stream's reports, as JSON lines."""
    reports = [json.loads(line) for line in lines]
    latencies = [report["latency_ms"] for report in reports if report["latency_ms"] is not None]
    return Carried(
        reports=len(reports),
        latency_ms=median(latencies) if latencies else None,
        dropped=reports[-1]["video_dropped"] + reports[-1]["audio_dropped"] if reports else 0,
        overloaded=sum(report["fault"] == Fault.OVERLOADED for report in reports),
    )


def format_streams(found: StreamCosts) -> str:
    """The table and a summary, without a newline at the end."""
    lines = ["stream  reports  latency  dropped  real-time"]
    for number, stream in enumerate(found.streams, 1):
        latency = "-" if stream.latency_ms is None else f"{stream.latency_ms / 1000:.1f} s"
        real = "yes" if stream.realtime else "no"
        lines.append(f"{number:6}  {stream.reports:7}  {latency:>7}  {stream.dropped:7}  {real}")
    lines.append(
        f"{found.realtime} of {len(found.streams)} in real time on {found.cores} cores, "
        f"with {found.cpu_ratio:.2f} cores busy"
    )
    return "\n".join(lines)


def _lines(out: IO[str]) -> list[str]:
    out.seek(0)
    return out.read().splitlines()


def _children_s() -> float:
    times = os.times()
    return times.children_user + times.children_system
