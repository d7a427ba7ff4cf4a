"""Options that several commands of `avdrift-train` share."""

from __future__ import annotations

import argparse
from pathlib import Path


def shards_parser() -> argparse.ArgumentParser:
    """The parent of all commands that read prepared clips."""
    shards = argparse.ArgumentParser(add_help=False)
    shards.add_argument("shards", type=Path, nargs="+", metavar="SHARDS", help="folder that prepare wrote")
    return shards
