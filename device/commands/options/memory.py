"""The option that limits the memory of decoding, shared by all commands that read recordings."""

from __future__ import annotations

import argparse

from device.capture.memory import DEFAULT_MEMORY_MB


def add_memory_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-memory", dest="max_memory_mb", type=float, default=DEFAULT_MEMORY_MB, metavar="MB",
        help="memory that a recording may take, with all of avdrift (default: %(default)g)",
    )  # fmt: skip
