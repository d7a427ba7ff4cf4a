"""What the page costs on a core held to a Raspberry Pi 4's: closed, and open in a browser with five images a second.

    python -m tests.devices.page_on_a_pi4 [--turns 6]          as root: it makes a control group. Needs Chromium

One daemon runs all the time, on the sample in a loop; headless Chromium, outside of the control group, opens and leaves
its page in turns. A turn of each kind falls on each third of the sample, and the two on the same third are compared.
Processor time is the kernel's, of each thread in nanoseconds. Asked: open, at most 8 % of the core more than closed, no
report later by more than 50 ms (median), nothing dropped, and at most 25 MB more than without the page.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median, stdev
from subprocess import Popen
from typing import Any

from device.config.settings import PageSettings
from device.page.token import read_token, token_file
from device.records import NS_PER_MS
from tests.device.page.browsers import browser
from tests.device.page.served import free_port
from tests.devices.held_to_a_board import BOARDS, SERVER_MMAC_PER_MS, daemon_process, held_to, resident_mb, run

MAX_MORE, MAX_LATER_MS, MAX_MORE_MB = 0.08, 50.0, 25.0
THIRDS, TURN_S, SETTLE_S = 3, 16.0, 4.0  # the sample has 48 s; loading the page, and the last image, are left out
START_S, MEMORY_S = 12.0, 20.0
COUNT_IMAGES = """
window.images = 0;
const made = window.createImageBitmap;
window.createImageBitmap = (...given) => { window.images += 1; return made.apply(window, given); };
"""


@dataclass(frozen=True)
class Turn:
    """What one stretch with the page open or closed used, and how its reports came."""

    open: bool
    page_ms_per_s: float
    daemon_ms_per_s: float
    latency_ms: float
    dropped: int
    memory_mb: float
    images_per_s: float


class Daemon:
    """The daemon held to a share of a core from its first report on."""

    def __init__(self, process: Popen[str], members: Path) -> None:
        self._process, self._members = process, members
        self.reports: list[dict[str, Any]] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            if line.startswith("{"):
                if not self.reports:
                    self._members.write_text(str(self._process.pid))
                self.reports.append(json.loads(line))

    def used_ns(self) -> tuple[dict[str, int], dict[str, int]]:
        """Processor time of each thread, and of those that have lowered their priority: the page's."""
        own, threads, page = os.getpriority(os.PRIO_PROCESS, 0), {}, {}
        for thread in Path(f"/proc/{self._process.pid}/task").iterdir():
            threads[thread.name] = int((thread / "schedstat").read_text(encoding="ascii").split()[0])
            if os.getpriority(os.PRIO_PROCESS, int(thread.name)) > own:
                page[thread.name] = threads[thread.name]
        return threads, page

    @property
    def memory_mb(self) -> float:
        return resident_mb(self._process.pid)


def turn(daemon: Daemon, driver: Any, url: str, end_s: float) -> Turn:
    """Show this URL until `end_s`; all figures are of the time after it has settled."""
    driver.get(url)
    is_open = url.startswith("http")
    time.sleep(max(end_s - (TURN_S - SETTLE_S) - time.monotonic(), 0))
    if is_open:
        driver.execute_script(COUNT_IMAGES)
    begin_s, (threads, page), first = time.monotonic(), daemon.used_ns(), len(daemon.reports)
    time.sleep(max(end_s - time.monotonic(), 0))
    seconds, (threads_after, page_after) = time.monotonic() - begin_s, daemon.used_ns()
    images = driver.execute_script("return window.images") if is_open else 0
    before, reports = daemon.reports[first - 1], daemon.reports[first:]

    def per_s(after: dict[str, int], earlier: dict[str, int]) -> float:
        return sum(used - earlier.get(name, 0) for name, used in after.items()) / NS_PER_MS / seconds

    return Turn(
        is_open,
        per_s(page_after, page),
        per_s(threads_after, threads),
        median(report["latency_ms"] or math.inf for report in reports),
        sum(reports[-1][key] - before[key] for key in ("video_dropped", "audio_dropped")),
        daemon.memory_mb,
        images / seconds,
    )


def turns_of_both(count: int, share: float) -> list[Turn]:
    """Closed and open `count` times each, in turns."""
    with tempfile.TemporaryDirectory() as folder, held_to(share) as members, browser(390, 844) as driver:
        state_dir, port = Path(folder), free_port()
        (state_dir / "port").write_text(str(port))
        token = read_token(token_file(PageSettings(), state_dir, state_dir))
        seconds = START_S + 2 * count * TURN_S + 5
        found = []
        with daemon_process(seconds, state_dir) as process:
            daemon = Daemon(process, members)
            while not daemon.reports:
                if process.poll() is not None:
                    raise SystemExit("the daemon has ended")
                time.sleep(0.1)
            begin_s = time.monotonic() + START_S
            time.sleep(START_S - SETTLE_S)
            for k in range(2 * count):
                url = f"http://127.0.0.1:{port}/#{token}" if k % 2 else "about:blank"
                found.append(turn(daemon, driver, url, begin_s + (k + 1) * TURN_S))
                print(found[-1], flush=True)
            driver.get("about:blank")
            process.terminate()
        return found


def in_pairs(turns: list[Turn]) -> list[tuple[Turn, Turn]]:
    """Closed and open on the same third of the sample."""
    pairs = []
    for k in range(0, len(turns), 2 * THIRDS):
        some = list(enumerate(turns[k : k + 2 * THIRDS]))
        closed = {index % THIRDS: one for index, one in some if not one.open}
        pairs += [(closed[index % THIRDS], one) for index, one in some if one.open]
    return pairs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--mmac-per-ms", type=float, default=SERVER_MMAC_PER_MS, help="of this core (%(default)s)")
    parser.add_argument("--turns", type=int, default=6, help="of each kind, a multiple of three (default: %(default)s)")
    options = parser.parse_args()
    if options.turns < THIRDS or options.turns % THIRDS:
        parser.error("--turns must be a multiple of three")
    share = BOARDS["pi4"].mmac_per_ms / options.mmac_per_ms
    core_ms_per_s = share * 1000
    turns = turns_of_both(options.turns, share)
    for kind, is_open in (("closed", False), ("open", True)):
        some = [one for one in turns if one.open is is_open]
        print(f"{kind}: median (least to most) of {len(some)}")
        for key in ("page_ms_per_s", "daemon_ms_per_s", "latency_ms", "dropped", "memory_mb", "images_per_s"):
            values = [getattr(one, key) for one in some]
            print(f"  {key} {median(values):.2f} ({min(values):.2f} to {max(values):.2f})")
    pairs = in_pairs(turns)
    thread = [one.page_ms_per_s / core_ms_per_s for one in turns if one.open]
    more = [(after.daemon_ms_per_s - before.daemon_ms_per_s) / core_ms_per_s for before, after in pairs]
    later_ms = median(after.latency_ms - before.latency_ms for before, after in pairs)
    without_mb = run(MEMORY_S, share)["memory_mb"]
    more_mb = max(one.memory_mb for one in turns) - without_mb
    print(f"the page's thread, open: {median(thread):.1%} of the core ({min(thread):.1%} to {max(thread):.1%})")
    print(
        f"whole daemon, open more than closed: {median(more):+.1%} of the core ({min(more):+.1%} to {max(more):+.1%}; "
        f"mean {mean(more):+.1%}, standard error {stdev(more) / math.sqrt(len(more)):.1%})"
    )
    print(f"reports {later_ms:+.0f} ms later; {more_mb:+.1f} MB more than without the page")
    ok = max(median(thread), median(more)) <= MAX_MORE and later_ms <= MAX_LATER_MS and more_mb <= MAX_MORE_MB
    ok = ok and not sum(one.dropped for one in turns)
    print("holds" if ok else "DOES NOT HOLD")
    return not ok


if __name__ == "__main__":
    sys.exit(main())
