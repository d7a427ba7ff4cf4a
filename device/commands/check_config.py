"""The command `avdrift check-config`: every problem of a configuration file, and its newer form."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from device.config.file import DEFAULT_FILE, older_version, read_config, write_migrated
from device.errors import UsageError


def add_check_config_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    checked = commands.add_parser("check-config", help="name every problem of a configuration file")
    checked.add_argument(
        "file", metavar="FILE", type=Path, nargs="?", default=DEFAULT_FILE, help="default: %(default)s"
    )
    checked.add_argument("--json", action="store_true", help="print one JSON object")
    checked.add_argument(
        "--migrate", action="store_true", help="write an older file in the current format, as FILE.new"
    )


def check_config_command(options: argparse.Namespace) -> int:
    file = options.file
    _, problems = read_config(file)
    older = older_version(file)
    new = write_migrated(file) if options.migrate and older is not None else None
    if options.json:
        found = {"file": str(file), "correct": not problems, "problems": [asdict(problem) for problem in problems]}
        print(json.dumps({**found, "migrated": new and str(new)} if options.migrate else found))
        return UsageError.exit_code if problems else 0
    lines = [problem.text(file) for problem in problems] or [f"{file}: correct"]
    if new is not None:
        lines.append(
            f"{new}: the same settings in the current format, without your comments, which are still in {file}"
        )
    elif older is not None:
        lines.append(f"{file}: in the older format {older}; --migrate converts it")
    elif options.migrate and not problems:
        lines.append(f"{file}: in the current format already; nothing was written")
    print("\n".join(lines))
    return UsageError.exit_code if problems else 0
