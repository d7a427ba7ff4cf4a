"""What a user names as an output is never overwritten by mistake."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from device.analysis.plot import COLUMNS, PICTURES
from device.cli import main
from device.commands.options.output_file import check_output
from device.errors import UsageError
from tests.scenes import talking, tiny_bundle


@pytest.mark.parametrize("option", ["--csv", "--plot"])
def test_measure_overwrites_no_recording(option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "talk.mkv"
    mine.write_bytes(content := talking().read_bytes())
    measure = ["measure", str(mine), "--bundle", str(tiny_bundle()), option, str(mine)]
    assert main(measure) == 2
    shown = capsys.readouterr()
    assert mine.read_bytes() == content and shown.out == "" and "--force" in shown.err


def test_an_earlier_table_is_overwritten_and_anything_else_with_force(tmp_path: Path) -> None:
    table = tmp_path / "out.csv"
    measure = ["measure", str(talking()), "--bundle", str(tiny_bundle()), "--csv", str(table)]
    for content in ("", ",".join(COLUMNS) + "\nold\n"):
        table.write_text(content)
        assert main(measure) == 0 and "old" not in table.read_text()
    table.write_text("mine")
    assert main(measure) == 2 and table.read_text() == "mine"
    assert main([*measure, "--force"]) == 0 and table.read_text().startswith(",".join(COLUMNS))


def test_what_may_be_written_to(tmp_path: Path) -> None:
    for path in (tmp_path / "new", Path("/dev/null")):
        check_output(path, PICTURES)
    os.mkfifo(tmp_path / "pipe")
    check_output(tmp_path / "pipe", PICTURES)
    (tmp_path / "old.png").write_bytes(b"\x89PNG\r\n")
    check_output(tmp_path / "old.png", PICTURES)
    for force in (False, True):
        with pytest.raises(UsageError, match="is a folder"):
            check_output(tmp_path, PICTURES, force=force)
