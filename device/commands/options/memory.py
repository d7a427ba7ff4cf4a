"""The option that limits the memory of decoding, shared by all commands that read recordings or streams."""

from __future__ import annotations

import argparse

from device.capture.memory import DEFAULT_MEMORY_MB


def add_memory_option(parser: argparse.ArgumentParser, of: str = "a recording") -> None:
    """`of`: what takes the memory, for the help."""
    parser.add_argument(
        "--max-memory", dest="max_memory_mb", type=float, default=DEFAULT_MEMORY_MB, metavar="MB",
        help=f"memory that {of} may take, with all of avdrift (default: %(default)g)",
    )  # fmt: skip
