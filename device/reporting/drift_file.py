"""Keeps drift and steps over a restart of avdrift, in one small file in the state folder.

The state is restored only where its times still mean the same: in the same boot of the computer, without a suspend in
between, and with the same window. CLOCK_MONOTONIC starts again at each boot, and a Raspberry Pi's wall clock is wrong
until a time service has set it, so nothing else could bridge the gap. `device.sync.drift` itself discards what is older
than five minutes. Otherwise the state starts empty, which costs four minutes and cannot be wrong.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from device.errors import ModelCorruptError
from device.records import NS_PER_S
from device.state.bounded_json import parse_json
from device.state.disk import Disk, read_plain
from device.sync.drift import DriftState

DRIFT_FILE = "drift.json"
SAVE_EVERY_S = 120.0  # 15 kB per write: 10 MB a day for an SD card

_MAX_BYTES = 1 << 20
_SAME_NS = NS_PER_S // 10

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """The conditions that must be unchanged for a stored state to be restored."""

    boot_id: str
    asleep_ns: int  # total suspended time since boot
    window_s: float

    def allow(self, stored: Circumstances) -> bool:
        same = (self.boot_id, self.window_s) == (stored.boot_id, stored.window_s)
        return same and self.boot_id != "unknown" and abs(self.asleep_ns - stored.asleep_ns) < _SAME_NS


class DriftFile:
    """Reads once, at the start; writes every two minutes and at the end. A write error is logged once."""

    def __init__(self, folder: Path, disk: Disk | None = None) -> None:
        self._path, self._disk = folder / DRIFT_FILE, disk or Disk()
        self._kept: DriftState | None = None
        self._next_ns: int | None = None
        self._refused = False

    def restore(self, now: Circumstances, now_ns: int) -> DriftState:
        """Return the stored state, or an empty one where it cannot be continued."""
        try:
            stored, state = _parsed(parse_json(read_plain(self._path, _MAX_BYTES)))
        except FileNotFoundError:
            return DriftState()
        except (OSError, ValueError, KeyError, TypeError, ModelCorruptError) as error:
            _log.warning("%s: cannot be read (%s): the drift starts again", self._path, error)
            return DriftState()
        if not now.allow(stored) or (state.recent and state.recent[-1].t_s * NS_PER_S > now_ns):
            return DriftState()
        self._kept = state
        return state

    def save(self, state: DriftState, now: Circumstances, now_ns: int, *, at_once: bool = False) -> None:
        """Write the state if it is due and differs from the last one written."""
        if self._next_ns is None:
            self._next_ns = now_ns + round(SAVE_EVERY_S * NS_PER_S)
        forgotten = not state.recent and self._kept is not None and bool(self._kept.recent)
        if state is self._kept or not (at_once or forgotten or now_ns >= self._next_ns):
            return
        self._next_ns = now_ns + round(SAVE_EVERY_S * NS_PER_S)
        try:
            self._disk.make_folders(self._path.parent)
            self._disk.write_atomically(self._path, _content(now, state))
        except OSError as error:
            if not self._refused:
                _log.warning("%s: cannot be written (%s): a restart would lose drift", self._path, error)
            self._refused = True
            return
        self._kept, self._refused = state, False


def _content(now: Circumstances, state: DriftState) -> bytes:
    record = asdict(now) | {"state": state.to_dict()}
    return (json.dumps(record, separators=(",", ":"), allow_nan=False) + "\n").encode()


def _parsed(found: Any) -> tuple[Circumstances, DriftState]:
    """Raises KeyError, TypeError or ValueError for anything that `_content` does not write."""
    stored = Circumstances(str(found["boot_id"]), int(found["asleep_ns"]), float(found["window_s"]))
    return stored, DriftState.from_dict(found["state"])
