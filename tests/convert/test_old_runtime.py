"""float32, float16 and int8 files load in tflite-runtime 2.14 as well, and give the same answers there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from device.bundles.bundle import DEFAULT_BUNDLE, MANIFEST
from tests.convert.old_runtime import environment, verify

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def old_runtime() -> None:
    if sys.version_info[:2] != (3, 11):
        pytest.skip("tflite-runtime 2.14 ends at Python 3.11")
    try:
        environment()
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"tflite-runtime 2.14 cannot be installed: {error}")


@pytest.mark.parametrize("fmt", ["float32", "float16", "int8"])
def test_the_old_runtime_takes_what_build_makes(fmt: str, built: Path) -> None:
    done = verify(built / fmt)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "loads in tflite-runtime 2.14.0" in done.stdout


def test_it_takes_the_built_in_bundle() -> None:
    assert verify(DEFAULT_BUNDLE).returncode == 0


def test_a_refusal_is_seen(tmp_path: Path) -> None:
    shutil.copytree(DEFAULT_BUNDLE, tmp_path / "bundle")
    (tmp_path / "bundle" / MANIFEST).write_text("{}", encoding="utf-8")
    done = verify(tmp_path / "bundle")
    assert done.returncode == 1 and "bundle format None" in done.stdout
