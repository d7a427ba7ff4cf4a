"""Prints the annotated default file, `systemd/avdrift.toml`: `python -m device.config`."""

from __future__ import annotations

import sys

from device.config.settings import default_text

if __name__ == "__main__":
    sys.stdout.write(default_text())
