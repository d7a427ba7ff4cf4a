"""The entry point of `avdrift`: the rest takes seconds to load on a small computer, and Ctrl-C may come before."""

from __future__ import annotations

import sys

_INTERRUPTED = 130  # as a shell has it: 128 + SIGINT


def main() -> int:
    """Run a command; the exit code."""
    try:
        from device.cli import main as run
    except KeyboardInterrupt:
        return _INTERRUPTED
    return run()


if __name__ == "__main__":
    sys.exit(main())
