"""Trials on disk, in the state folder: one small file, written atomically, and the lock for writing it.

Only the daemon that holds the lock writes. A damaged file reads as empty: the models are then on trial again.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from device.bundles.trial import Trial, TrialState
from device.errors import ModelCorruptError
from device.state.bounded_json import parse_json
from device.state.disk import Disk, read_plain

TRIALS, LOCK = "trials.json", ".measuring"
_MAX_BYTES = 1 << 20
_TYPES: dict[str, tuple[type, ...]] = {
    "digest": (str,), "made_ns": (int,), "fallback": (str, type(None)), "standing": (str,), "why": (str,),
    "valid": (int,), "speech_s": (int, float), "deaths": (int,), "running": (bool,),
}  # fmt: skip

_log = logging.getLogger(__name__)


class TrialFile:
    """The trials of a state folder by the digest of the models."""

    def __init__(self, folder: Path, disk: Disk | None = None) -> None:
        self._folder, self._path, self._disk = folder, folder / TRIALS, disk or Disk()
        self._lock: int | None = None

    def read(self) -> dict[str, Trial]:
        try:
            found = parse_json(read_plain(self._path, _MAX_BYTES))
            return {trial.digest: trial for trial in map(_trial, found["trials"])}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, ModelCorruptError) as error:
            _log.warning("%s: cannot be read (%s): the models in use are on trial again", self._path, error)
            return {}

    def write(self, trials: Mapping[str, Trial]) -> None:
        """Replace the file. Raises OSError."""
        content = json.dumps({"trials": [asdict(trial) for trial in trials.values()]}, indent=1) + "\n"
        self._disk.write_atomically(self._path, content.encode())

    def acquire(self) -> bool:
        """Take the lock until this process ends; return whether it is held. Raises OSError if it cannot be created."""
        if self._lock is None:
            descriptor = os.open(self._folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
            if _locked(descriptor, shared=False):
                self._lock = descriptor
            else:
                os.close(descriptor)
        return self._lock is not None

    def release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def is_locked(self) -> bool:
        """Whether a daemon is measuring with this state folder."""
        try:
            descriptor = os.open(self._folder / LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return False
        try:
            return not _locked(descriptor, shared=True)
        finally:
            os.close(descriptor)


def _locked(descriptor: int, *, shared: bool) -> bool:
    import fcntl  # POSIX only, like the daemon

    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _trial(values: Any) -> Trial:
    if not isinstance(values, dict) or set(values) != set(_TYPES):
        raise ValueError("unexpected keys")
    for name, kinds in _TYPES.items():
        if not isinstance(values[name], kinds) or (isinstance(values[name], bool) and bool not in kinds):
            raise ValueError(f"{name} has another type")
    return Trial(**{**values, "standing": TrialState(values["standing"])})
