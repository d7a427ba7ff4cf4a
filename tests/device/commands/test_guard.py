"""What all commands share: errors as messages and exit codes, in the journal with their priority."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from device.cli import main
from device.errors import TransportError
from device.state.rig import Rig, store_rig
from tests.scenes import ROOT, talking, tiny_bundle


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


class Failing(io.RawIOBase):
    """A descriptor on which every write fails."""

    def __init__(self, code: int) -> None:
        self._code, self._descriptor = code, os.open(os.devnull, os.O_WRONLY)

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        raise OSError(self._code, os.strerror(self._code))

    def fileno(self) -> int:
        return self._descriptor

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()


# Each prints something. Those that measure live, or take long, print by the same way.
PRINTING = [
    "--help",
    "--version",
    "command --help",
    "devices --json",
    "check-config {}/none.toml",
    "calibrate --undo --store {}",
    "model list --store {}",
    "model verify {}/bundle --store {} --allow-unsigned",
    "measure {}/talking.mkv --bundle {}/bundle",
]


@pytest.mark.parametrize("line", PRINTING)
@pytest.mark.parametrize(("code", "exit_code"), [(errno.ENOSPC, TransportError.exit_code), (errno.EPIPE, 0)])
def test_no_room_or_no_reader_is_no_traceback(
    line: str, code: int, exit_code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "bundle").symlink_to(tiny_bundle())
    (tmp_path / "talking.mkv").symlink_to(talking())
    store_rig(tmp_path, Rig(1.0, 1.0, 1, "cam", "mic"))
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stdout := io.TextIOWrapper(io.BufferedWriter(Failing(code))))
        assert main(line.format(*[tmp_path] * line.count("{}")).split()) == exit_code
    said = capsys.readouterr().err
    assert ("Free some space" in said) == (code == errno.ENOSPC)
    with contextlib.suppress(OSError):
        stdout.close()
