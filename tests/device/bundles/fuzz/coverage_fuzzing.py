"""Coverage-guided fuzzing of untrusted bytes: `python -m tests.device.bundles.fuzz.coverage_fuzzing TARGET`.

TARGET is a name of TARGETS; behind it go options of libFuzzer, such as `-runs=100000` or `-max_total_time=600`, and a
folder to keep what was found, or a file to try once more. The device's own Python is instrumented, so that the fuzzer
sees which branches it has reached. Anything but an error of ours is a crash, and so is a damaged bundle that is taken.
Needs `pip install atheris`; without it this says so and ends with 77.
"""

from __future__ import annotations

import base64
import json
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

try:
    import atheris
except ImportError:
    print(f"{__file__}: needs atheris (pip install atheris)", file=sys.stderr)
    sys.exit(77)

with atheris.instrument_imports(include=["device"]):
    from device.bundles.bundle import MANIFEST, load_bundle
    from device.bundles.golden import read_golden
    from device.bundles.model_kinds import TOWERS
    from device.bundles.signature import _BEGIN, _END, SIGNATURE, _header
    from device.errors import ModelError
    from device.towers.macs import count_macs

from tests.device.bundles.fuzz.fuzzing import other_value
from tests.models.bundles import audio_encoder, write_bundle
from tests.models.stores import make_key, sign_raw

Target = Callable[[bytes], None]
_SCRATCH = tempfile.TemporaryDirectory(prefix="avdrift-coverage-", dir="/dev/shm")  # a disk would be worn, and slow
_BUNDLE = write_bundle(Path(_SCRATCH.name) / "bundle")
_TRUE = (_BUNDLE / MANIFEST).read_bytes()
_GIVEN = json.loads(_TRUE)


def manifest(data: bytes) -> None:
    """Any bytes in the manifest's place: refused, or they name the same files and the same contract."""
    (_BUNDLE / MANIFEST).write_bytes(data)
    try:
        bundle = load_bundle(_BUNDLE)
    except ModelError as error:
        _told(error)
        return
    assert bundle.manifest["files"] == _GIVEN["files"], "models that the manifest does not name"
    assert bundle.manifest["contract"]["front_end"] == _GIVEN["contract"]["front_end"], "another contract"


def bundle_file(data: bytes) -> None:
    """Any bytes in the place of one of the files, the first byte says which, hashes as they were: always refused."""
    (_BUNDLE / MANIFEST).write_bytes(_TRUE)
    path = _BUNDLE / sorted(_GIVEN["files"])[(data[:1] or b"\0")[0] % len(_GIVEN["files"])]
    true = path.read_bytes()
    path.write_bytes(data[1:])
    try:
        load_bundle(_BUNDLE)
    except ModelError as error:
        _told(error)
        return
    finally:
        path.write_bytes(true)
    assert data[1:] == true, f"a damaged {path.name} was accepted"


def signature(data: bytes) -> None:
    """Any bytes as a signature, and as what is in its armour: what its header says is text, or it is refused."""
    for content in (data, b"\n".join((_BEGIN, base64.b64encode(data), _END))):
        try:
            header = _header(content, "here")
        except ModelError:
            continue
        assert header.fingerprint.startswith("SHA256:") and isinstance(header.namespace, str)


def golden(data: bytes) -> None:
    """Any bytes as golden vectors: an array of numbers for each tower, or refused."""
    try:
        found = read_golden(data, TOWERS, "here")
    except ModelError as error:
        assert len(str(error)) < 4000
        return
    assert sorted(found) == ["audio", "lips"]


def model(data: bytes) -> None:
    """Any bytes as a .tflite file, read by our own look at its tables."""
    try:
        count_macs(data)
    except ModelError as error:
        assert len(str(error)) < 4000


def _changed_manifest(data: bytes, max_size: int, seed: int) -> bytes:
    """Changes of bytes leave little that is still JSON: every second time another value takes the place of one."""
    try:
        return other_value(data, random.Random(seed))[:max_size] if seed % 2 else atheris.Mutate(data, max_size)
    except (ValueError, TypeError, LookupError, RecursionError):  # no JSON, or nothing in it
        return atheris.Mutate(data, max_size)


def _told(error: ModelError) -> None:
    assert str(_BUNDLE) in str(error) and error.remedy and len(str(error)) < 4000, error


def _signature_seed() -> bytes:
    key = make_key(Path(_SCRATCH.name) / "key")
    sign_raw(_BUNDLE, key)
    content = (_BUNDLE / SIGNATURE).read_bytes().strip()
    (_BUNDLE / SIGNATURE).unlink()
    return base64.b64decode(content[len(_BEGIN) : -len(_END)])


SEEDS: dict[str, Callable[[], bytes]] = {
    "manifest": lambda: _TRUE,
    "bundle_file": lambda: b"\0" + (_BUNDLE / "audio.tflite").read_bytes(),
    "signature": _signature_seed,
    "golden": lambda: (_BUNDLE / "golden.npz").read_bytes(),
    "model": audio_encoder,
}
TARGETS: dict[str, Target] = {
    "manifest": manifest, "bundle_file": bundle_file, "signature": signature, "golden": golden, "model": model,
}  # fmt: skip


def main() -> None:
    """Never returns: libFuzzer ends the process."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"give one of {', '.join(TARGETS)}, and what libFuzzer is to be told")
    name = sys.argv.pop(1)
    given = sys.argv[1:]
    if not any(Path(each).is_file() for each in given):  # else only those are tried
        folders = [Path(each) for each in given if not each.startswith("-")]
        for folder in (*folders, seeds := Path(_SCRATCH.name) / "seeds"):
            folder.mkdir(exist_ok=True)
        (seeds / name).write_bytes(SEEDS[name]())
        given += [str(seeds)]
    mutator = _changed_manifest if name == "manifest" else None
    atheris.Setup([sys.argv[0], *given], TARGETS[name], custom_mutator=mutator)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
