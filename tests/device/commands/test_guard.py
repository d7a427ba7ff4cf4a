"""What all commands share: errors as messages and exit codes, in the journal with their priority."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.scenes import ROOT


def complained(folder: Path, *, journal: bool) -> list[str]:
    """What a start with a wrong configuration writes."""
    (folder / "avdrift.toml").write_text("config_version = 1\n[sauce]\nmeasure = 1\n")
    said = folder / "said"
    with said.open("wb") as stream:
        found = os.fstat(stream.fileno())
        done = subprocess.run(
            [sys.executable, "-m", "device.cli", "run", "--config", str(folder / "avdrift.toml")], cwd=ROOT,
            env={**os.environ, "JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino + (not journal)}"},
            stdout=stream, stderr=stream, timeout=120, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    return said.read_text().splitlines()


def test_in_the_journal_each_line_of_an_error_is_one(tmp_path: Path) -> None:
    first, second = complained(tmp_path, journal=True)
    assert first.startswith("<3>avdrift: ") and "Correct this:" in first
    assert second.startswith("<3>  ") and ":2: sauce: found an unknown name" in second


def test_elsewhere_it_is_plain_text(tmp_path: Path) -> None:
    first, second = complained(tmp_path, journal=False)
    assert first.startswith("avdrift: ") and second.startswith("  ")
