"""The rig's own fixed offset, measured by `avdrift calibrate` and stored in a small file of the state folder.

The previous calibration is kept beside it, so that the last one can be undone.

A rig is one camera with one microphone in fixed places. Sensor, USB and the path of the sound through the air (3 ms per
metre) give it an offset that is not in the programme itself; reports subtract it once it is known.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from device.config.constraints import Range, Text
from device.errors import ModelCorruptError, UsageError
from device.state.bounded_json import parse_json
from device.state.disk import Disk, read_plain

RIG_FILE, PREVIOUS_RIG_FILE = "rig.json", "rig.previous.json"
MAX_BIAS_MS = 5000.0  # the widest possible search range

_MAX_BYTES = 4096
_NAME = Text(200)  # as long as a device name in the configuration may be
_MAX_UNIX_MS = 1 << 53  # the largest integer that JSON represents exactly
_REMEDY = "Run `avdrift calibrate` again, or delete the file"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rig:
    """A rig's own offset. Positive: it makes the audio seem early. Both names are as `avdrift devices` prints them.

    Raises UsageError for values that no calibration can give.
    """

    bias_ms: float
    bias_std_ms: float
    made_unix_ms: int
    camera: str
    microphone: str

    def __post_init__(self) -> None:
        wrong = [name for name, right in self._checks() if not right]
        if wrong:
            raise UsageError(f"invalid {', '.join(wrong)}", where="rig", remedy=_REMEDY)

    def _checks(self) -> list[tuple[str, bool]]:
        return [
            ("bias_ms", Range(-MAX_BIAS_MS, MAX_BIAS_MS).allows(self.bias_ms)),
            ("bias_std_ms", Range(0, MAX_BIAS_MS).allows(self.bias_std_ms)),
            ("made_unix_ms", type(self.made_unix_ms) is int and Range(0, _MAX_UNIX_MS).allows(self.made_unix_ms)),
            ("camera", bool(self.camera) and _NAME.allows(self.camera)),
            ("microphone", bool(self.microphone) and _NAME.allows(self.microphone)),
        ]


def applies(rig: Rig, camera: str, microphone: str) -> bool:
    """Whether this camera and this microphone are the calibrated ones."""
    return (rig.camera, rig.microphone) == (camera, microphone)


def load_rig(state_dir: Path) -> Rig | None:
    """The stored rig; None without one. An unreadable one is logged and ignored."""
    try:
        return read_rig(state_dir)
    except UsageError as error:
        _log.error("%s", error)
        return None


def read_rig(state_dir: Path) -> Rig | None:
    """The stored rig; None without one. Raises UsageError if the file is not a valid rig."""
    return _read(state_dir / RIG_FILE)


def _read(path: Path) -> Rig | None:
    try:
        content = read_plain(path, _MAX_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _damaged(path, f"cannot be read ({error.strerror})") from error
    except ModelCorruptError as error:
        raise _damaged(path, error.what) from error
    try:
        return _parsed(content)
    except ValueError as error:
        raise _damaged(path, "not what `avdrift calibrate` writes") from error
    except UsageError as error:
        raise _damaged(path, error.what) from error


def store_rig(state_dir: Path, rig: Rig, disk: Disk | None = None) -> Path:
    """Use a rig from now on, and keep the previous one for `undo_rig`; return the file's path.

    A power cut leaves the complete old or the complete new one. Creates the folder if necessary. Raises UsageError if
    the disk refuses.
    """
    disk, path, previous = disk or Disk(), state_dir / RIG_FILE, state_dir / PREVIOUS_RIG_FILE
    try:
        disk.make_folders(state_dir)
        if (before := _readable(path)) is not None:
            disk.write_atomically(previous, _content(before))
        elif os.path.lexists(previous) and not os.path.lexists(path):  # the previous state is "not calibrated"
            disk.remove(previous)
        disk.write_atomically(path, _content(rig))
    except OSError as error:
        raise UsageError(
            f"the rig cannot be stored ({error.strerror})", where=str(path),
            remedy="Free some space, or run this as the user that owns the state folder",
        ) from error  # fmt: skip
    return path


def undo_rig(state_dir: Path, disk: Disk | None = None) -> Rig | None:
    """Return to the state before the last `store_rig`: that rig, or None without one. A second call reverts the first.

    Raises UsageError if there is nothing to undo, or the disk refuses.
    """
    disk, path, previous = disk or Disk(), state_dir / RIG_FILE, state_dir / PREVIOUS_RIG_FILE
    aside = state_dir / f".{RIG_FILE}.undone"
    try:
        before = _readable(previous)
        used = os.path.lexists(path)
        if not used and before is None:
            remedy = "Run `avdrift calibrate`, or send `recalibrate`"
            raise UsageError("there is no calibration to undo", where=str(path), remedy=remedy)
        if used:
            disk.replace(path, aside)
        if before is not None:
            disk.replace(previous, path)
        if used:
            disk.replace(aside, previous)
        disk.sync_folder(state_dir)
    except OSError as error:
        raise UsageError(
            f"the calibration cannot be undone ({error.strerror})", where=str(path),
            remedy="Run this as the user that owns the state folder",
        ) from error  # fmt: skip
    return before


def forget_rig(state_dir: Path, disk: Disk | None = None) -> None:
    """Use no rig from now on, and keep the current one for `undo_rig`. Raises UsageError if the disk refuses."""
    disk, path = disk or Disk(), state_dir / RIG_FILE
    try:
        if os.path.lexists(path):
            disk.replace(path, state_dir / PREVIOUS_RIG_FILE)
            disk.sync_folder(state_dir)
    except OSError as error:
        raise UsageError(
            f"the calibration cannot be removed ({error.strerror})", where=str(path),
            remedy="Run this as the user that owns the state folder",
        ) from error  # fmt: skip


def _readable(path: Path) -> Rig | None:
    """The rig in a file; None if it is missing or unreadable."""
    try:
        return _read(path)
    except UsageError:
        return None


def _content(rig: Rig) -> bytes:
    return (json.dumps(asdict(rig), indent=1, allow_nan=False) + "\n").encode()


def _parsed(content: bytes) -> Rig:
    values = parse_json(content)
    names = {field.name for field in fields(Rig)}
    if not isinstance(values, dict) or set(values) != names:
        raise ValueError("unexpected keys")
    return Rig(**values)


def _damaged(path: Path, what: str) -> UsageError:
    return UsageError(f"{what}; measuring without the rig's own offset", where=str(path), remedy=_REMEDY)
