"""The command line: output, exit codes, and that `verify` passes no damaged bundle."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from convert.cli import main
from device.bundles.bundle import FILES, MANIFEST

TOWERS = ("lips.tflite", "audio.tflite")


@pytest.fixture
def bundle(built: Path, tmp_path: Path) -> Path:
    """A copy of the int8 bundle, to be spoilt."""
    return Path(shutil.copytree(built / "int8", tmp_path / "bundle"))


def flip(path: Path, at: int, bit: int = 1) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= bit
    path.write_bytes(content)


def sign_off(bundle: Path) -> None:
    """Sizes and hashes as if the files were meant so."""
    manifest = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    for file in FILES:
        content = (bundle / file).read_bytes()
        manifest["files"][file] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (bundle / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def refused(bundle: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The message with which `verify` refuses a bundle."""
    assert main(["verify", str(bundle)]) == 4
    seen = capsys.readouterr()
    assert seen.out == ""
    assert seen.err.startswith("avdrift-convert: ") and seen.err.count("\n") == 1
    return seen.err


@pytest.mark.parametrize("fmt", ["float32", "int8"])
def test_verify_passes_what_build_made(fmt: str, built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(built / fmt)]) == 0
    assert "tiny 7 " in (said := capsys.readouterr().out) and said.endswith("all checks passed\n")


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_verify_refuses_one_flipped_bit(
    file: str, share: float, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(bundle / file, round(share * ((bundle / file).stat().st_size - 1)))
    assert f"{file}: size or SHA-256 differs" in refused(bundle, capsys)


@pytest.mark.parametrize("file", TOWERS)
def test_verify_refuses_other_weights_even_with_true_hashes(
    file: str, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = bytearray((bundle / file).read_bytes())
    model = schema.Model.GetRootAs(content, 0)
    buffers = [model.Buffers(k).DataAsNumpy() for k in range(model.BuffersLength())]
    weights = max(
        (buffer for buffer in buffers if isinstance(buffer, np.ndarray)), key=len
    )  # shares memory with content
    weights ^= 0x40
    (bundle / file).write_bytes(content)
    sign_off(bundle)
    assert "golden vectors differ" in refused(bundle, capsys)


def test_verify_refuses_towers_that_were_swapped(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lips, audio = (bundle / file for file in TOWERS)
    kept = lips.read_bytes()
    lips.write_bytes(audio.read_bytes())
    audio.write_bytes(kept)
    sign_off(bundle)
    assert "do not fit the contract" in refused(bundle, capsys)


def test_verify_refuses_a_flipped_manifest(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flip(bundle / MANIFEST, 0)
    assert "not JSON" in refused(bundle, capsys)


def test_verify_refuses_a_file_too_many(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (bundle / "more.txt").touch()
    assert "more.txt" in refused(bundle, capsys)


@pytest.mark.parametrize("file", FILES)
def test_verify_refuses_a_file_too_few(file: str, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (bundle / file).unlink()
    assert file in refused(bundle, capsys)


def test_verify_without_a_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no bundle here" in refused(tmp_path, capsys)


def test_build_without_weights(tmp_path: Path, shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", str(tmp_path), "--shards", str(shards), "--out", str(tmp_path / "out")]) == 4
    assert "no trained weights" in capsys.readouterr().err


def test_build_without_shards(tmp_path: Path, run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", str(run_folder), "--shards", str(tmp_path), "--out", str(tmp_path / "out")]) == 3
    assert "no shards" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [[], ["build"], ["build", "run", "--out", "x"], ["verify"], ["verify", "a", "b"], ["build", "r", "--shards", "s",
     "--out", "o", "--examples", "many"], ["build", "r", "--shards", "s", "--out", "o", "--examples", "0"],
     ["build", "r", "--shards", "s", "--out", "o", "--max-loss", "nan"]],
)  # fmt: skip
def test_wrong_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2


def test_verify_does_without_tensorflow(built: Path) -> None:
    program = "import sys; sys.modules['tensorflow'] = sys.modules['keras'] = None\nfrom convert.cli import main\n"
    command = [sys.executable, "-c", f"{program}sys.exit(main(['verify', {str(built / 'int8')!r}]))"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_build_without_tensorflow_says_what_to_install(tmp_path: Path) -> None:
    program = "import sys; sys.modules['tensorflow'] = sys.modules['keras'] = None\nfrom convert.cli import main\n"
    command = [sys.executable, "-c", f"{program}sys.exit(main(['build', 'r', '--shards', 's', '--out', 'o']))"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
                          env={"PYTHONPATH": str(Path(__file__).parents[2])})  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "pip install" in done.stderr and "Traceback" not in done.stderr
