"""Signatures of bundles: Ed25519, made and checked by OpenSSH's ssh-keygen, so that no other crypto library is needed.

The manifest is signed, which contains the hashes of all other files. The format is OpenSSH's PROTOCOL.sshsig. Permitted
signers are in an allowed-signers file, see ssh-keygen(1), whose lines begin with the name `avdrift`.
"""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from device.bundles.bundle import MANIFEST
from device.errors import ModelMissingError, ModelSignatureError
from device.state.disk import read_plain
from device.state.ownership import check_ours

NAMESPACE = "avdrift-bundle"
IDENTITY = "avdrift"
SIGNATURE = MANIFEST + ".sig"
SIGNERS = "allowed_signers"

_KEY_TYPE = "ssh-ed25519"
_BEGIN, _END = b"-----BEGIN SSH SIGNATURE-----", b"-----END SSH SIGNATURE-----"
_MAX_SIGNATURE_BYTES, _MAX_MANIFEST_BYTES = 1 << 14, 1 << 20
_SIGN_TIMEOUT_S = 300.0  # the user may have to look up the passphrase
_VERIFY_TIMEOUT_S = 30.0  # for a small device under load
_SIGN_AGAIN = "Sign it with: avdrift-convert sign BUNDLE --key KEY"


@dataclass(frozen=True, slots=True)
class _Header:
    """What a signature claims about itself; none of it is verified."""

    namespace: str
    key_type: str
    fingerprint: str


def is_signed(folder: Path) -> bool:
    """Whether there is a signature, valid or not."""
    return os.path.lexists(folder / SIGNATURE)


def sign(folder: Path, key: Path, *, program: str = "ssh-keygen") -> Path:
    """Sign a bundle's manifest with an Ed25519 private key; return the signature's path. Raises ModelSignatureError.

    For a key with a passphrase, ssh-keygen asks on the terminal, or uses the agent if `key` is the public half.
    """
    manifest, path = _manifest(folder), folder / SIGNATURE
    done = _run([program, "-Y", "sign", "-f", str(key), "-n", NAMESPACE], manifest, _SIGN_TIMEOUT_S, where=str(key))
    if done.returncode:
        raise ModelSignatureError(
            f"ssh-keygen cannot sign with this key ({_last_line(done.stderr)})", where=str(key),
            remedy="Give the private key that ssh-keygen -t ed25519 has made",
        )  # fmt: skip
    if (key_type := _header(done.stdout, str(path)).key_type) != _KEY_TYPE:
        raise ModelSignatureError(f"a key of type {key_type}", where=str(key), remedy="Make one of type ed25519")
    try:
        with tempfile.TemporaryDirectory(dir=folder.absolute().parent) as beside:
            made = Path(beside) / SIGNATURE
            made.write_bytes(done.stdout)
            made.replace(path)
    except OSError as error:
        raise ModelSignatureError(
            f"cannot be written ({error.strerror})", where=str(path), remedy="Make the bundle's folder writable"
        ) from error
    return path


def verify(folder: Path, signers: Path, *, program: str = "ssh-keygen") -> None:
    """Check that the manifest is signed for this purpose by a key that `signers` allows.

    Raises ModelSignatureError if the signature is missing, malformed, of another type, namespace or key, or of another
    manifest, and ModelStoreError if `signers` is not trustworthy.
    """
    path, manifest = folder / SIGNATURE, _manifest(folder)
    where = str(path)
    try:
        content = read_plain(path, _MAX_SIGNATURE_BYTES)
    except FileNotFoundError as error:
        what = "the bundle is not signed"
        raise ModelSignatureError(what, where=where, remedy=f"{_SIGN_AGAIN}, or give --allow-unsigned") from error
    except OSError as error:
        raise ModelSignatureError(f"cannot be read ({error.strerror})", where=where, remedy=_SIGN_AGAIN) from error
    header = _header(content, where)
    if header.namespace != NAMESPACE:
        what = f"signed for {header.namespace[:60]!r} instead of {NAMESPACE!r}"
        raise ModelSignatureError(what, where=where, remedy=_SIGN_AGAIN)
    if header.key_type != _KEY_TYPE:
        what = f"signed by a key of type {header.key_type[:60]!r} instead of {_KEY_TYPE!r}"
        raise ModelSignatureError(what, where=where, remedy=_SIGN_AGAIN)
    common = ["-n", NAMESPACE, "-s", str(path)]
    done = _run([program, "-Y", "check-novalidate", *common], manifest, _VERIFY_TIMEOUT_S, where=where)
    if done.returncode:
        what = "the signature is damaged, or made for another manifest"
        raise ModelSignatureError(what, where=where, remedy=_SIGN_AGAIN)
    check_ours(signers, folder=False)
    if not signers.is_file():
        remedy = f'Write "{IDENTITY} " and your public key into it, see docs/raspberry-pi.md on replacing the models'
        raise ModelSignatureError("no such file, so no key is trusted yet", where=str(signers), remedy=remedy)
    command = [program, "-Y", "verify", "-f", str(signers), "-I", IDENTITY, *common]
    if _run(command, manifest, _VERIFY_TIMEOUT_S, where=where).returncode:
        raise ModelSignatureError(
            f"signed by the key {header.fingerprint}, which {signers} does not allow", where=where,
            remedy=f'Sign it with another key, or add the line "{IDENTITY} PUBLIC-KEY" there',
        )  # fmt: skip


def _manifest(folder: Path) -> bytes:
    try:
        return read_plain(folder / MANIFEST, _MAX_MANIFEST_BYTES)
    except OSError as error:
        raise ModelMissingError(
            f"no bundle here ({error.strerror})", where=str(folder / MANIFEST),
            remedy="Give the folder that has the manifest.json",
        ) from error  # fmt: skip


def _header(content: bytes, where: str) -> _Header:
    """Parse the armoured signature: magic, version 1, public key, namespace; each string follows its length."""
    text = content.strip()
    try:
        if not (text.startswith(_BEGIN) and text.endswith(_END)):
            raise ValueError("no armour")
        blob = base64.b64decode(b"".join(text[len(_BEGIN) : -len(_END)].split()), validate=True)
        if blob[:10] != b"SSHSIG\x00\x00\x00\x01":
            raise ValueError("no signature of version 1")
        key, rest = _string(blob[10:])
        namespace, _ = _string(rest)
        fingerprint = base64.b64encode(hashlib.sha256(key).digest()).rstrip(b"=").decode()
        return _Header(namespace.decode(), _string(key)[0].decode(), f"SHA256:{fingerprint}")
    except ValueError as error:
        raise ModelSignatureError(f"malformed signature ({error})", where=where, remedy=_SIGN_AGAIN) from error


def _string(data: bytes) -> tuple[bytes, bytes]:
    end = 4 + int.from_bytes(data[:4], "big")
    if len(data) < end:
        raise ValueError("it ends too early")
    return data[4:end], data[end:]


def _run(command: list[str], given: bytes, timeout_s: float, *, where: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(command, input=given, capture_output=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        what = f"ssh-keygen did not answer within {timeout_s:g} s"
        raise ModelSignatureError(what, where=where, remedy="Try again when the computer is less busy") from error
    except OSError as error:
        raise ModelSignatureError(
            f"{command[0]} cannot be run ({error.strerror})", where=where,
            remedy="Install it (Debian's package openssh-client)",
        ) from error  # fmt: skip


def _last_line(output: bytes) -> str:
    return (output.decode(errors="replace").strip().splitlines() or ["it gives no reason"])[-1][:200]
