"""The entry point of `avdrift`: handles Ctrl-C while the rest loads, which takes seconds on a small computer."""

from __future__ import annotations

import sys

_INTERRUPTED = 130  # as in a shell: 128 + SIGINT


def main() -> int:
    """Run a command; return the exit code."""
    try:
        from device.cli import main as run
    except KeyboardInterrupt:
        return _INTERRUPTED
    return run()


if __name__ == "__main__":
    sys.exit(main())
