"""Checks memory, disk, software and service: what avdrift needs of the system."""

from __future__ import annotations

import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from device import __version__
from device.doctor.finding import CheckResult, failed, ok, warning
from device.doctor.host import Host

LITTLE_MEMORY_MB, LITTLE_DISK_MB = 200, 50

# Distribution names, the wanted one first; any one of a row will do.
_LIBRARIES = (
    ("numpy",), ("ai-edge-litert", "tflite-runtime"), ("av",), ("opencv-python-headless", "opencv-python"),
    ("webrtcvad-wheels", "webrtcvad"), ("flatbuffers",),
)  # fmt: skip
_PYTHONS = ((3, 11), (3, 14))
_UNIT = "avdrift.service"


def memory(host: Host) -> CheckResult:
    """Check the available memory."""
    free_kb = host.fields("proc/meminfo").get("MemAvailable")
    if free_kb is None:
        return warning("the kernel does not say", "Mount /proc")
    free_mb = free_kb // 1024
    if free_mb < LITTLE_MEMORY_MB:
        remedy = "End other programs, or boot without a desktop: sudo systemctl set-default multi-user.target"
        return warning(f"{free_mb} MB are free, avdrift needs about {LITTLE_MEMORY_MB}", remedy)
    return ok(f"{free_mb} MB are free")


def state_folder(
    folder: Path, free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free
) -> CheckResult:
    """Check that models and the rig can be stored, by writing and removing a file."""
    there = next((each for each in (folder, *folder.parents) if each.is_dir()), Path("/"))
    remedy = f"Run this as the user that avdrift runs as, or give it the folder: sudo chown USER {there}"
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=".avdrift-doctor-") as file:
            file.write(b"x")
            file.flush()
    except OSError as error:
        return failed(f"{there} cannot be written ({error.strerror})", remedy)
    free_mb = free_bytes(there) / 1e6
    not_yet = "" if there == folder else f" ({folder} is made when it is needed)"
    if free_mb < LITTLE_DISK_MB:
        return warning(f"{free_mb:.0f} MB are free in {there}", "Make room: new models are copied first")
    return ok(f"{there} can be written, {free_mb / 1000:.1f} GB are free{not_yet}")


def software(
    version: Callable[[str], str] = metadata.version, python: tuple[int, ...] = sys.version_info[:3]
) -> CheckResult:
    """Check the versions of Python and of the libraries; names all that are missing."""
    own = ".".join(map(str, python))
    found, missing = [f"avdrift {__version__}", f"Python {own}", platform.machine()], []
    for names in _LIBRARIES:
        installed = [f"{name} {value}" for name in names if (value := _version_of(name, version))]
        found += installed[:1]
        missing += [] if installed else [names[0]]
    if not _PYTHONS[0] <= python[:2] < _PYTHONS[1]:
        return failed(f"Python {own}", "avdrift needs Python 3.11, 3.12 or 3.13: make its environment with one of them")
    if missing:
        remedy = f"Install: {sys.executable} -m pip install {' '.join(missing)}"
        return failed(f"{', '.join(missing)} not installed", remedy)
    return ok(", ".join(found))


def service(host: Host) -> CheckResult:
    """Check whether systemd runs avdrift, if systemd and the unit are present."""
    if not (host.root / "run/systemd/system").is_dir():
        return ok("no systemd here")
    shown = host.run(("systemctl", "show", _UNIT, "--property=LoadState,ActiveState,ExecMainStatus"))
    state = dict(line.split("=", 1) for line in (shown or "").splitlines() if "=" in line)
    if state.get("LoadState") != "loaded":
        return ok("not installed as a service")
    active, code = state.get("ActiveState", "unknown"), state.get("ExecMainStatus", "0")
    if active == "active":
        return ok("active")
    if active == "inactive":
        return warning("installed, but not running", "Start it: sudo systemctl enable --now avdrift")
    return failed(f"{active}, its last exit code was {code}", "See why: journalctl -u avdrift -n 50")


def _version_of(name: str, version: Callable[[str], str]) -> str | None:
    try:
        return version(name)
    except metadata.PackageNotFoundError:
        return None
