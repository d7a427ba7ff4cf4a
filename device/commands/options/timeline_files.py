"""The options `--csv` and `--plot`, shared by all commands that measure a recording over time."""

from __future__ import annotations

import argparse
from pathlib import Path

from device.analysis.plot import COLUMNS, PICTURES, check_plot
from device.commands.options.output_file import check_output


def add_timeline_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--csv", type=Path, metavar="FILE", help="the timeline as a table; of one recording")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="the timeline as a picture; of one recording")
    parser.add_argument("--force", action="store_true", help="let --csv and --plot overwrite a file of another kind")


def check_timeline_files(options: argparse.Namespace) -> None:
    """Check that both can be written, before anything is measured. Raises UsageError."""
    if options.csv:
        check_output(options.csv, (",".join(COLUMNS).encode(),), force=options.force)
    if options.plot:
        check_output(options.plot, PICTURES, force=options.force)
        check_plot(options.plot)
