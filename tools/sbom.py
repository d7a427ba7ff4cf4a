"""Writes the list of packages (CycloneDX) that a lock file installs: python tools/sbom.py LOCK VERSION OUT.cdx.json

FFmpeg is listed below `av`, whose wheel contains it: scanners must find what the package manager of a system does not
update.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import av

ROOT = Path(__file__).resolve().parents[1]


def listed(lock: Path) -> dict[str, Any]:
    """The list that cyclonedx-py makes; the same of the same lock file."""
    command = [sys.executable, "-W", "ignore", "-m", "cyclonedx_py", "requirements", "--output-reproducible"]
    done = subprocess.run([*command, "--pyproject", ROOT / "pyproject.toml", lock], stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def bundled_ffmpeg(packages: dict[str, str]) -> dict[str, Any]:
    """FFmpeg as the wheel of av has it. Raises SystemExit where another av is locked than is installed here."""
    if packages["av"] != av.__version__:
        what = f"av {packages['av']} is locked and {av.__version__} is installed"
        raise SystemExit(f"sbom: {what}, so that FFmpeg's version is not known. Run: make setup-test")
    version = av.ffmpeg_version_info
    return {
        "type": "library", "name": "ffmpeg", "version": version, "bom-ref": f"av/ffmpeg@{version}",
        "purl": f"pkg:generic/ffmpeg@{version}", "cpe": f"cpe:2.3:a:ffmpeg:ffmpeg:{version}:*:*:*:*:*:*:*",
    }  # fmt: skip


def sbom(lock: Path, version: str) -> dict[str, Any]:
    found = listed(lock)
    found["metadata"]["component"]["version"] = version
    packages = {component["name"]: component["version"] for component in found["components"]}
    for component in found["components"]:
        component.pop("description", None)  # the line of the lock file, with all its hashes
        if component["name"] == "av":
            component["components"] = [bundled_ffmpeg(packages)]
    return found


if __name__ == "__main__":
    Path(sys.argv[3]).write_text(json.dumps(sbom(Path(sys.argv[1]), sys.argv[2]), indent=1) + "\n", encoding="utf-8")
