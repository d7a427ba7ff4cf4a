"""The command `avdrift check-config`: every problem of a configuration file, and its newer form."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from device.config.file import older_version, read_config, write_migrated
from device.errors import UsageError


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
