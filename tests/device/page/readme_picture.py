"""Makes the README's picture: the page on the built-in sample, whose speaker is synthetic.

    python -m tests.device.page.readme_picture docs/images/page.png

Needs Chromium and its driver. The file stays below 150 kB.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2

from tests.device.page.browsers import browser
from tests.device.page.served import free_port

SAMPLE = "device/models/sample.mkv"
WIDTH_PX, HEIGHT_PX = 1180, 740
AFTER_S = 38.0  # all three offsets of the sample, and the last step
MAX_BYTES = 150_000


def main(target: Path) -> int:
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "avdrift.toml"
        config.write_text(f"config_version = 1\n[page]\nport = {free_port()}\n")
        command = [sys.executable, "-m", "device.cli", "run", "--source", SAMPLE, "--config", str(config)]
        command += ["--store", f"{folder}/state"]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        daemon = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        with daemon, browser(WIDTH_PX, HEIGHT_PX) as driver:
            assert daemon.stderr is not None
            driver.get(next(found[0] for line in daemon.stderr if (found := re.search(r"http://\S+/#\S+", line))))
            time.sleep(AFTER_S)
            shot = Path(folder) / "shot.png"
            driver.save_screenshot(str(shot))
            daemon.terminate()
        target.parent.mkdir(parents=True, exist_ok=True)
        picture = cv2.imread(str(shot))
        assert picture is not None
        cv2.imwrite(str(target), picture, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    size = target.stat().st_size
    print(f"{target}: {size} bytes")
    return 0 if size <= MAX_BYTES else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
