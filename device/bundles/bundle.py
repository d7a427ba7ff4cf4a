"""A bundle: the folder with models, manifest and golden vectors. Verified completely before use.

Checks, in this order, each with its own message: manifest readable and of this format; a kind that can be used here;
exact file set; size and SHA-256 of each file; software new enough; input contract equal to the kind's front end; LiteRT
accepts the models and their shapes; golden vectors agree.
"""

from __future__ import annotations

import hashlib
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device.bundles.calibration import Calibration
from device.bundles.gate import GATED_FORMAT
from device.bundles.golden import GOLDEN, check_golden, read_golden
from device.bundles.model_kinds import AUDIO, LIPS, TOWERS, Kind, kind_of
from device.bundles.rehearsal import rehearse
from device.bundles.version import brief, check_software, version_key
from device.config.constraints import Text
from device.errors import ModelContractError, ModelCorruptError, ModelMissingError
from device.litert import Model
from device.state.bounded_json import parse_json

FORMAT = GATED_FORMAT
MANIFEST = "manifest.json"
FILES = (LIPS, AUDIO, GOLDEN)  # of a two-tower model
DEFAULT_BUNDLE = Path(__file__).parents[1] / "models" / "default"
DIRECT_BUNDLE = DEFAULT_BUNDLE.with_name("direct")

_NAME = Text(100)
_MAX_MANIFEST_BYTES = 1 << 20
_MAX_FILE_BYTES = 1 << 28
_FORMATS = (1, FORMAT)  # the first format has no gate
_REINSTALL = "Install the bundle again"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle with its models loaded, by the stems of their files.

    `digest` is that of the manifest and so, through its hashes, of everything in the bundle.
    """

    kind: Kind
    name: str
    version: str
    digest: str
    models: dict[str, Model]
    calibration: Calibration
    manifest: dict[str, Any]

    @property
    def lips(self) -> Model:
        return self.models["lips"]

    @property
    def audio(self) -> Model:
        return self.models["audio"]

    @property
    def label(self) -> str:
        return f"{self.name} {self.version} {self.digest[:12]}"


def load_bundle(folder: Path, kinds: tuple[Kind, ...] = (TOWERS,), *, trusted: bool = True) -> Bundle:
    """Verify and load a bundle. Raises ModelMissingError, ModelCorruptError or ModelContractError, all naming the file.

    Models that are not `trusted` first run in a process of their own, because a crafted one can crash LiteRT or keep it
    busy for ever. That takes about as long as starting Python.
    """
    manifest, digest = _read_manifest(folder)
    where = str(folder / MANIFEST)
    kind = kind_of(manifest, kinds, where)
    contents = _read_files(folder, manifest, (*kind.files, GOLDEN))
    try:
        front_end, calibration = manifest["contract"]["front_end"], Calibration.from_dict(manifest["calibration"])
        name, version, min_software = manifest["name"], manifest["version"], manifest["min_software"]
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        what = f"no usable {str(error)[:200]} in the manifest"
        raise ModelCorruptError(what, where=where, remedy=_REINSTALL) from error
    if not all(_NAME.allows(text) and text for text in (name, version)):
        raise ModelCorruptError(f"name or version is not {_NAME}", where=where, remedy=_REINSTALL)
    check_software(min_software, where)
    if not calibration.temperature > 0:
        raise ModelCorruptError("the calibration's temperature is not positive", where=where, remedy=_REINSTALL)
    _check_contract(front_end, kind, where)
    golden = read_golden(contents[GOLDEN], kind, str(folder / GOLDEN))
    if not trusted:
        rehearse({str(folder / file): (contents[file], golden[Path(file).stem][0]) for file in kind.files})
    models = {Path(file).stem: Model(contents[file], name=str(folder / file)) for file in kind.files}
    kind.fits(models)
    for stem, (given, expected) in golden.items():
        check_golden(models[stem], given, expected, str(folder / GOLDEN))
    return Bundle(kind, name, version, digest, models, calibration, manifest)


def manifest_version(folder: Path) -> str:
    """Return the version in a bundle's manifest without checking anything else. Raises ModelError."""
    manifest, _ = _read_manifest(folder)
    version_key(version := manifest.get("version"), str(folder / MANIFEST))
    return str(version)


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
        manifest = parse_json(content)
    except ValueError as error:
        raise ModelCorruptError(f"not JSON ({str(error)[:200]})", where=str(path), remedy=_REINSTALL) from error
    if not isinstance(manifest, dict):
        raise ModelCorruptError("not a JSON object", where=str(path), remedy=_REINSTALL)
    if manifest.get("format") not in _FORMATS:
        raise ModelContractError(
            f"bundle format {brief(manifest.get('format'))}, this software reads 1 to {FORMAT}", where=str(path),
            remedy="Update avdrift, or build the bundle with this version",
        )  # fmt: skip
    return manifest, hashlib.sha256(content).hexdigest()


def _read_files(folder: Path, manifest: dict[str, Any], names: tuple[str, ...]) -> dict[str, bytes]:
    listed = manifest.get("files")
    if not isinstance(listed, dict) or set(listed) != set(names):
        raise ModelCorruptError(
            f"the manifest must list exactly {', '.join(names)}", where=str(folder / MANIFEST), remedy=_REINSTALL
        )
    try:
        extra = sorted({path.name for path in folder.iterdir()} - {*names, MANIFEST, MANIFEST + ".sig"})
    except OSError as error:
        what = f"the folder cannot be listed ({error.strerror})"
        raise ModelMissingError(what, where=str(folder), remedy="Give this user the right to read it") from error
    if extra:
        raise ModelCorruptError(
            f"files that the manifest does not list: {', '.join(extra)}", where=str(folder), remedy="Remove them"
        )
    contents = {}
    for name in names:
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


def _check_contract(front_end: Any, kind: Kind, where: str) -> None:
    own = kind.front_end
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
