"""Why a camera cannot be opened: nodes under /dev without permission, and processes that hold the camera.

Libraries only report failure; /proc and /dev show the reason. Without root, only the user's own processes can be
inspected, so the camera may be in use although no holder is found.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from device.errors import CaptureError, DeviceBusyError, DeviceHungError, DevicePermissionError

CAMERA_NODES = ("video*", "media*", "dma_heap/vidbuf_cached", "dma_heap/linux,cma")
_MAX_NAMED = 3
_PROC, _DEV = Path("/proc"), Path("/dev")


def nodes(patterns: Sequence[str] = CAMERA_NODES, dev: Path = _DEV) -> list[Path]:
    return sorted(path for pattern in patterns for path in dev.glob(pattern))


def closed_nodes(among: Sequence[Path]) -> list[Path]:
    """The nodes that this process may not open."""
    return [path for path in among if path.exists() and not os.access(path, os.R_OK | os.W_OK)]


def holders(among: Sequence[Path], proc: Path = _PROC) -> dict[int, str]:
    """The processes, including this one, that have one of the nodes open: number and name."""
    wanted = {str(path.resolve()) for path in among}
    folders = (folder for folder in proc.glob("[0-9]*") if wanted.intersection(_open_files(folder)))
    return {int(folder.name): _name(folder) for folder in folders}


def _open_files(process: Path) -> Iterator[str]:
    try:
        links = list((process / "fd").iterdir())
    except OSError:  # of another user, or already gone
        return
    for link in links:
        try:
            yield str(link.readlink())
        except OSError:
            continue


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text(encoding="utf-8", errors="replace").strip() or "a process"
    except OSError:
        return "a process"


def busy_error(where: str, among: Sequence[Path], proc: Path = _PROC) -> DeviceBusyError | DeviceHungError:
    """The error that names the process holding the camera."""
    found = holders(among, proc)
    own = found.pop(os.getpid(), None)
    names = [f"{name} (process {number})" for number, name in sorted(found.items())]
    if names:
        who = ", ".join(names[:_MAX_NAMED]) + (" and others" if len(names) > _MAX_NAMED else "")
        return DeviceBusyError(f"held by {who}", where=where, remedy="Stop that one: a camera serves one at a time.")
    if own:
        remedy = "It is already open, or a hanging driver does not release it: restart this process."
        return DeviceHungError(f"held by this process itself ({own})", where=where, remedy=remedy)
    what = "held by a process that this user may not see"
    remedy = "To see which: sudo fuser -v /dev/video* /dev/media*"
    return DeviceBusyError(what, where=where, remedy=remedy)


def permission_error(where: str, closed: Sequence[Path]) -> DevicePermissionError:
    """The error that names the nodes without permission."""
    names = ", ".join(str(path) for path in closed[:_MAX_NAMED]) + (", …" if len(closed) > _MAX_NAMED else "")
    return DevicePermissionError(
        f"this user may not open {names}",
        where=where,
        remedy="Join the group that may: sudo usermod -aG video USER, then log in again.",
    )


def access_error(error: BaseException, where: str, among: Sequence[Path], proc: Path = _PROC) -> CaptureError | None:
    """The cause of a library's error while opening a camera: no permission, busy, or None for anything else."""
    text = " ".join(str(link) for link in _chain(error)).lower()
    if closed := closed_nodes(among):
        return permission_error(where, closed)
    if any(isinstance(link, PermissionError) for link in _chain(error)) or "permission denied" in text:
        return permission_error(where, [*among])
    # A camera that another program streams from can be acquired but not configured; that error has no number.
    held = "configuration failed" in text and holders(among, proc).keys() - {os.getpid()}
    return busy_error(where, among, proc) if held or "busy" in text else None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
