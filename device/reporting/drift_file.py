"""What is known of drift and steps, kept over a restart of avdrift: one small file in the state folder.

It is taken up only where its times still mean what they meant: in the same boot of the computer (CLOCK_MONOTONIC begins
anew with each, and a Raspberry Pi's wall clock is wrong until a time service has set it, so nothing else could bridge
the gap), not suspended meanwhile, with the same window. What is older than five minutes `device.sync.drift` itself
forgets. Everything else begins anew, which costs four minutes and cannot be wrong.
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
KEPT_EVERY_S = 120.0  # 15 kB each time: 10 MB a day for an SD card

_MAX_BYTES = 1 << 20
_SAME_NS = NS_PER_S // 10

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What must be the same for a stored state to go on."""

    boot_id: str
    asleep_ns: int  # how long the computer has been suspended since it was started
    window_s: float

    def allow(self, stored: Circumstances) -> bool:
        same = (self.boot_id, self.window_s) == (stored.boot_id, stored.window_s)
        return same and self.boot_id != "unknown" and abs(self.asleep_ns - stored.asleep_ns) < _SAME_NS


class DriftFile:
    """Reads once, at the start; writes every two minutes and at the end. A disk that refuses is said once."""

    def __init__(self, folder: Path, disk: Disk | None = None) -> None:
        self._path, self._disk = folder / DRIFT_FILE, disk or Disk()
        self._kept: DriftState | None = None
        self._next_ns: int | None = None
        self._refused = False

    def take_up(self, now: Circumstances, now_ns: int) -> DriftState:
        """The stored state; an empty one where there is none that goes on."""
        try:
            stored, state = _parsed(parse_json(read_plain(self._path, _MAX_BYTES)))
        except FileNotFoundError:
            return DriftState()
        except (OSError, ValueError, KeyError, TypeError, ModelCorruptError) as error:
            _log.warning("%s: cannot be read (%s): drift begins anew", self._path, error)
            return DriftState()
        if not now.allow(stored) or (state.recent and state.recent[-1].t_s * NS_PER_S > now_ns):
            return DriftState()
        self._kept = state
        return state

    def keep(self, state: DriftState, now: Circumstances, now_ns: int, *, at_once: bool = False) -> None:
        """Write the state if it is time to, and another one than the last."""
        if self._next_ns is None:
            self._next_ns = now_ns + round(KEPT_EVERY_S * NS_PER_S)
        forgotten = not state.recent and self._kept is not None and bool(self._kept.recent)
        if state is self._kept or not (at_once or forgotten or now_ns >= self._next_ns):
            return
        self._next_ns = now_ns + round(KEPT_EVERY_S * NS_PER_S)
        try:
            self._disk.make_folders(self._path.parent)
            self._disk.write_whole(self._path, _content(now, state))
        except OSError as error:
            if not self._refused:
                _log.warning("%s: cannot be written (%s): a restart would begin drift anew", self._path, error)
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
