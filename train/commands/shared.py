"""Options that several commands of `avdrift-train` share."""

from __future__ import annotations

import argparse
from pathlib import Path

from device.errors import UsageError


def shards_parser() -> argparse.ArgumentParser:
    """The parent of all commands that read prepared clips."""
    shards = argparse.ArgumentParser(add_help=False)
    shards.add_argument("shards", type=Path, nargs="+", metavar="SHARDS", help="folder that prepare wrote")
    return shards


def require_beam() -> None:
    """Raises UsageError if Apache Beam is not installed."""
    try:
        import apache_beam  # noqa: F401
    except ImportError as error:
        remedy = "Install avdrift with it: pip install 'avdrift[beam]'"
        raise UsageError(f"Apache Beam cannot be imported ({error})", where="--beam", remedy=remedy) from error
