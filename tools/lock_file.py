"""Prints which file of requirements/run and requirements/test belongs to this Python on this processor."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

RUN = Path(__file__).resolve().parents[1] / "requirements" / "run"


def main() -> int:
    name = f"py{sys.version_info.major}.{sys.version_info.minor}-{platform.machine()}.txt"
    if not (RUN / name).is_file():
        known = ", ".join(sorted(file.stem for file in RUN.glob("*.txt")))
        print(f"avdrift: no lock file {name} in requirements/run. Use one of these systems: {known}", file=sys.stderr)
        return 1
    print(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
