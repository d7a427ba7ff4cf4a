"""Lines to readers that are slow, blocked, closed or full: real pipes, sockets, files and disks."""

from __future__ import annotations

import json
import os
import pty
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from device.records import Reason, State
from device.telemetry.lines import CLEAR_LINE, LineWriter, is_journal
from device.telemetry.stdout_sink import report_lines
from tests.device.config.test_file import at_most
from tests.device.telemetry.test_log_sink import EVENT
from tests.device.telemetry.test_report_text import MEASURED


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for end in (reader, writer):
        try:
            os.close(end)
        except OSError:
            continue


def drained(reader: int) -> bytes:
    os.set_blocking(reader, False)
    found = b""
    try:
        while piece := os.read(reader, 65536):
            found += piece
    except BlockingIOError:
        return found
    return found


def test_lines_end_and_any_text_can_be_written(pipe: tuple[int, int]) -> None:
    writer = LineWriter(pipe[1])
    assert all(writer.write(line) for line in ("one", "", "±5 ms", "\udcff is no text"))
    assert drained(pipe[0]) == "one\n\n±5 ms\n".encode() + b"\\udcff is no text\n"


def test_a_reader_that_does_not_read_holds_nobody_up(pipe: tuple[int, int]) -> None:
    writer = LineWriter(pipe[1])
    with at_most(20):
        taken = [writer.write("x" * 999) for _ in range(500)]
    assert 50 < sum(taken) < 200 and not taken[-1]
    assert drained(pipe[0]).count(b"\n") == sum(taken)
    assert writer.write("again") and drained(pipe[0]) == b"again\n"


def test_a_line_that_was_torn_off_is_ended_before_the_next(pipe: tuple[int, int]) -> None:
    writer = LineWriter(pipe[1])
    with at_most(20):
        assert not writer.write("y" * 1_000_000)
    torn = drained(pipe[0])
    assert set(torn) == {ord("y")}
    assert writer.write("next") and drained(pipe[0]) == b"\nnext\n"


def test_a_long_line_arrives_complete_if_somebody_reads(pipe: tuple[int, int]) -> None:
    found: list[bytes] = []

    def read() -> None:
        while not found or not found[-1].endswith(b"\n"):
            found.append(os.read(pipe[0], 65536))

    reader = threading.Thread(target=read)
    reader.start()
    assert LineWriter(pipe[1]).write("z" * 50_000)
    reader.join(20)
    assert b"".join(found) == b"z" * 50_000 + b"\n"


def test_a_reader_that_has_gone(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    assert not LineWriter(pipe[1]).write("hello?")


def test_a_descriptor_that_was_closed() -> None:
    reader, fd = os.pipe()
    os.close(reader)
    writer = LineWriter(fd)
    os.close(fd)
    assert not writer.write("hello?")


def test_a_full_disk() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full")
    with full.open("wb", buffering=0) as stream:
        assert not LineWriter(stream.fileno()).write("hello?")


def test_a_socket_that_nobody_reads_like_a_hanging_journal() -> None:
    ours, theirs = socket.socketpair()
    writer = LineWriter(ours.fileno())
    with at_most(20):
        taken = [writer.write("x" * 600) for _ in range(5000)]
    assert taken[0] and not taken[-1]
    ours.close()
    theirs.close()


def test_whether_it_is_the_journal(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as stream:
        found = os.fstat(stream.fileno())
        ours = f"{found.st_dev}:{found.st_ino}"
        assert is_journal(stream.fileno(), {"JOURNAL_STREAM": ours})
        assert not is_journal(stream.fileno(), {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino + 1}"})
        for wrong in ("", ":", "x:y", ours + "0"):
            assert not is_journal(stream.fileno(), {"JOURNAL_STREAM": wrong})
        assert not is_journal(stream.fileno(), {})
    assert not is_journal(10_000, {"JOURNAL_STREAM": ours})


def test_on_a_terminal_one_line_lives_and_events_stand_above_it() -> None:
    near, far = pty.openpty()
    line = report_lines(far, as_json=False, log_fd=os.open(os.devnull, os.O_WRONLY))
    line.report(MEASURED)
    line.event(replace(EVENT, about="A step of +40 ms\x1b[2J"))
    line.report(replace(MEASURED, state=State.UNCERTAIN, offset_ms=None, reason=Reason.AMBIGUOUS))
    line.close()
    os.close(far)
    shown = ""
    with suppress(OSError):  # a terminal that nobody writes to any more
        while piece := os.read(near, 65536):
            shown += piece.decode()
    assert shown.count(CLEAR_LINE) == 3 and shown.count("\n") == 2, "one for the event, one at the end"
    assert "A step of +40 ms\\x1b[2J\r\n" in shown and "uncertain: ambiguous" in shown and "{" not in shown


def test_json_where_it_is_asked_for_or_nobody_sees_a_terminal() -> None:
    near, far = pty.openpty()
    report_lines(far, as_json=True, log_fd=far).report(MEASURED)
    assert json.loads(os.read(near, 65536)) == MEASURED.to_dict()
    reader, writer = os.pipe()
    report_lines(writer, as_json=False, log_fd=far).report(MEASURED)
    assert json.loads(os.read(reader, 65536)) == MEASURED.to_dict()
