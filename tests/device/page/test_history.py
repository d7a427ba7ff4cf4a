"""The history: bounded, written at most once in ten minutes, and read again."""

from __future__ import annotations

import errno
import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from device.page.history import DAY_POINTS, FILE, MAX_BYTES, SAVE_EVERY_S, History, HistoryFile
from device.records import State
from device.state.disk import Disk
from tests.device.telemetry.test_report_text import BLIND, MEASURED

MINUTE_MS = 60_000
NOW_MS = 1_700_000_000_000 // MINUTE_MS * MINUTE_MS


def filled(minutes: int) -> History:
    history = History(1.0)
    for k in range(minutes * 6 + 1):
        history.add(replace(MEASURED, t_unix_ms=NOW_MS + 10_000 * k, offset_ms=float(k % 6), offset_std_ms=1.0))
    return history


def test_a_minute_is_the_median_of_its_offsets() -> None:
    assert list(filled(2).day) == [(NOW_MS, 2.5, 1.0, "measuring"), (NOW_MS + MINUTE_MS, 2.5, 1.0, "measuring")]


def test_a_minute_without_a_number_says_what_it_mostly_was() -> None:
    history = History(1.0)
    for k, state in enumerate([State.NO_FACE, State.NO_FACE, State.NO_SPEECH, State.NO_FACE]):
        history.add(replace(BLIND, t_unix_ms=NOW_MS + (k + k // 3 * 60) * 1000, state=state))
    assert list(history.day) == [(NOW_MS, None, None, "no_face")]


@pytest.mark.parametrize(("every_s", "most"), [(0.2, 18_000), (1.0, 3600), (60.0, 60)])
def test_an_hour_is_kept_at_each_report(every_s: float, most: int) -> None:
    history = History(every_s)
    for k in range(most + 5):
        history.add(replace(MEASURED, t_unix_ms=k))
    assert len(history.hour()) == most and history.hour(most + 3)[0][0] == most + 4


def test_a_wall_clock_that_stands_still_fills_no_memory() -> None:
    history = History(0.2)
    for _ in range(40_000):
        history.add(MEASURED)
    assert len(history._minute) <= 18_001 and len(history.hour()) == 18_000


def test_a_day_is_read_again_and_what_is_older_is_not(tmp_path: Path) -> None:
    rows = list(filled(5).day)
    HistoryFile(tmp_path).save(rows)
    assert HistoryFile(tmp_path).load(NOW_MS + 10 * MINUTE_MS) == rows
    assert HistoryFile(tmp_path).load(NOW_MS + (DAY_POINTS + 2) * MINUTE_MS) == rows[2:]
    assert HistoryFile(tmp_path / "none").load(NOW_MS) == []


def test_the_file_of_a_whole_day_stays_below_a_tenth_of_a_megabyte(tmp_path: Path) -> None:
    row = (NOW_MS, -1234.5, 123.4, "measuring")
    HistoryFile(tmp_path).save([row] * DAY_POINTS)
    assert (tmp_path / FILE).stat().st_size < 100_000 < MAX_BYTES


def test_it_is_written_at_most_once_in_ten_minutes(tmp_path: Path) -> None:
    file = HistoryFile(tmp_path)
    assert file.is_due()
    file.save([])
    assert not file.is_due() and not HistoryFile(tmp_path).is_due()
    past_s = time.time() - SAVE_EVERY_S - 1
    os.utime(tmp_path / FILE, (past_s, past_s))
    assert file.is_due()


HUGE = f'{{"schema": 1, "rows": [[1, {10**400}, null, "measuring"]]}}'.encode()
JSON = st.recursive(st.none() | st.integers() | st.floats() | st.text(max_size=9), st.lists, max_leaves=9)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200) | JSON.map(lambda rows: json.dumps({"schema": 1, "rows": rows}).encode()))
@example(HUGE)
def test_what_no_daemon_wrote_is_no_history(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    assert HistoryFile(tmp_path).load(NOW_MS) == []


class Full(Disk):
    """A disk without room."""

    def write_file(self, path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = HistoryFile(tmp_path, Full())
    file.save([])
    file.save([])
    assert len(caplog.records) == 1 and "No space left" in caplog.text
