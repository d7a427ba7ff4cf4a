"""The rows of a run as JSON lines: written by `--jsonl` as files are done, and continued by `--resume`."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from device.check.row import Row, Rules, identity_of, row_from
from device.errors import UsageError
from device.state.bounded_json import parse_json

_NEW_NAME = "Give another name, or delete it"


class Journal:
    """One line per file, each written as a whole. Only one run at a time may hold it."""

    def __init__(self, path: Path, rules: Rules, *, resume: bool) -> None:
        """Raises UsageError if it cannot be used, or if it exists and is not to be continued."""
        self._path, self._rules = path, rules
        self.rows: dict[str, Row] = {}  # those of the previous run, by the real path of the file
        try:
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | (0 if resume else os.O_EXCL)
            self._descriptor = os.open(path, flags, 0o666)
        except FileExistsError:
            raise self._refusal("exists already", f"Give --resume to go on with it. {_NEW_NAME}") from None
        except OSError as error:
            raise self._refusal(f"cannot be written ({error.strerror})", _NEW_NAME) from error
        try:
            self._lock()
            if resume:
                self._resume()
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def done(self, file: str) -> Row | None:
        """The row of a file that has not changed since."""
        identity = identity_of(file)
        row = self.rows.get(identity["path"])
        return row if row is not None and row.identity == identity else None

    def add(self, row: Row) -> None:
        line = self._line(row)
        if os.write(self._descriptor, line) < len(line):  # the disk is full
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def keep_only(self, rows: Iterable[Row]) -> None:
        """Keep only these rows: drops partial lines and rows of files that have changed since."""
        content = b"".join(map(self._line, rows))
        folder = self._path.absolute().parent
        try:
            descriptor, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=folder)
            os.fchmod(descriptor, os.fstat(self._descriptor).st_mode & 0o777)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            fresh = os.open(name, os.O_RDWR | os.O_APPEND)
            os.close(self._descriptor)
            self._descriptor = fresh
            self._lock()
            Path(name).replace(self._path)
        except OSError as error:
            raise self._refusal(f"cannot be written ({error.strerror})", _NEW_NAME) from error

    def _resume(self) -> None:
        """Read the rows of the previous run. A last line without its end is incomplete and dropped."""
        with os.fdopen(os.dup(self._descriptor), "rb") as file:
            file.seek(0)
            lines = file.read().split(b"\n")
        for number, line in enumerate(lines[:-1], start=1):
            try:
                entry: dict[str, Any] = parse_json(line)
                row, rules = row_from(entry), entry["rules"]
                path = row.identity["path"]
            except (ValueError, KeyError, TypeError):
                raise self._refusal(f"line {number} is not one of avdrift check", _NEW_NAME) from None
            if rules != parse_json(json.dumps(self._rules.to_dict())):
                what = "was made with other limits, models or options"
                raise self._refusal(what, f"Give the same as then. {_NEW_NAME}")
            self.rows[path] = row
        fresh = [row for row in self.rows.values() if self.done(row.file) is not None]
        if lines[-1] or len(fresh) < len(lines) - 1:
            self.keep_only(fresh)

    def _line(self, row: Row) -> bytes:
        return json.dumps(row.to_dict(self._rules), allow_nan=False).encode("ascii") + b"\n"

    def _lock(self) -> None:
        import fcntl  # POSIX only

        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            what = "another avdrift check is writing it"
            raise self._refusal(what, "Wait for its end, or give another name") from None

    def _refusal(self, what: str, remedy: str) -> UsageError:
        return UsageError(what, where=f"--jsonl {self._path}", remedy=remedy)
