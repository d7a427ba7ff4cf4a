"""The lock files: one for each Python and architecture, complete, in step with pyproject.toml, without an address."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "requirements"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MACHINES = ("x86_64", "aarch64")
PYTHONS = ("3.11", "3.12", "3.13")
EXTRAS = ("train", "test", "docs", "release")  # of the set `test`, as tools/lock.sh has them


def locked(file: Path) -> dict[str, str]:
    """Name to version. Every entry must have a hash, and nothing but entries may stand there."""
    text = file.read_text(encoding="utf-8")
    entry = re.compile(r"^([\w.-]+)==(\S+)(?: ; .*)? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE)
    assert entry.sub("", text) == "", file
    return {name: version for name, version, _ in entry.findall(text)}


def wanted(lines: list[str], python: str, machine: str) -> list[Requirement]:
    there = {"python_version": python, "python_full_version": f"{python}.0", "platform_machine": machine, "extra": ""}
    found = [Requirement(line) for line in lines]
    return [each for each in found if each.marker is None or each.marker.evaluate(there)]


def missing(lock: dict[str, str], requirements: list[Requirement]) -> list[str]:
    names = {re.sub(r"[-_.]+", "-", each.name).lower(): each for each in requirements}
    return [name for name, each in names.items() if name not in lock or lock[name] not in each.specifier]


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("python", PYTHONS)
def test_lock_files_have_all_that_pyproject_asks_for(python: str, machine: str) -> None:
    run, test = (locked(FOLDER / name / f"py{python}-{machine}.txt") for name in ("run", "test"))
    base, extras = PROJECT["project"]["dependencies"], PROJECT["project"]["optional-dependencies"]
    assert not missing(run, wanted(base, python, machine)), "make lock"
    everything = base + [line for name in EXTRAS for line in extras[name]]
    assert not missing(test, wanted(everything, python, machine)), "make lock"
    assert run.items() <= test.items(), "a device gets what was tested"
    assert not [name for name in run if name.startswith(("tensorflow", "keras", "jax"))]


def test_what_builds_avdrift_is_locked_too() -> None:
    build = locked(FOLDER / "build.txt")
    assert "pip" in build
    assert not missing(build, [Requirement(line) for line in PROJECT["build-system"]["requires"]])
    assert locked(FOLDER / "camera.txt").keys() == {"simplejpeg"}


def test_no_lock_file_names_a_registry() -> None:
    files = [file for file in FOLDER.rglob("*") if file.is_file()]
    assert len(files) > len(MACHINES) * len(PYTHONS)
    assert not [file for file in files if re.search(r"://|index", file.read_text(encoding="utf-8"))]


def test_make_and_the_installer_install_nothing_without_a_hash() -> None:
    for file in (ROOT / "Makefile", ROOT / "systemd" / "install.sh"):
        text = re.sub(r"\\\n\s*", "", file.read_text(encoding="utf-8"))  # lines that go on
        installing = [
            line for line in re.split(r"\n|&&", text) if re.search(r"^[^#]*(pip|PIP).* install|locked=", line)
        ]
        assert len(installing) > 3
        kept = ("--require-hashes", "${locked[@]}", "--no-deps --no-build-isolation")  # the last is avdrift itself
        assert not [line for line in installing if not any(word in line for word in kept)]
