"""A bundle: the folder with both towers, their manifest and golden vectors. Verified before anything of it is used.

Checks, in this order, each with its own message: manifest readable and of this format; exact file set; size and
SHA-256 of each file; software new enough; input contract equal to this front end's; LiteRT accepts the models and
their shapes; golden vectors agree.
"""

from __future__ import annotations

import hashlib
import io
import json
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from device.errors import ModelContractError, ModelCorruptError, ModelMissingError
from device.features.contract import FRONT_END
from device.sync.curve import Calibration
from device.towers.litert import Floats, Model
from device.towers.version import brief, check_software

FORMAT = 1
MANIFEST = "manifest.json"
LIPS, AUDIO, GOLDEN = "lips.tflite", "audio.tflite", "golden.npz"
FILES = (LIPS, AUDIO, GOLDEN)
DEFAULT_BUNDLE = Path(__file__).parents[1] / "models" / "default"

_MAX_MANIFEST_BYTES = 1 << 20
_MAX_FILE_BYTES = 1 << 28
_GOLDEN_ARRAYS = ("lips_in", "lips_out", "audio_in", "audio_out")
_GOLDEN_TOLERANCE = 0.02  # of the expected vector's norm: well above int8 rounding, well below another model's answer
_REINSTALL = "Install the bundle again"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle, its models loaded. `digest` names its manifest and, through the hashes, everything in it."""

    name: str
    version: str
    digest: str
    lips: Model
    audio: Model
    calibration: Calibration
    manifest: dict[str, Any]

    @property
    def label(self) -> str:
        return f"{self.name} {self.version} {self.digest[:12]}"


def load_bundle(folder: Path) -> Bundle:
    """Verify and load. Raises ModelMissingError, ModelCorruptError or ModelContractError, all naming the file."""
    manifest, digest = _read_manifest(folder)
    contents = _read_files(folder, manifest)
    where = str(folder / MANIFEST)
    try:
        front_end, calibration = manifest["contract"]["front_end"], Calibration.from_dict(manifest["calibration"])
        name, version, min_software = manifest["name"], manifest["version"], manifest["min_software"]
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise ModelCorruptError(f"no usable {error} in the manifest", where=where, remedy=_REINSTALL) from error
    if not (isinstance(name, str) and isinstance(version, str)):
        raise ModelCorruptError("name and version are not text", where=where, remedy=_REINSTALL)
    check_software(min_software, where)
    if not calibration.temperature > 0:
        raise ModelCorruptError("the calibration's temperature is not positive", where=where, remedy=_REINSTALL)
    _check_contract(front_end, where)
    bundle = Bundle(
        name, version, digest,
        Model(contents[LIPS], name=str(folder / LIPS)), Model(contents[AUDIO], name=str(folder / AUDIO)),
        calibration, manifest,
    )  # fmt: skip
    _check_shapes(bundle, folder)
    _check_golden(bundle, contents[GOLDEN], str(folder / GOLDEN))
    return bundle


def _read_manifest(folder: Path) -> tuple[dict[str, Any], str]:
    path = folder / MANIFEST
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise ModelCorruptError("not a plain file", where=str(path), remedy=_REINSTALL)
        if status.st_size > _MAX_MANIFEST_BYTES:
            raise ModelCorruptError("larger than a manifest can be", where=str(path), remedy=_REINSTALL)
        content = path.read_bytes()
    except OSError as error:
        raise ModelMissingError(
            f"no bundle here ({error.strerror})", where=str(path), remedy="Give --bundle a folder with a manifest.json"
        ) from error
    try:
        manifest = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ModelCorruptError(f"not JSON ({error})", where=str(path), remedy=_REINSTALL) from error
    if not isinstance(manifest, dict):
        raise ModelCorruptError("not a JSON object", where=str(path), remedy=_REINSTALL)
    if manifest.get("format") != FORMAT:
        raise ModelContractError(
            f"bundle format {brief(manifest.get('format'))}, this software reads {FORMAT}", where=str(path),
            remedy="Update avdrift, or build the bundle with this version",
        )  # fmt: skip
    return manifest, hashlib.sha256(content).hexdigest()


def _read_files(folder: Path, manifest: dict[str, Any]) -> dict[str, bytes]:
    listed = manifest.get("files")
    if not isinstance(listed, dict) or set(listed) != set(FILES):
        raise ModelCorruptError(
            f"the manifest must list exactly {', '.join(FILES)}", where=str(folder / MANIFEST), remedy=_REINSTALL
        )
    try:
        extra = sorted({path.name for path in folder.iterdir()} - {*FILES, MANIFEST, MANIFEST + ".sig"})
    except OSError as error:
        what = f"the folder cannot be listed ({error.strerror})"
        raise ModelMissingError(what, where=str(folder), remedy="Give this user the right to read it") from error
    if extra:
        raise ModelCorruptError(
            f"files that the manifest does not list: {', '.join(extra)}", where=str(folder), remedy="Remove them"
        )
    contents = {}
    for name in FILES:
        path, entry = folder / name, listed[name]
        try:
            if path.is_symlink() or not path.is_file():
                raise ModelCorruptError("missing, or not a plain file", where=str(path), remedy=_REINSTALL)
            if path.stat().st_size > _MAX_FILE_BYTES:
                raise ModelCorruptError("larger than a model can be", where=str(path), remedy=_REINSTALL)
            contents[name] = path.read_bytes()
        except OSError as error:
            raise ModelCorruptError(f"cannot be read ({error.strerror})", where=str(path), remedy=_REINSTALL) from error
        seen = {"size": len(contents[name]), "sha256": hashlib.sha256(contents[name]).hexdigest()}
        if entry != seen:
            raise ModelCorruptError("size or SHA-256 differs from the manifest", where=str(path), remedy=_REINSTALL)
    return contents


def _check_contract(front_end: Any, where: str) -> None:
    own = FRONT_END.to_dict()
    if not isinstance(front_end, dict):
        raise ModelContractError("no front-end contract", where=where, remedy=_REINSTALL)
    differs = sorted(key for key in {*own, *front_end} if own.get(key) != front_end.get(key))
    if differs:
        listed = ", ".join(f"{key} {brief(front_end.get(key))} instead of {own.get(key)!r}" for key in differs)
        raise ModelContractError(
            f"made for another front end: {listed}",
            where=where,
            remedy="Use a bundle built for this version of avdrift",
        )


def _check_shapes(bundle: Bundle, folder: Path) -> None:
    size, bands = FRONT_END.crop_px, FRONT_END.mel_bands
    for model, path, tail, window in (
        (bundle.lips, folder / LIPS, (size, size), FRONT_END.lip_window_ticks),
        (bundle.audio, folder / AUDIO, (bands,), FRONT_END.audio_window_ticks),
    ):
        shape, out = model.input_shape, model.output_shapes[0]
        if shape[:1] != (1,) or shape[2:] != tail or len(out) != 3 or out[1] != shape[1] - window + 1 or out[1] < 1:
            raise ModelContractError(
                f"input {shape} and output {out} do not fit the contract", where=str(path), remedy=_REINSTALL
            )
    if bundle.lips.output_shapes[0][2] != bundle.audio.output_shapes[0][2]:
        raise ModelContractError("the towers' embeddings differ in size", where=str(folder), remedy=_REINSTALL)


def _check_golden(bundle: Bundle, content: bytes, where: str) -> None:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            lips_in, lips_out, audio_in, audio_out = (np.asarray(arrays[name], np.float32) for name in _GOLDEN_ARRAYS)
    except Exception as error:  # numpy, zipfile and zlib have more kinds for a damaged archive than they document
        raise ModelCorruptError(f"golden vectors cannot be read ({error})", where=where, remedy=_REINSTALL) from error
    for model, given, expected in ((bundle.lips, lips_in, lips_out), (bundle.audio, audio_in, audio_out)):
        if given.shape != model.input_shape or expected.shape != model.output_shapes[0]:
            raise ModelContractError("golden vectors do not fit the models", where=where, remedy=_REINSTALL)
        try:
            error_share = distance(model(given)[0], expected)
        except (ValueError, RuntimeError) as failure:
            what = f"the models cannot be run ({failure})"
            raise ModelCorruptError(what, where=where, remedy=_REINSTALL) from failure
        if not error_share < _GOLDEN_TOLERANCE:
            raise ModelCorruptError(
                f"golden vectors differ by {error_share:.3f}, allowed is {_GOLDEN_TOLERANCE}",
                where=where,
                remedy=_REINSTALL,
            )


def distance(answer: Floats, expected: Floats) -> float:
    """How far an answer is from the expected one, relative to the expected one's norm."""
    return float(np.linalg.norm(answer - expected) / max(float(np.linalg.norm(expected)), 1e-9))
