"""For tests of the model store: keys, signed bundles, and disks that fail at a chosen step."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from device.bundles.signature import IDENTITY, NAMESPACE, SIGNERS, sign
from device.bundles.store import Store
from device.state.disk import Disk
from tests.models.bundles import audio_encoder, change_manifest, write_bundle

needs_ssh_keygen = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")


class KilledHere(BaseException):
    """The process ends at this step: no handler of errors runs."""


class RecordingDisk(Disk):
    """A real disk that remembers its steps as (method, name of the path last given)."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, str]] = []

    def _step(self, method: str, *arguments: Any) -> None:
        paths = [argument.name for argument in arguments if isinstance(argument, Path)]
        self.steps.append((method, paths[-1]))
        getattr(super(), method)(*arguments)

    def make_folder(self, path: Path) -> None:
        self._step("make_folder", path)

    def write_file(self, path: Path, content: bytes) -> None:
        self._step("write_file", path, content)

    def sync_folder(self, path: Path) -> None:
        self._step("sync_folder", path)

    def symlink(self, path: Path, target: str) -> None:
        self._step("symlink", path, target)

    def replace(self, source: Path, target: Path) -> None:
        self._step("replace", source, target)

    def remove(self, path: Path) -> None:
        self._step("remove", path)


class FailingDisk(RecordingDisk):
    """Fails at step number `at`, in one of the ways of FAILURES; every later step of a full disk fails as well."""

    def __init__(self, at: int, way: str) -> None:
        super().__init__()
        self._at, self._way = at, way

    def _step(self, method: str, *arguments: Any) -> None:
        number = len(self.steps)
        if number == self._at and self._way == "killed halfway" and method == "write_file":
            arguments[0].write_bytes(arguments[1][: len(arguments[1]) // 2])
            raise KilledHere
        if number == self._at and self._way == "killed before":
            raise KilledHere
        if number >= self._at and self._way == "full" and method in ("make_folder", "write_file", "symlink"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(arguments[0]))
        if number == self._at and self._way == "fails":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(arguments[0]))
        super()._step(method, *arguments)
        if number == self._at and self._way == "killed after":
            raise KilledHere


FAILURES = ("fails", "full", "killed before", "killed halfway", "killed after")


def versioned(folder: Path, version: str, **changes: Any) -> Path:
    """A tiny bundle of that version, with an audio tower of its own."""
    seed = sum(version.encode())
    write_bundle(folder, audio=audio_encoder(seed=seed))
    change_manifest(folder, lambda manifest: manifest.update(version=version, **changes))
    return folder


def make_key(path: Path, kind: str = "ed25519", passphrase: str = "") -> Path:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-f", str(path)],
        check=True, stdin=subprocess.DEVNULL, timeout=60,
    )  # fmt: skip
    return path


def signers_line(key: Path) -> str:
    return f"{IDENTITY} {key.with_suffix('.pub').read_text(encoding='utf-8')}"


def trust(store: Path, *keys: Path) -> Path:
    """An allowed-signers file in a state folder, as docs/raspberry-pi.md shows."""
    store.mkdir(parents=True, exist_ok=True)
    (store / SIGNERS).write_text("".join(map(signers_line, keys)), encoding="utf-8")
    return store / SIGNERS


def sign_raw(folder: Path, key: Path, namespace: str = NAMESPACE) -> None:
    """A signature as ssh-keygen makes it by itself, of any namespace and kind of key."""
    sig = folder / "manifest.json.sig"
    sig.unlink(missing_ok=True)
    command = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(key), "-n", namespace, str(folder / "manifest.json")]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)


def signed(folder: Path, key: Path) -> Path:
    sign(folder, key)
    return folder


def current_version(store: Path) -> str:
    """What a device would measure with now; fails the test where there is nothing, or nothing whole."""
    bundle = Store(store).load_current()
    assert bundle is not None
    return bundle.version


def leftovers(store: Path) -> list[str]:
    return sorted(path.name for path in (store / "models").iterdir() if path.name[0] == "." and path.name != ".lock")


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A disk of its own in the place of a new folder, as long as this lasts; skips where nobody may mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() or shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)
