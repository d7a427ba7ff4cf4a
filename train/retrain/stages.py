"""A long job in stages, each a command with a folder of its own: finished stages stay, changed ones are redone.

`stage.json` in a stage's folder says what it was made of (a fingerprint over its settings, its input files and the
stages that it reads from) and whether it was completed; `log.txt` is the output of its command.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from device import __version__
from device.errors import AvdriftError, UsageError
from train.files import sha256, write_atomically
from train.progress import duration
from train.retrain.subprocesses import run_command

MARK, LOG = "stage.json", "log.txt"


@dataclass(frozen=True, slots=True)
class Stage:
    """One avdrift command. `settings`, `inputs` and the stages it is `after` are all that determines its result.

    begin: action before the command, in an existing folder. resumes: whether the command continues an interrupted run;
    all others start again. incremental: whether it finds out by itself which of its output is still valid.
    """

    name: str
    command: Sequence[str]  # a module and its arguments
    settings: Mapping[str, Any]
    inputs: Sequence[Path] = ()
    after: Sequence[str] = ()
    begin: Callable[[], None] | None = None
    resumes: bool = False
    incremental: bool = False


def run_stages(
    stages: Sequence[Stage], work: Path, report: Callable[[str], None], watch: Callable[[Path], None] = lambda _: None
) -> None:
    """Bring all stages up to date, in order; `report` gets pieces of text. Raises AvdriftError for the first to fail.

    watch: called every second while a stage works, with its folder, and once after it.

    Raises UsageError if another process works in the folder, or a folder there was not made by avdrift.
    """
    prints = fingerprints(stages)
    with _locked(work) as lock:
        for stage in stages:
            folder, fingerprint = work / stage.name, prints[stage.name]
            before = read_mark(folder)
            report(f"{stage.name:14}")
            if before.get("fingerprint") == fingerprint and before.get("done"):
                report(f"done before ({duration(before['seconds'])})\n")
                continue
            if before.get("fingerprint") != fingerprint or not stage.resumes:
                if not (before and stage.incremental):
                    _empty(folder)
                before = {}
            began, spent = time.monotonic(), float(before.get("seconds", 0))
            _mark(folder, fingerprint, spent, done=False)
            try:
                with _writing(folder):
                    if stage.begin:
                        stage.begin()
                    run_command(stage.command, folder / LOG, lock, f"stage {stage.name}", partial(watch, folder))
            except BaseException as error:
                _mark(folder, fingerprint, spent + time.monotonic() - began, done=False)
                report(f"{'failed' if isinstance(error, AvdriftError) else 'stopped'}\n")
                raise
            _mark(folder, fingerprint, spent + time.monotonic() - began, done=True)
            resumed = " in all, resumed" if before else ""
            report(f"{duration(spent + time.monotonic() - began)}{resumed}\n")


def fingerprints(stages: Sequence[Stage]) -> dict[str, str]:
    """By stage. Raises InputMissingError if an input cannot be read."""
    found: dict[str, str] = {}
    for stage in stages:
        content = {
            "avdrift": __version__, "settings": stage.settings, "inputs": [sha256(path) for path in stage.inputs],
            "after": {name: found[name] for name in stage.after},
        }  # fmt: skip
        found[stage.name] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return found


def read_mark(folder: Path) -> dict[str, Any]:
    """The mark in a stage's folder; empty if it is missing or damaged."""
    try:
        found = json.loads((folder / MARK).read_text(encoding="utf-8"))
        return {"fingerprint": str(found["fingerprint"]), "seconds": float(found["seconds"]), "done": found["done"]}
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return {}


def _mark(folder: Path, fingerprint: str, seconds: float, *, done: bool) -> None:
    with _writing(folder):
        write_atomically(folder / MARK, {"fingerprint": fingerprint, "done": done, "seconds": round(seconds, 1)})


def _empty(folder: Path) -> None:
    """Empty a folder; deletes only one that avdrift made."""
    with _writing(folder):
        if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / MARK).is_file())):
            raise UsageError(
                "not made by avdrift-train retrain, so it is left alone", where=str(folder),
                remedy="Move it away, or name another work folder",
            )  # fmt: skip
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        remedy = "Make room there or make it writable, or name another work folder"
        raise UsageError(f"cannot be written ({error.strerror})", where=str(path), remedy=remedy) from error


@contextmanager
def _locked(work: Path) -> Iterator[int]:
    """A lock that commands inherit: if this process is killed, it holds until they have ended as well."""
    with _writing(work):
        work.mkdir(parents=True, exist_ok=True)
        lock = os.open(work / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield lock
    except BlockingIOError as error:
        what, remedy = "another retrain, or a command it began, works here", "Wait until it has ended, or end it"
        raise UsageError(what, where=str(work), remedy=remedy) from error
    finally:
        os.close(lock)
