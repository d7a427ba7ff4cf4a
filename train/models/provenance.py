"""The provenance of a training run, in `provenance.json` beside its weights: software, data and times.

Hashes are SHA-256. A folder of shards has one over the output of `LC_ALL=C sha256sum *.npz` there, which lists each
shard with its own hash. A bundle's manifest contains only that one, because names of clips may be names of people.
"""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from device import __version__
from device.bundles.bundle import MANIFEST
from train.files import hash_of_hashes, sha256, write_atomically
from train.models.run_files import CHECKPOINT, PROVENANCE, STATE

_SCHEMA = 1
_GIT_TIMEOUT_S = 20


@contextmanager
def recorded(
    run: Path, config: Any, shards: Sequence[Path], offsets: Path | None, sources: Sequence[Path],
    teachers: Sequence[Path] = (), start: Path | None = None,
) -> Iterator[None]:  # fmt: skip
    """Record the provenance in `run` while the block trains it; each call is one session of it.

    `sources` are files that the shards came from, `teachers` the runs that it learns from, `start` the run or bundle
    whose weights it starts with and whose data it therefore has seen. Raises InputMissingError if a file cannot be
    read.
    """
    now = {
        "schema": _SCHEMA, "config": asdict(config), "seed": config.seed, "versions": versions(),
        "machine": {"arch": platform.machine(), "system": platform.system()},
        "data": data_hashes(shards, offsets, sources),
    }  # fmt: skip
    if teachers:
        now["teachers"] = [_teacher(teacher) for teacher in teachers]
    if start:
        now["start"] = _start(start)
    path = run / PROVENANCE
    before = _read(path) if (run / STATE).is_file() else {}
    session: dict[str, Any] = {"from_epoch": _epochs(run), "began": _utc(), "ended": None}
    if before:
        kept = ("config", "versions", "machine", "data", "teachers", "start")
        session["changed"] = [key for key in kept if before.get(key) != now.get(key)]
    sessions = [*before.get("sessions", []), session]
    write_atomically(path, now | {"sessions": sessions})
    yield
    session["ended"] = _utc()
    write_atomically(path, now | {"sessions": sessions})


def _teacher(run: Path) -> dict[str, Any]:
    """A summary of a run: its weights and everything except its own data, which are in its own provenance."""
    of_it = {key: value for key, value in _read(run / PROVENANCE).items() if key in ("config", "seed", "sessions")}
    return {"run": run.name, "sha256": sha256(run / CHECKPOINT)} | of_it


def _start(folder: Path) -> dict[str, Any]:
    """A finished run or a bundle: its hash, and its own provenance."""
    manifest = folder / MANIFEST
    if not manifest.is_file():
        return {"run": folder.name, "sha256": sha256(folder / CHECKPOINT)} | summary(_read(folder / PROVENANCE))
    found = _read(manifest)
    label = {key: found.get(key) for key in ("name", "version")}
    return label | {"sha256": sha256(manifest)} | ((found.get("training") or {}).get("provenance") or {})


def versions() -> dict[str, str | bool | None]:
    """The versions of all software involved; the commit only if this code lies in a checkout."""
    import keras

    backend = keras.backend.backend()
    found: dict[str, str | bool | None] = {"avdrift": __version__, **git_state(Path(__file__).resolve())}
    found |= {"python": platform.python_version(), "backend": backend}
    return found | {name: str(import_module(name).__version__) for name in ("keras", backend, "numpy")}


def git_state(file: Path) -> dict[str, str | bool | None]:
    """The commit of a tracked file, and whether any tracked file there differs from it; None: unknown."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(file.parent), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=True)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "--", file.name)  # not some other project around a virtual environment
        return {"git_commit": git("rev-parse", "HEAD"), "git_dirty": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return {"git_commit": None, "git_dirty": None}


def data_hashes(shards: Sequence[Path], offsets: Path | None, sources: Sequence[Path]) -> dict[str, Any]:
    """Hashes of each folder of shards with its files, and of the other files."""
    return {
        "shards": [_folder_hashes(folder) for folder in shards],
        "offsets": sha256(offsets) if offsets else None,
        "sources": [{"file": file.name, "sha256": sha256(file)} for file in sources],
    }


def _folder_hashes(folder: Path) -> dict[str, Any]:
    files = {path.name: sha256(path) for path in sorted(folder.glob("*.npz"), key=lambda path: path.name.encode())}
    return {"count": len(files), "sha256": hash_of_hashes(files.items()), "files": files}


def summary(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """For a manifest: without the names of clips, and without times, so that the same data make the same bundle."""
    found = _without(provenance, "sessions")
    if isinstance(teachers := found.get("teachers"), list):
        found["teachers"] = [_without(teacher, "sessions") for teacher in teachers]
    if isinstance(data := found.get("data"), dict):
        found["data"] = data | {"shards": [_without(folder, "files") for folder in data["shards"]]}
    return found


def _without(table: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name != key}


def _read(path: Path) -> dict[str, Any]:
    """The record of earlier sessions; empty if there is none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _epochs(run: Path) -> int:
    return int(_read(run / STATE).get("epochs", 0))


def _utc() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
