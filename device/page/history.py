"""Recent measurements: the last hour with each report, and the last day with one point a minute, kept on disk.

The file is written at most once in ten minutes, because memory cards wear out, and contains only numbers and words.
"""

from __future__ import annotations

import json
import logging
import math
import statistics
import time
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

from device.errors import ModelCorruptError
from device.records import Report, State
from device.state.bounded_json import parse_json
from device.state.disk import Disk, read_plain

FILE = "page-history.json"
HOUR_COLUMNS = (
    "t_unix_ms", "offset_ms", "offset_std_ms", "state", "verdict", "confidence", "drift_ppm", "reason", "fault"
)  # fmt: skip
DAY_COLUMNS = ("t_unix_ms", "offset_ms", "offset_std_ms", "state")
MAX_POINTS, DAY_POINTS, MAX_BYTES = 18_000, 1440, 1_000_000
SAVE_EVERY_S = 600.0
_MINUTE_MS = 60_000

Row: TypeAlias = tuple[Any, ...]

_log = logging.getLogger(__name__)


class History:
    """Bounded rows of both; one thread adds, others may read."""

    def __init__(self, report_every_s: float) -> None:
        self._hour: deque[Row] = deque(maxlen=min(math.ceil(3600 / report_every_s), MAX_POINTS))
        self.day: deque[Row] = deque(maxlen=DAY_POINTS)
        self._minute: list[Report] = []

    def add(self, report: Report) -> None:
        self._hour.append(tuple(getattr(report, name) for name in HOUR_COLUMNS))
        if self._minute and report.t_unix_ms // _MINUTE_MS != self._minute[0].t_unix_ms // _MINUTE_MS:
            self.day.append(_point(self._minute))
            self._minute = []
        self._minute.append(report)
        if len(self._minute) > MAX_POINTS:  # if the wall clock stands still
            self._minute = self._minute[-1:]

    def hour(self, since_ms: int = 0) -> list[Row]:
        """Rows later than `since_ms`, in the order of HOUR_COLUMNS."""
        return [row for row in list(self._hour) if row[0] > since_ms]

    def csv(self) -> Iterator[str]:
        """The hour as lines of CSV with a header; unknown values are empty."""
        yield ",".join(HOUR_COLUMNS) + "\r\n"
        for row in self.hour():
            yield ",".join("" if value is None else str(value) for value in row) + "\r\n"


class HistoryFile:
    """The day's points in the state folder; errors are logged once and do not affect measuring."""

    def __init__(self, folder: Path, disk: Disk | None = None) -> None:
        self._file, self._disk, self._failed = folder / FILE, disk or Disk(), False

    def load(self, now_ms: int) -> list[Row]:
        """The points of the last day; empty if there are none, or no valid ones."""
        try:
            found = _parsed(read_plain(self._file, MAX_BYTES))
        except FileNotFoundError:
            return []
        except (OSError, ModelCorruptError, ValueError) as error:
            _log.warning("the history in %s cannot be read and starts again (%s)", self._file, error)
            return []
        return [row for row in found if now_ms - DAY_POINTS * _MINUTE_MS <= row[0] <= now_ms][-DAY_POINTS:]

    def is_due(self) -> bool:
        """Whether the last write was long enough ago."""
        try:
            return not 0 <= time.time() - self._file.stat().st_mtime < SAVE_EVERY_S
        except OSError:
            return True

    def save(self, rows: list[Row]) -> None:
        content = json.dumps({"schema": 1, "columns": DAY_COLUMNS, "rows": rows}, separators=(",", ":"))
        try:
            self._disk.make_folders(self._file.parent)
            self._disk.write_atomically(self._file, content.encode())
        except OSError as error:
            if not self._failed:
                _log.warning("the history cannot be kept in %s: %s", self._file, error.strerror)
            self._failed = True
            return
        if self._failed:
            _log.info("the history is kept in %s again", self._file)
        self._failed = False


def _point(reports: list[Report]) -> Row:
    """One minute: the median offset, and the most frequent words."""
    measured = [report for report in reports if report.offset_ms is not None]
    state = Counter(report.state.value for report in reports).most_common(1)[0][0]
    offset_ms = std_ms = None
    if measured:
        state = State.MEASURING.value
        offset_ms = round(statistics.median(report.offset_ms for report in measured if report.offset_ms is not None), 1)
        std_ms = round(statistics.median(report.offset_std_ms or 0.0 for report in measured), 1)
    return reports[0].t_unix_ms // _MINUTE_MS * _MINUTE_MS, offset_ms, std_ms, state


def _parsed(content: bytes) -> list[Row]:
    """Raises ValueError for content that no daemon has written."""
    document: Any = parse_json(content)
    rows = document.get("rows") if isinstance(document, dict) and document.get("schema") == 1 else None
    if not isinstance(rows, list) or not all(isinstance(row, list) and _is_point(row) for row in rows):
        raise ValueError("not what avdrift writes")
    return [tuple(row) for row in rows]


def _is_point(row: list[Any]) -> bool:
    if len(row) != len(DAY_COLUMNS):
        return False
    t_ms, *numbers, state = row
    known = all(number is None or (type(number) in (int, float) and math.isfinite(number)) for number in numbers)
    return type(t_ms) is int and known and state in set(State)
