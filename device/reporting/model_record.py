"""How well models do at a site: how often there is an offset, how certain it is, and why there is none.

Counts the daemon's own reports, separately for each bundle, and keeps the counts in the state folder over restarts.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from device.errors import ModelCorruptError
from device.records import NS_PER_S, Report, State
from device.state.bounded_json import parse_json
from device.state.disk import Disk, read_plain

RECORD_FILE = "model_record.json"
BINS = 10  # equal bins of confidence

_SAVE_EVERY_S = 300.0
_MAX_MODELS = 4  # only the newest are kept
_MAX_BYTES = 1 << 16
_HEARD = (State.MEASURING, State.UNCERTAIN)  # a face is visible and speech is heard

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """Counts of reports. `heard`: reports with a face and speech; `numbers`: those of them with an offset."""

    model: str
    reports: int = 0
    heard: int = 0
    numbers: int = 0
    confidence: tuple[int, ...] = (0,) * BINS  # of those with a face and speech
    reasons: Mapping[str, int] = field(default_factory=dict)  # of those without an offset

    @property
    def coverage(self) -> float | None:
        """Coverage: the share of the reports with a face and speech that have an offset."""
        return round(self.numbers / self.heard, 4) if self.heard else None

    def to_dict(self) -> dict[str, Any]:
        """`model` includes the first digits of the bundle's digest."""
        return {"digest": self.model.rpartition(" ")[2], **asdict(self), "coverage": self.coverage}


def counted(record: ModelRecord, report: Report) -> ModelRecord:
    """Count one more report of these models. A report before the first result changes nothing."""
    if report.state is State.STARTING:
        return record
    measuring = report.state is State.MEASURING
    reasons, confidence = dict(record.reasons), list(record.confidence)
    if not measuring and report.reason is not None:
        reasons[str(report.reason)] = reasons.get(str(report.reason), 0) + 1
    if report.state in _HEARD and report.confidence is not None:
        confidence[min(int(report.confidence * BINS), BINS - 1)] += 1
    return replace(
        record, reports=record.reports + 1, heard=record.heard + (report.state in _HEARD),
        numbers=record.numbers + measuring, confidence=tuple(confidence), reasons=reasons,
    )  # fmt: skip


class ModelRecords:
    """The records in a state folder: read once, written every five minutes and at the end.

    None: kept in memory only.
    """

    def __init__(self, folder: Path | None, disk: Disk | None = None) -> None:
        self._path, self._disk = folder / RECORD_FILE if folder is not None else None, disk or Disk()
        self._records = {each.model: each for each in read_records(folder)} if folder is not None else {}
        self._seq: int | None = None
        self._next_ns: int | None = None
        self._current: str | None = None
        self._refused = False

    @property
    def current(self) -> ModelRecord | None:
        """The record of the models of the newest report."""
        return self._records.get(self._current) if self._current is not None else None

    def add(self, report: Report | None, now_ns: int) -> None:
        """Count the newest report, unless it has been counted already."""
        if report is None or report.seq == self._seq:
            return
        self._seq, self._current = report.seq, report.model
        record = self._records.pop(report.model, ModelRecord(report.model))
        self._records[report.model] = counted(record, report)  # newest models last
        if self._next_ns is None:
            self._next_ns = now_ns + round(_SAVE_EVERY_S * NS_PER_S)
        if now_ns >= self._next_ns:
            self._next_ns = now_ns + round(_SAVE_EVERY_S * NS_PER_S)
            self.save()

    def save(self) -> None:
        """Write the counts. A write error is logged once."""
        if self._path is None or self._current is None:
            return
        kept = list(self._records.values())[-_MAX_MODELS:]
        content = json.dumps({"models": [asdict(each) for each in kept]}) + "\n"
        try:
            self._disk.make_folders(self._path.parent)
            self._disk.write_atomically(self._path, content.encode())
            self._refused = False
        except OSError as error:
            if not self._refused:
                _log.warning("%s: cannot be written (%s): a restart would lose the counts", self._path, error)
            self._refused = True


def read_records(folder: Path) -> list[ModelRecord]:
    """The records in a state folder, newest models last; empty where there is nothing readable."""
    try:
        found = parse_json(read_plain(folder / RECORD_FILE, _MAX_BYTES))
        return [_record(each) for each in found["models"]]
    except FileNotFoundError:
        return []
    except (OSError, ModelCorruptError, ValueError, KeyError, TypeError, AttributeError) as error:
        _log.warning("%s: cannot be read (%s): counting starts again", folder / RECORD_FILE, error)
        return []


def _record(found: Any) -> ModelRecord:
    """Raises KeyError, TypeError, ValueError or AttributeError for anything that `keep` does not write."""
    reports, heard, numbers = (int(found[name]) for name in ("reports", "heard", "numbers"))
    confidence = tuple(int(count) for count in found["confidence"])
    reasons = {str(name): int(count) for name, count in found["reasons"].items()}
    if len(confidence) != BINS or not 0 <= numbers <= heard <= reports:
        raise ValueError("counts that contradict each other")
    return ModelRecord(str(found["model"]), reports, heard, numbers, confidence, reasons)
