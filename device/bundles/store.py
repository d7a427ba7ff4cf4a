"""The model store on the device: `models/<digest>/` under a state folder, with atomic links `current` and `previous`.

A bundle is verified at its source, copied into a hidden folder, verified there, and only then renamed to its digest.
Links change atomically (`device.state.locked_folder`). So at any power cut `current` is the complete old bundle or the
complete new one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from device.bundles import signature
from device.bundles.bundle import DEFAULT_BUNDLE, MANIFEST, Bundle, load_bundle, manifest_version
from device.bundles.gate import require_gate
from device.bundles.version import version_key
from device.errors import ModelContractError, ModelCorruptError, ModelError, ModelMissingError, ModelStoreError
from device.state.disk import Disk, read_plain
from device.state.locked_folder import LockedFolder
from device.state.ownership import check_ours

CURRENT, PREVIOUS = "current", "previous"

_DIGEST = re.compile(r"[0-9a-f]{64}")
_PREFIX = re.compile(r"[0-9a-f]{6,64}")
MAX_FILE_BYTES = 1 << 28
_CHOOSE = "Choose one of `avdrift model list` with `avdrift model activate DIGEST`"


@dataclass(frozen=True, slots=True)
class Entry:
    """An installed bundle. If it cannot be verified, `name` and `version` are None and `problem` says why."""

    digest: str
    name: str | None
    version: str | None
    signed: bool
    current: bool
    previous: bool
    problem: str | None


@dataclass(frozen=True, slots=True)
class Activation:
    """A change of the link `current`: its target, and its time, which distinguishes two changes."""

    digest: str
    made_ns: int


def verify_bundle(
    folder: Path, signers: Path, *, allow_unsigned: bool = False, accept_worse: bool = False, trusted: bool = False
) -> Bundle:
    """Verify the signature, the bundle itself, its version and its gate, in this order. Raises ModelError.

    `allow_unsigned` accepts a missing signature, never a wrong one. `accept_worse` ignores the gate. `trusted` is as
    for load_bundle.
    """
    if signature.is_signed(folder) or not allow_unsigned:
        signature.verify(folder, signers)
    bundle = load_bundle(folder, trusted=trusted)
    version_key(bundle.version, str(folder / MANIFEST))
    if not accept_worse:
        require_gate(bundle.manifest, str(folder / MANIFEST))
    return bundle


class Store:
    """The store in a state folder. Changes take its lock; if one fails, `current` is still intact."""

    def __init__(self, folder: Path, disk: Disk | None = None, signers: Path | None = None) -> None:
        """signers: the allowed signers, by default a file in the state folder."""
        self.folder = folder
        self.signers = signers or folder / signature.SIGNERS
        self._models = folder / "models"
        self._disk = disk or Disk()
        self._locked = LockedFolder(self._models, self._disk)

    def path_of(self, digest: str) -> Path:
        return self._models / digest

    def linked(self, link: str) -> str | None:
        """The digest of CURRENT or PREVIOUS; None without such a link. Raises ModelCorruptError."""
        path = self._models / link
        try:
            digest = str(path.readlink())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ModelCorruptError(
                f"cannot be read as a link ({error.strerror})", where=str(path), remedy=_CHOOSE
            ) from error
        if not _DIGEST.fullmatch(digest):
            raise ModelCorruptError(f"points to {digest[:80]!r}, no bundle", where=str(path), remedy=_CHOOSE)
        return digest

    def activation(self) -> Activation | None:
        """The target of CURRENT and the time of its change; cheap. None without such a link.

        Raises ModelCorruptError.
        """
        while (digest := self.linked(CURRENT)) is not None:
            try:
                made_ns = (self._models / CURRENT).lstat().st_mtime_ns
            except OSError:  # it has just been removed
                return None
            if self.linked(CURRENT) == digest:
                return Activation(digest, made_ns)
        return None

    def load(self, digest: str) -> Bundle:
        """Load an installed bundle and verify all but its signature, which was checked on installation.

        Raises ModelError.
        """
        bundle = load_bundle(self.path_of(digest))
        if bundle.digest != digest:
            raise ModelCorruptError(
                f"its manifest has the digest {bundle.digest}", where=str(self.path_of(digest)),
                remedy="Install the bundle again",
            )  # fmt: skip
        return bundle

    def check(self) -> None:
        """Check that nobody else may change the store. Raises ModelStoreError."""
        # its location may be a link, because the user or systemd chooses it
        check_ours(self.folder.resolve(), folder=True)
        check_ours(self._models, folder=True)

    def load_current(self) -> Bundle | None:
        """The bundle in use; None if none was ever activated. Raises ModelError."""
        self.check()
        digest = self.linked(CURRENT)
        return None if digest is None else self.load(digest)

    def entries(self) -> list[Entry]:
        """All installed bundles, each verified, in the order of their digests. Raises ModelError."""
        current, previous = self.named(CURRENT), self.named(PREVIOUS)
        return [self._entry(digest, digest == current, digest == previous) for digest in self._digests()]

    def find(self, prefix: str) -> str:
        """The digest of the one installed bundle with this prefix. Raises ModelMissingError."""
        found = [digest for digest in self._digests() if _PREFIX.fullmatch(prefix) and digest.startswith(prefix)]
        if len(found) != 1:
            what = f"{len(found)} installed bundles have a digest that begins with {prefix[:64]!r}"
            remedy = "Give at least 6 digits of one of those that `avdrift model list` shows"
            raise ModelMissingError(what, where=str(self._models), remedy=remedy)
        return found[0]

    def install(
        self, source: Path, *, allow_unsigned: bool = False, allow_downgrade: bool = False, accept_worse: bool = False
    ) -> Bundle:
        """Verify a bundle and keep a copy of it. Changes neither link. Raises ModelError.

        Installing it again changes nothing; a damaged copy is replaced.
        """
        given = verify_bundle(source, self.signers, allow_unsigned=allow_unsigned, accept_worse=accept_worse)
        if not allow_downgrade:
            self._refuse_downgrade(given, source)
        target = self.path_of(given.digest)
        with self._changing():
            whole = self._problem(given.digest) is None
            if whole and signature.is_signed(target) >= signature.is_signed(source):
                return given
            copy = self._copy(source, given, allow_unsigned=allow_unsigned)
            if whole:  # it may be in use, and lacks only the signature
                self._disk.replace(copy / signature.SIGNATURE, target / signature.SIGNATURE)
                self._disk.sync_folder(target)
                self._disk.remove(copy)
                return given
            if os.path.lexists(target):
                self._disk.replace(target, self._models / f".broken-{given.digest}")
            self._disk.replace(copy, target)
            self._disk.sync_folder(self._models)
            self._locked.sweep()
        return given

    def activate(self, digest: str, *, allow_downgrade: bool = False) -> Bundle:
        """Make an installed bundle the current one, and the current one the previous. Raises ModelError.

        The old one is remembered first: a power cut in between leaves the old one current.
        """
        digest = self.find(digest)
        with self._changing():
            bundle, old = self.load(digest), self._loaded_link(CURRENT)
            if not allow_downgrade:
                self._refuse_downgrade(bundle, self.path_of(digest))
            if self.named(CURRENT) != digest:
                if old is not None:  # a broken one is not worth going back to
                    self._locked.point(PREVIOUS, old.digest)
                self._locked.point(CURRENT, digest)
        return bundle

    def rollback(self, *, allow_downgrade: bool = True) -> Bundle | None:
        """Swap current and previous. Returns None if there was no previous bundle, so that none is in use now.

        Without `allow_downgrade`, never goes below the highest version that is signed and installed here, or built in.
        A power cut in between leaves the previous one current. Raises ModelError.
        """
        with self._changing():
            target, old = self.linked(PREVIOUS), self._loaded_link(CURRENT)
            if target is None or (old is not None and target == old.digest):
                if old is None:
                    what = "there are no earlier models to go back to"
                    raise ModelMissingError(what, where=str(self._models / PREVIOUS), remedy=_CHOOSE)
                if not allow_downgrade:
                    self._refuse_below_signed(DEFAULT_BUNDLE)
                self._locked.point(PREVIOUS, old.digest)
                self._locked.unlink(CURRENT)
                return None
            bundle = self.load(target)
            if not allow_downgrade:
                self._refuse_below_signed(self.path_of(target))
            self._locked.point(CURRENT, target)
            if old is not None:
                self._locked.point(PREVIOUS, old.digest)
        return bundle

    def fall_back(self, failed: Activation, to: str | None) -> None:
        """Replace a failed activation by `to`, or by nothing if it is None or damaged. Raises ModelError.

        PREVIOUS stays as it is. If CURRENT has been changed meanwhile, somebody has decided otherwise: nothing is done.
        """
        with self._changing():
            if self.activation() == failed:
                bundle = self._loaded(to) if to is not None and to != failed.digest else None
                if bundle is not None:
                    self._locked.point(CURRENT, bundle.digest)
                else:
                    self._locked.unlink(CURRENT)

    def _digests(self) -> list[str]:
        try:
            return sorted(path.name for path in self._models.iterdir() if _DIGEST.fullmatch(path.name))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            what = f"cannot be listed ({error.strerror})"
            raise ModelStoreError(what, where=str(self._models), remedy="Run this as the store's owner") from error

    def _entry(self, digest: str, current: bool, previous: bool) -> Entry:
        signed = signature.is_signed(self.path_of(digest))
        try:
            bundle = self.load(digest)
        except ModelError as error:
            return Entry(digest, None, None, signed, current, previous, str(error))
        return Entry(digest, bundle.name, bundle.version, signed, current, previous, None)

    def _problem(self, digest: str) -> str | None:
        return self._entry(digest, False, False).problem

    def named(self, link: str) -> str | None:
        """The digest of a link; None if the link is missing or broken."""
        try:
            return self.linked(link)
        except ModelError:
            return None

    def _loaded_link(self, link: str) -> Bundle | None:
        """The bundle of a link; None if link or bundle is missing or broken."""
        digest = self.named(link)
        return None if digest is None else self._loaded(digest)

    def _loaded(self, digest: str) -> Bundle | None:
        """An installed bundle; None if it is missing or broken."""
        try:
            return self.load(digest)
        except ModelError:
            return None

    def _refuse_downgrade(self, bundle: Bundle, where: Path) -> None:
        """Check that the version is not lower than the one in use, whether installed or built in."""
        current = self._loaded_link(CURRENT)
        used = current.version if current is not None else manifest_version(DEFAULT_BUNDLE)
        if version_key(bundle.version, str(where)) < version_key(used, str(self._models)):
            what = f"version {bundle.version} is lower than {used}, which is in use"
            raise ModelContractError(what, where=str(where), remedy="Give --allow-downgrade if it is meant")

    def _refuse_below_signed(self, folder: Path) -> None:
        """Reads only manifests, because this may run in the measuring thread."""
        version = manifest_version(folder)
        signed = [path for path in map(self.path_of, self._digests()) if signature.is_signed(path)]
        versions = [manifest_version(DEFAULT_BUNDLE)]
        for path in signed:
            with contextlib.suppress(ModelError):  # a broken bundle sets no minimum
                versions.append(manifest_version(path))
        highest = max(versions, key=lambda each: version_key(each, str(self._models)))
        if version_key(version, str(folder)) < version_key(highest, str(self._models)):
            what = f"version {version} is lower than {highest}, the highest that is signed and installed, or built in"
            remedy = "Use `avdrift model rollback` on the device, or send it signed with allow_downgrade"
            raise ModelContractError(what, where=str(folder), remedy=remedy)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Hold the lock, and translate errors of the disk."""
        try:
            self._disk.make_folders(self._models)
            self.check()
            with self._locked.changing():
                yield
        except BlockingIOError as error:
            what = "another avdrift model command is running"
            raise ModelStoreError(what, where=str(self._models), remedy="Wait for it, and try again") from error
        except OSError as error:
            raise ModelStoreError(
                f"the disk refuses ({error.strerror}); the models in use have not changed",
                where=str(error.filename or self._models),
                remedy="Free some space, or run this as the store's owner, and try again",
            ) from error

    def _copy(self, source: Path, given: Bundle, *, allow_unsigned: bool) -> Path:
        """Copy the known files and nothing else, durably, and verify the copy."""
        copy = self._models / f".incoming-{given.digest}"
        self._disk.make_folder(copy)
        signed = (signature.SIGNATURE,) if signature.is_signed(source) else ()
        contents = {
            name: read_plain(source / name, MAX_FILE_BYTES) for name in (*given.manifest["files"], MANIFEST, *signed)
        }
        if hashlib.sha256(contents[MANIFEST]).hexdigest() != given.digest:
            raise ModelCorruptError("it changed while it was copied", where=str(source), remedy="Install it again")
        for name, content in contents.items():
            self._disk.write_file(copy / name, content)
        self._disk.sync_folder(copy)
        # The same digest means the given bundle, which has been tried and accepted.
        verify_bundle(copy, self.signers, allow_unsigned=allow_unsigned, accept_worse=True, trusted=True)
        return copy
