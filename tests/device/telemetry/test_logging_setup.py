"""The log: lines for people, for programs and for the journal; levels; repeats; and no record ends the daemon."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from device.config.settings import LogSettings
from device.records import NS_PER_S
from device.telemetry.logging_setup import LogHandler, Repeats, set_levels, set_up
from tests.scenes import ROOT


class Time:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.s = 1000.0

    def now_ns(self) -> int:
        return round(self.s * NS_PER_S)


class Rig:
    """A handler of its own, on a logger of its own, and what it has written."""

    def __init__(self, *, json: bool = False, journal: bool = True) -> None:
        self.time, self.lines, self.allows = Time(), list[str](), True
        settings = LogSettings(json=json)
        self.handler = LogHandler(self._write, Repeats(self.time.now_ns), settings, journal=journal)
        self.log = logging.Logger("device.capture.file")
        self.log.addHandler(self.handler)

    def _write(self, line: str) -> bool:
        if self.allows:
            self.lines.append(line)
        return self.allows

    def pass_s(self, seconds: float) -> None:
        self.time.s += seconds
        self.handler.tick()


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.handler.close()


# Lines


def test_in_the_journal_the_priority_comes_first_and_the_time_is_the_journals(rig: Rig) -> None:
    for say in (rig.log.error, rig.log.warning, rig.log.info, rig.log.debug):
        say("%s is gone, %d left", "mic", 3)
    assert rig.lines == [f"<{mark}>device.capture.file: mic is gone, 3 left" for mark in (3, 4, 6, 7)]


def test_elsewhere_the_time_and_the_level_come_first() -> None:
    rig = Rig(journal=False)
    rig.log.warning("gone")
    pattern = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d warning device\.capture\.file: gone"
    assert re.fullmatch(pattern, rig.lines[0]), rig.lines


def test_every_line_of_a_traceback_has_its_priority(rig: Rig) -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        rig.log.exception("it failed")
    assert rig.lines[0] == "<3>device.capture.file: it failed" and len(rig.lines) > 4
    assert all(line.startswith("<3>") for line in rig.lines) and rig.lines[-1] == "<3>lines"


def test_json_lines_have_units_and_whatever_else_the_record_carries() -> None:
    rig = Rig(json=True, journal=False)
    rig.log.warning("%s is gone", "mic", extra={"fields": {"silence_s": 2.5}})
    found = json.loads(rig.lines[0])
    assert found.pop("t_unix_ms") > 1_600_000_000_000
    assert found == {
        "level": "warning", "module": "device.capture.file", "message": "mic is gone", "silence_s": 2.5,
    }  # fmt: skip


def test_json_in_the_journal_is_json_after_the_priority() -> None:
    rig = Rig(json=True)
    try:
        raise ValueError("two\nlines")
    except ValueError:
        rig.log.exception("it\nfailed")
    (line,) = rig.lines
    assert line.startswith("<3>{") and json.loads(line[3:])["traceback"].endswith("two\nlines")


@pytest.mark.parametrize("journal", [True, False])
def test_what_strangers_put_into_names_steers_no_terminal_and_begins_no_line(journal: bool) -> None:
    rig = Rig(journal=journal)
    rig.log.warning("%s", "\x1b[2J\r\x07\x9b<0>\u202eolleh\x00")
    (line,) = rig.lines
    assert line.isprintable() and r"\x1b[2J\r\x07\x9b<0>\u202eolleh\x00" in line
    rig.log.error("%s", "first\n<0>second")
    assert rig.lines[-1] == ("<3><0>second" if journal else "<0>second")


class Unshowable:
    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize("args", [("one", "many"), (), (object(),), (Unshowable(),)])
def test_words_and_arguments_that_do_not_fit_end_nothing(rig: Rig, args: tuple[object, ...]) -> None:
    rig.log.warning("%d of %s" if len(args) != 1 else "%s", *args)
    assert len(rig.lines) == 1 and rig.lines[0].startswith("<4>device.capture.file: ")


# Repeats


def test_the_same_message_comes_once_a_minute_and_then_with_its_count(rig: Rig) -> None:
    for number in range(58):
        rig.log.warning("block %d came late", number)
        rig.pass_s(1)
    assert rig.lines == ["<4>device.capture.file: block 0 came late"]
    rig.pass_s(2)
    assert rig.lines[1:] == ["<4>device.capture.file: block 57 came late (repeated 57 times)"]


def test_a_flood_stays_at_a_line_a_minute(rig: Rig) -> None:
    for number in range(36_000):
        rig.log.warning("block %d came late", number)
        rig.pass_s(0.1)
    assert 55 <= len(rig.lines) <= 61 and "(repeated 599 times)" in rig.lines[1]


def test_after_a_quiet_minute_it_is_news_again(rig: Rig) -> None:
    rig.log.warning("late")
    rig.pass_s(61)
    rig.log.warning("late")
    assert len(rig.lines) == 2 and not [line for line in rig.lines if "repeated" in line]


def test_the_same_words_about_something_else_are_another_message(rig: Rig) -> None:
    for name in ("camera", "microphone"):
        rig.log.warning("%s is gone", name)
    rig.log.error("%s is gone", "camera")
    rig.log.warning("%s", ValueError("a"))
    rig.log.warning("%s", KeyError("a"))
    assert len(rig.lines) == 5


def test_what_is_always_to_be_said_is_never_held_back(rig: Rig) -> None:
    for _ in range(10):
        rig.log.info("event: %s", "step", extra={"always": True})
    assert len(rig.lines) == 10


def test_at_the_end_what_was_held_back_is_reported(rig: Rig) -> None:
    for _ in range(3):
        rig.log.warning("late")
    rig.handler.close()
    assert rig.lines[-1].endswith("late (repeated 2 times)")


def test_endless_different_messages_do_not_fill_the_memory(rig: Rig) -> None:
    for number in range(5000):
        rig.log.warning(f"invented {number}")
    assert len(rig.lines) == 5000 and len(rig.handler._repeats._seen) <= 500
    rig.pass_s(61)
    assert len(rig.handler._repeats._seen) == 0


# Nobody listens


def test_lost_lines_are_counted_and_reported_when_somebody_reads_again(rig: Rig) -> None:
    rig.allows = False
    for number in range(5):
        rig.log.error(f"number {number}")
    rig.allows = True
    rig.log.info("here again")
    assert rig.lines == [
        "<4>device.telemetry.logging_setup: 5 lines of the log were lost, because nobody read them",
        "<6>device.capture.file: here again",
    ]
    rig.log.info("and on")
    assert len(rig.lines) == 3


# Set up


class Pipe:
    """The log set up to end here."""

    def __init__(self) -> None:
        self._reader, self.fd = os.pipe()
        os.set_blocking(self._reader, False)
        self._handlers: list[LogHandler] = []

    def set_up(self, settings: LogSettings, environment: Mapping[str, str] | None = None) -> None:
        self._handlers.append(set_up(settings, fd=self.fd, environment=environment or {}))

    def lines(self) -> list[str]:
        try:
            return os.read(self._reader, 65536).decode().splitlines()
        except BlockingIOError:
            return []

    def close(self) -> None:
        for handler in self._handlers:
            handler.close()
        logging.captureWarnings(False)
        set_levels(LogSettings(level="warning"))
        os.close(self._reader)
        os.close(self.fd)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


def test_levels_hold_for_modules_and_what_lies_below_them(pipe: Pipe) -> None:
    settings = LogSettings(level="warning", levels="device.capture=debug, device.telemetry=error")
    pipe.set_up(settings)
    for name in ("device.capture.file", "device.sync.curve", "device.telemetry.report_text"):
        for say in (logging.debug, logging.info, logging.warning, logging.error):
            logging.getLogger(name).log(logging.getLevelName(say.__name__.upper()), f"{name} {say.__name__}")
    said = [line.split(": ")[1] for line in pipe.lines()]
    assert said == [
        *[f"device.capture.file {level}" for level in ("debug", "info", "warning", "error")],
        "device.sync.curve warning", "device.sync.curve error", "device.telemetry.report_text error",
    ]  # fmt: skip
    set_levels(LogSettings(level="error"))
    logging.getLogger("device.capture.file").warning("what was more is back to the others' level")
    assert pipe.lines() == []


def test_libraries_speak_only_when_something_is_wrong(pipe: Pipe) -> None:
    pipe.set_up(LogSettings(level="debug"))
    logging.getLogger("paho.mqtt").info("chatter")
    logging.getLogger("paho.mqtt").warning("trouble")
    warnings.warn("old", DeprecationWarning, stacklevel=1)
    (trouble, *_) = pipe.lines()
    assert "trouble" in trouble


def test_the_journal_is_found_by_itself(pipe: Pipe) -> None:
    found = os.fstat(pipe.fd)
    pipe.set_up(LogSettings(json=True), {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"})
    logging.getLogger("device.cli").info("hello")
    (line,) = pipe.lines()
    assert line.startswith('<6>{"t_unix_ms":')


SCRIPT = """
import logging, sys
from device.config.settings import LogSettings
from device.telemetry.logging_setup import set_up
set_up(LogSettings(), fd=int(sys.argv[1]))
for number in range(15_000 if sys.argv[2] == "flood" else 3):
    logging.getLogger("device.cli").warning("same %d", number)
    logging.getLogger("device.cli").warning("other %d" % number)
print("done")
"""


@pytest.mark.parametrize("what", ["few", "flood"])
def test_a_process_whose_log_nobody_reads_gets_on_and_ends(tmp_path: Path, what: str) -> None:
    reader, writer = os.pipe()
    command = [sys.executable, "-c", SCRIPT, str(writer), what]
    done = subprocess.run(
        command, cwd=ROOT, pass_fds=[writer], capture_output=True, text=True, timeout=300, check=True
    )  # fmt: skip
    os.close(writer)
    assert done.stdout == "done\n" and done.stderr == ""
    with os.fdopen(reader) as stream:
        lines = stream.read().splitlines()
    assert "same 0" in lines[0] and "other 0" in lines[1]
    if what == "few":
        assert lines[-1].endswith("same 2 (repeated 2 times)")
