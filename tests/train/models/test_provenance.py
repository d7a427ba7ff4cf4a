"""train/models/provenance.py: what a run's folder records of its sources, and what of it goes into a manifest."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from device import __version__
from device.errors import InputMissingError
from tests.train.made import make_clip, write_shard
from train.files import sha256
from train.fit.config import FitConfig
from train.models.provenance import data_hashes, git_state, recorded, summary, versions
from train.models.run_files import PROVENANCE


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    for name in ("b", "a", "Z"):
        write_shard(make_clip(name, seconds=0.4), tmp_path / "shards")
    return tmp_path / "shards"


def read(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / PROVENANCE).read_text(encoding="utf-8"))
    return found


def test_a_session_is_recorded_from_its_beginning_to_its_end(tmp_path: Path, shards: Path) -> None:
    pytest.importorskip("keras")
    (tmp_path / "clips.csv").write_text("file\n")
    (tmp_path / "offsets.json").write_text("{}")
    with recorded(tmp_path, FitConfig(seed=5), [shards], tmp_path / "offsets.json", [tmp_path / "clips.csv"]):
        assert read(tmp_path)["sessions"][0]["ended"] is None
    found = read(tmp_path)
    assert found["seed"] == found["config"]["seed"] == 5
    assert found["versions"].keys() >= {"avdrift", "git_commit", "git_dirty", "python", "keras", "tensorflow", "numpy"}
    assert found["versions"]["avdrift"] == __version__
    assert found["machine"]["arch"] == os.uname().machine
    assert found["data"]["offsets"] == hashlib.sha256(b"{}").hexdigest()
    assert found["data"]["sources"] == [{"file": "clips.csv", "sha256": hashlib.sha256(b"file\n").hexdigest()}]
    (session,) = found["sessions"]
    assert session["from_epoch"] == 0 and session["began"] <= session["ended"]


def test_teachers_are_recorded_by_their_weights_and_their_own_provenance(tmp_path: Path, shards: Path) -> None:
    pytest.importorskip("keras")
    first, student = tmp_path / "first", tmp_path / "student"
    for folder in (first, student):
        folder.mkdir()
    with recorded(first, FitConfig(seed=7), [shards], None, []):
        (first / "last.weights.h5").write_bytes(b"weights")
    with recorded(student, FitConfig(), [shards], None, [], [first]):
        pass
    (told,) = summary(read(student))["teachers"]
    assert (told["run"], told["sha256"]) == ("first", hashlib.sha256(b"weights").hexdigest())
    assert told["seed"] == told["config"]["seed"] == 7
    assert "data" not in told and "sessions" not in told, "times would make each bundle another one"
    assert read(student)["teachers"][0]["sessions"][0]["ended"]
    missing = pytest.raises(InputMissingError, match=r"nobody.last\.weights\.h5: cannot be read")
    with missing, recorded(student, FitConfig(), [shards], None, [], [tmp_path / "nobody"]):
        pass


def test_a_run_that_is_taken_up_again_says_so_and_what_changed(tmp_path: Path, shards: Path) -> None:
    pytest.importorskip("keras")
    with pytest.raises(KeyboardInterrupt), recorded(tmp_path, FitConfig(), [shards], None, []):
        raise KeyboardInterrupt
    (tmp_path / "state.json").write_text('{"epochs": 3}')
    with recorded(tmp_path, FitConfig(), [shards], None, []):
        pass
    (shards / "a.npz").unlink()
    with recorded(tmp_path, FitConfig(epochs=50), [shards], None, []):
        pass
    sessions = read(tmp_path)["sessions"]
    assert [session["from_epoch"] for session in sessions] == [0, 3, 3]
    assert sessions[0]["ended"] is None and sessions[1]["ended"] and sessions[2]["ended"]
    assert [session.get("changed") for session in sessions] == [None, [], ["config", "data"]]


def test_a_run_that_starts_again_forgets_the_former_one(tmp_path: Path, shards: Path) -> None:
    pytest.importorskip("keras")
    (tmp_path / PROVENANCE).write_text("damaged")
    for _ in range(2):
        with recorded(tmp_path, FitConfig(), [shards], None, []):
            pass
    assert len(read(tmp_path)["sessions"]) == 1


def test_the_hash_of_a_folder_is_what_sha256sum_says(shards: Path) -> None:
    (found,) = data_hashes([shards], None, [])["shards"]
    command = "LC_ALL=C sha256sum *.npz | sha256sum"
    said = subprocess.run(command, shell=True, cwd=shards, env=os.environ | {"LC_ALL": "C"}, capture_output=True,
                          text=True, timeout=20, check=True)  # fmt: skip
    assert found["sha256"] == said.stdout.split()[0]
    assert found["count"] == 3 and list(found["files"]) == ["Z.npz", "a.npz", "b.npz"]
    assert found["files"]["a.npz"] == hashlib.sha256((shards / "a.npz").read_bytes()).hexdigest()


def test_a_manifest_gets_all_but_the_names_of_clips(shards: Path) -> None:
    whole = {"seed": 1, "data": data_hashes([shards, shards], None, [])}
    told = summary(whole)
    assert [set(folder) for folder in told["data"]["shards"]] == [{"count", "sha256"}] * 2
    assert ".npz" not in json.dumps(told) and ".npz" in json.dumps(whole)
    assert summary({"note": "made before"}) == {"note": "made before"}


def test_the_same_clips_are_the_same_data(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write_shard(make_clip("a", seconds=1, seed=3), tmp_path / folder)
    one, two = data_hashes([tmp_path / "one", tmp_path / "two"], None, [])["shards"]
    assert one == two


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match=r"nothing\.csv"):
        sha256(tmp_path / "nothing.csv")


def test_the_commit_is_that_of_the_checkout(tmp_path: Path) -> None:
    if not shutil.which("git"):
        pytest.skip("no git here")

    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], capture_output=True, timeout=20, check=True)

    file = tmp_path / "module.py"
    file.write_text("1")
    assert git_state(file) == {"git_commit": None, "git_dirty": None}, "no checkout"
    git("init")
    assert git_state(file) == {"git_commit": None, "git_dirty": None}, "not tracked: a project around it"
    git("add", "module.py")
    git("commit", "-m", "first")
    clean = git_state(file)
    assert isinstance(clean["git_commit"], str) and len(clean["git_commit"]) == 40 and clean["git_dirty"] is False
    file.write_text("2")
    assert git_state(file) == clean | {"git_dirty": True}


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert git_state(Path(__file__)) == {"git_commit": None, "git_dirty": None}


def test_versions_are_those_that_run() -> None:
    keras = pytest.importorskip("keras")
    found = versions()
    assert found["keras"] == keras.__version__ and found["backend"] == keras.backend.backend()
