"""`make release`: only a tagged commit becomes a release, and all that is published has a checksum."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from device import __version__
from tests.repository.test_house import repository_files

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(not shutil.which("git"), reason="no git here")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository of its own with these files in one commit, and a section of the changelog for this version."""
    folder = tmp_path / "clone"
    for file in repository_files():
        copy = folder / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    changelog = folder / "CHANGELOG.md"
    changelog.write_text(changelog.read_text().replace("## [Unreleased]", f"## [{__version__}] - 2026-01-01", 1))
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "all"]):
        git(folder, *command)
    return folder


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True)


def release(folder: Path) -> subprocess.CompletedProcess[str]:
    around = os.environ | {"PYTHON": sys.executable}
    return subprocess.run(["tools/release.sh"], cwd=folder, env=around, capture_output=True, text=True, check=False)


def test_only_a_tagged_clean_commit_is_released(clone: Path) -> None:
    done = release(clone)
    assert done.returncode == 1 and f"no tag v{__version__}" in done.stderr
    git(clone, "tag", f"v{__version__}")
    (clone / "README.md").write_text("changed")
    done = release(clone)
    assert done.returncode == 1 and "not committed" in done.stderr
    git(clone, "commit", "--quiet", "--all", "--message", "later")
    assert "no tag" in release(clone).stderr
    assert not (clone / "dist").exists()


def test_a_version_that_the_changelog_does_not_know_is_not_released(clone: Path) -> None:
    changelog = clone / "CHANGELOG.md"
    changelog.write_text(changelog.read_text().replace(f"## [{__version__}]", "## [Unreleased]", 1))
    git(clone, "commit", "--quiet", "--all", "--message", "without")
    git(clone, "tag", f"v{__version__}")
    assert "no section" in release(clone).stderr


@pytest.mark.slow
def test_a_release_is_whole(clone: Path) -> None:
    git(clone, "tag", f"v{__version__}")
    done = release(clone)
    assert done.returncode == 0, done.stderr
    made = clone / "dist" / __version__
    names = {file.name for file in made.iterdir()}
    lists = {name for name in names if name.endswith(".cdx.json")}
    assert len(lists) == 6
    source, wheel = f"avdrift-{__version__}.tar.gz", f"avdrift-{__version__}-py3-none-any.whl"
    assert names == lists | {source, wheel, "NOTES.md", "SHA256SUMS"}
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=made, check=True)
    assert len((made / "SHA256SUMS").read_text().splitlines()) == len(names) - 1
    for name in lists:
        content = json.loads((made / name).read_text(encoding="utf-8"))
        packages = {component["name"]: component for component in content["components"]}
        assert content["bomFormat"] == "CycloneDX" and content["metadata"]["component"]["version"] == __version__
        assert packages["av"]["components"][0]["name"] == "ffmpeg" and "numpy" in packages
