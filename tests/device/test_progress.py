"""The progress bar: on a terminal only, and never between lines that a program reads."""

from __future__ import annotations

import io
import sys

import pytest

from device.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_it_shows_how_much_is_done_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "__stderr__", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with pytest.raises(KeyboardInterrupt), Progress("[check]", 4, shown_after_s=0.0) as progress:
        progress.advance()
        progress.print("a line\x1b[2J")
        progress.set(2)
        raise KeyboardInterrupt
    shown = terminal.getvalue()
    assert "[check]" in shown and "25%" in shown and "time left" in shown
    assert shown.endswith("\x1b[2K"), "the bar is wiped out"
    assert "a line" not in shown and capsys.readouterr().out.startswith("a line"), "standard output is no terminal here"


def test_elsewhere_and_for_short_work_there_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress("check", 4, shown_after_s=0.0) as progress:
        progress.advance()
        progress.print("a line")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress("check", 4) as progress:
        progress.advance(4)
    assert terminal.getvalue() == ""
    assert capsys.readouterr() == ("a line\n", "")
