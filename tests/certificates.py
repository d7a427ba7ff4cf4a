"""A private certificate authority and its certificates, made with openssl's command line: for tests with TLS."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Signed:
    certificate: Path
    key: Path


def _openssl(*command: str) -> None:
    subprocess.run(["openssl", *command], check=True, capture_output=True, timeout=60)


class Authority:
    """Keeps its files in `folder`."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self.certificate, self._key = folder / f"{name}.pem", folder / f"{name}.key"
        _openssl(
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(self._key), "-out", str(self.certificate),
            "-days", "2", "-subj", f"/CN=avdrift tests {name}",
        )  # fmt: skip

    def sign(self, name: str, *, days: int = 1, names: str = "IP:127.0.0.1,DNS:localhost") -> Signed:
        """A certificate with its key; with `days` below zero it has expired."""
        signed = Signed(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        request, extensions = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={names}\n")
        _openssl(
            "req", "-newkey", "rsa:2048", "-nodes", "-keyout", str(signed.key), "-out", str(request),
            "-subj", f"/CN={name}",
        )  # fmt: skip
        _openssl(
            "x509", "-req", "-in", str(request), "-CA", str(self.certificate), "-CAkey", str(self._key),
            "-CAcreateserial", "-days", str(days), "-extfile", str(extensions), "-out", str(signed.certificate),
        )  # fmt: skip
        return signed
