"""What the page costs on a core held to a Raspberry Pi 4's: without it, closed, and open with five pictures a second.

    python -m tests.devices.page_on_a_pi4 [--seconds 40] [--turns 2]          as root: it makes a control group

The three take turns in one run, as other programs make each instruction dearer. The client is another process, outside
of the control group, and reads all that a browser would be sent. Asked: open, at most 8 % of the core more than
without, no report later by more than 50 ms (median), nothing dropped, at most 25 MB.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import mean

from device.config.settings import PageSettings
from device.page.token import read_token, token_file
from tests.device.page.served import free_port
from tests.devices.held_to_a_board import BOARDS, SERVER_MMAC_PER_MS, run

KINDS = ("without", "closed", "open")
MAX_MORE, MAX_LATER_MS, MAX_MORE_MB = 0.08, 50.0, 25.0


class Viewer:
    """Reads the stream of a page as soon as there is one, and counts its pictures."""

    def __init__(self, port: int, token: str) -> None:
        self._port, self._token, self.pictures, self.bytes, self.over = port, token, 0, 0, False
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while not self.over:
            client = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
            try:
                client.request("GET", "/api/events?live=1", headers={"Authorization": f"Bearer {self._token}"})
                for line in client.getresponse():
                    self.bytes += len(line)
                    self.pictures += line.startswith(b"data: ") and b'"picture":"' in line
            except (OSError, http.client.HTTPException):
                time.sleep(0.2)
            finally:
                client.close()


def turn(kind: str, seconds: float, share: float) -> dict[str, float]:
    """One run of one kind."""
    if kind == "without":
        return run(seconds, share)
    with tempfile.TemporaryDirectory() as folder:
        state_dir, port = Path(folder), free_port()
        (state_dir / "port").write_text(str(port))
        token = read_token(token_file(PageSettings(), state_dir, state_dir))
        viewer = Viewer(port, token) if kind == "open" else None
        found = run(seconds, share, state_dir)
        if viewer:
            viewer.over = True
            found |= {"pictures": viewer.pictures, "kilobytes": round(viewer.bytes / 1000)}
        return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--mmac-per-ms", type=float, default=SERVER_MMAC_PER_MS, help="of this core (%(default)s)")
    parser.add_argument("--seconds", type=float, default=30.0, help="of the recording (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=2, help="of all three (default: %(default)s)")
    options = parser.parse_args()
    share = BOARDS["pi4"].mmac_per_ms / options.mmac_per_ms
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    for _ in range(options.turns):
        for kind in KINDS:
            found[kind].append(turn(kind, options.seconds, share))
            print(kind, json.dumps(found[kind][-1]), flush=True)
    average = {
        kind: {
            key: mean(one[key] for one in turns)
            for key in ("cpu_ms_per_s", "latency_median_ms", "memory_mb", "dropped")
        }
        for kind, turns in found.items()
    }
    ok = True
    for kind in KINDS[1:]:
        more = {key: value - average["without"][key] for key, value in average[kind].items()}
        of_core = more["cpu_ms_per_s"] / (share * 1000)
        print(
            f"{kind}: {of_core:+.1%} of the core, reports {more['latency_median_ms']:+.0f} ms later, "
            f"{more['memory_mb']:+.1f} MB, {more['dropped']:+.0f} dropped"
        )
        ok = ok and of_core <= MAX_MORE and more["latency_median_ms"] <= MAX_LATER_MS and more["dropped"] <= 0
        ok = ok and more["memory_mb"] <= MAX_MORE_MB
    print("holds" if ok else "DOES NOT HOLD")
    return not ok


if __name__ == "__main__":
    sys.exit(main())
