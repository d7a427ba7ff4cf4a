"""A command for tests of stages: `python -m tests.train.job DIR WHAT`. It adds a line to DIR/ran, then does WHAT."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def main(folder: Path, what: str) -> int:
    """Exit code 3 with a message for `fail`; for `hang`, nothing ends it but a signal; for `kill`, one does."""
    with (folder / "ran").open("a") as ran:
        ran.write(f"{what}\n")
    if what == "fail":
        print("some talk\navdrift-train: clips.csv: no such file. Write one:\n  with columns", file=sys.stderr)
        return 3
    if what == "crash":
        raise RuntimeError("something broke")
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "hang":
        worker = [sys.executable, "-c", "import time; time.sleep(60)", str(folder)]
        subprocess.Popen(worker)  # it must end as well
        (folder / "hangs").touch()
        time.sleep(60)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
