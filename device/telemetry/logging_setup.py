"""The daemon's log: the standard logging module, set up to write lines for people or for programs.

Modules only use `logging.getLogger(__name__)`. A record may carry `fields`, a dict with units in its names, that only
JSON lines show (`extra={"fields": {...}}`), and `always`, which exempts it from the limit on repeats.
"""

from __future__ import annotations

import copy
import json
import logging
import os
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from device.clock import Clock, SystemClock
from device.config.log_levels import PACKAGE, parse_levels
from device.config.settings import LogSettings
from device.printable import printable
from device.records import NS_PER_S
from device.telemetry.lines import ERROR_MARK, LineWriter, is_journal

REPEATS_EVERY_S = 60.0
_MAX_KEYS = 500
_STDERR = 2
# The journal's priorities at the start of a line, see sd-daemon(3).
_PRIORITIES = ((logging.ERROR, ERROR_MARK), (logging.WARNING, "<4>"), (logging.INFO, "<6>"), (logging.NOTSET, "<7>"))


def set_up(
    settings: LogSettings, *, fd: int = _STDERR, environment: Mapping[str, str] = os.environ,
    clock: Clock | None = None, before: str = "",
) -> LogHandler:  # fmt: skip
    """Send all log records of this process to `fd`, until the handler is closed.

    before: text to write before each line, such as CLEAR_LINE on a terminal with a status line.
    """
    repeats, writer = Repeats((clock or SystemClock()).now_ns), LineWriter(fd)
    journal = is_journal(fd, environment)
    handler = LogHandler(lambda line: writer.write(before + line), repeats, settings, journal=journal)
    logging.root.addHandler(handler)
    logging.captureWarnings(True)
    set_levels(settings)
    return handler


def set_levels(settings: LogSettings) -> None:
    """Set the levels of avdrift's own modules; libraries only log warnings and errors."""
    for name, logger in logging.root.manager.loggerDict.items():
        if name.startswith(f"{PACKAGE}.") and isinstance(logger, logging.Logger):
            logger.setLevel(logging.NOTSET)
    for name, level in {PACKAGE: settings.level, **(parse_levels(settings.levels) or {})}.items():
        logging.getLogger(name).setLevel(level.upper())


class Repeats:
    """Passes the same message at most once a minute, then with the number of repeats in between."""

    def __init__(self, now_ns: Callable[[], int], every_s: float = REPEATS_EVERY_S) -> None:
        self._now_ns, self._every_ns = now_ns, round(every_s * NS_PER_S)
        self._seen: dict[tuple[object, ...], _Repeated] = {}

    def admit(self, record: logging.LogRecord) -> list[logging.LogRecord]:
        """The records to write now: suppressed ones whose time has come, and the new one unless it is a repeat."""
        now = self.due()
        if getattr(record, "always", False):
            return [*now, record]
        key = _key(record)
        if key in self._seen:
            self._seen[key].hold(record)
            return now
        if len(self._seen) < _MAX_KEYS:  # beyond that, something generates messages without end
            self._seen[key] = _Repeated(self._now_ns())
        return [*now, record]

    def due(self, *, all_of_them: bool = False) -> list[logging.LogRecord]:
        """The suppressed records that have waited long enough, or all, oldest first."""
        now_ns = self._now_ns()
        over = [key for key, seen in self._seen.items() if all_of_them or now_ns - seen.since_ns >= self._every_ns]
        summaries = []
        for key in over:
            seen = self._seen.pop(key)
            if seen.last is not None:
                summaries.append(_summed_up(seen.last, seen.times))
                self._seen[key] = _Repeated(now_ns)
        return summaries


class _Repeated:
    def __init__(self, since_ns: int) -> None:
        self.since_ns, self.times = since_ns, 0
        self.last: logging.LogRecord | None = None

    def hold(self, record: logging.LogRecord) -> None:
        self.last, self.times = record, self.times + 1


def _summed_up(last: logging.LogRecord, times: int) -> logging.LogRecord:
    record = copy.copy(last)
    record.msg, record.args = f"{_message(last)} (repeated {times} times)", None
    return record


def _key(record: logging.LogRecord) -> tuple[object, ...]:
    """The same message about the same thing; numbers in it may differ."""
    args = record.args if isinstance(record.args, tuple) else ()
    named = tuple(arg if isinstance(arg, str) else type(arg) for arg in args)
    return record.name, record.levelno, str(record.msg), named


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # a message whose arguments do not match must not end the daemon
        return f"{record.msg!r}, with something that cannot be shown ({type(error).__name__})"


class TextForm:
    """Lines for people: time (unless the journal adds it), level, module and message, followed by any traceback."""

    def __init__(self, *, journal: bool) -> None:
        self._journal = journal

    def lines(self, record: logging.LogRecord) -> list[str]:
        words = _message(record)
        if record.exc_info:
            words += "\n" + logging.Formatter().formatException(record.exc_info)
        head = f"{record.name}: "
        if not self._journal:
            t = datetime.fromtimestamp(record.created).astimezone()
            head = f"{t.isoformat(sep=' ', timespec='milliseconds')} {record.levelname.lower():<7} {head}"
        first, *others = words.split("\n")
        mark = _priority(record) if self._journal else ""
        return [mark + printable(line) for line in (head + first, *others)]


class JsonForm:
    """One JSON object per record: `t_unix_ms`, `level`, `module`, `message`, and the record's fields."""

    def __init__(self, *, journal: bool) -> None:
        self._journal = journal

    def lines(self, record: logging.LogRecord) -> list[str]:
        found: dict[str, Any] = {
            "t_unix_ms": int(record.created * 1000), "level": record.levelname.lower(), "module": record.name,
            "message": _message(record), **getattr(record, "fields", {}),
        }  # fmt: skip
        if record.exc_info:
            found["traceback"] = logging.Formatter().formatException(record.exc_info)
        mark = _priority(record) if self._journal else ""
        return [mark + json.dumps(found, separators=(",", ":"), default=str)]


def _priority(record: logging.LogRecord) -> str:
    return next(mark for level, mark in _PRIORITIES if record.levelno >= level)


def _form(settings: LogSettings, journal: bool) -> TextForm | JsonForm:
    return JsonForm(journal=journal) if settings.json else TextForm(journal=journal)


class LogHandler(logging.Handler):
    """Writes records as lines."""

    def __init__(self, write: Callable[[str], bool], repeats: Repeats, settings: LogSettings, *, journal: bool) -> None:
        super().__init__()
        self._write, self._repeats, self._journal = write, repeats, journal
        self._form = _form(settings, journal)
        self._lost = 0  # lines lost since the last one was written

    def apply_settings(self, settings: LogSettings) -> None:
        """Takes effect with the next line."""
        self._form = _form(settings, self._journal)
        set_levels(settings)

    def emit(self, record: logging.LogRecord) -> None:
        self._write_all(self._repeats.admit(record))

    def tick(self) -> None:
        """To be called regularly, so that repeats are reported even when nothing else is logged."""
        self.acquire()
        try:
            self._write_all(self._repeats.due())
        finally:
            self.release()

    def close(self) -> None:
        self._write_all(self._repeats.due(all_of_them=True))
        logging.root.removeHandler(self)
        super().close()

    def _write_all(self, records: list[logging.LogRecord]) -> None:
        for line in (line for record in records for line in self._form.lines(record)):
            if self._lost:
                words = f"{self._lost} lines of the log were lost, because nobody read them"
                loss = logging.LogRecord(__name__, logging.WARNING, "", 0, words, None, None)
                if all(self._write(line) for line in self._form.lines(loss)):
                    self._lost = 0
            if self._lost or not self._write(line):
                self._lost += 1
