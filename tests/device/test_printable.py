"""Names from outside cannot control a terminal."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.bench.pipeline import SAMPLE
from device.cli import main
from device.commands.options.models import STATE_VARIABLE
from device.printable import PrintableStream, minutes, printable

CLEAR = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202eolleh\r"


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_whatever_comes_one_printable_line_goes(text: str) -> None:
    line = printable(text)
    assert all(c.isprintable() or c.isspace() for c in line)
    assert not set(line) & {"\n", "\r", "\t", "\x0b", "\x0c", "\x1b", "\x85", "\u2028", "\u2029"}
    line.encode()


def test_what_people_read_stays_as_it_is() -> None:
    assert printable("Müller\u00a0– 25 µs, 日本語 ✓") == "Müller\u00a0– 25 µs, 日本語 ✓"
    assert printable("a\tb\nc", keep="\n\t") == "a\tb\nc"
    assert printable("a\x1bb") == r"a\x1bb"


def test_times_are_as_in_players() -> None:
    assert [minutes(t_s) for t_s in (0, 4.4, 59.6, 64, 7205)] == ["0:00", "0:04", "1:00", "1:04", "120:05"]
    assert [minutes(t_s, 1) for t_s in (0, 4.84, 59.96, 119.94)] == ["0:00.0", "0:04.8", "1:00.0", "1:59.9"]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_a_stream_takes_whatever_it_is_given(encoding: str) -> None:
    under = io.TextIOWrapper(io.BytesIO(), encoding)
    stream = PrintableStream(under)
    print("µ 日 \udc80 \x1b[2J", file=stream, flush=True)  # type: ignore[call-overload]
    under.seek(0)
    assert under.read().endswith("\\udc80 \\x1b[2J\n")


def test_a_name_with_a_line_break_takes_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = (tmp_path / name for name in ("two\nlines.mkv", "no\nrecording"))
    shutil.copy(SAMPLE, good)
    bad.write_bytes(b"no recording")
    assert main(["measure", str(bad), str(good)]) == 3
    out, err = capsys.readouterr()
    assert err.startswith(f"avdrift: {tmp_path}/no\\nrecording: not a recording") and len(err.splitlines()) == 1
    assert out.startswith(f"{tmp_path}/two\\nlines.mkv: ")
    assert main(["fix", str(bad), str(tmp_path / "out.mkv")]) == 3
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    "command",
    ["measure {}", "replay {}", "fix {} out.mkv", "check-config {}", "model verify {}", "calibrate --source {}"],
)
def test_names_of_files_steer_no_terminal(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path))
    file = tmp_path / CLEAR
    file.write_bytes(b"no recording")
    assert main([word.format(file) for word in command.split()]) in (2, 3, 4)
    said = "".join(capsys.readouterr())
    assert "\\x1b[2J" in said and all(c.isprintable() or c == "\n" for c in said)
