"""train/data/prepare_beam.py: on Apache Beam's direct runner the shards are those of one machine, byte for byte."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from device.errors import InputFormatError, InputMissingError, UsageError
from device.features.model_download import face_model_path
from tests import recordings
from tests.train.data.test_prepare import write_table
from train.cli import main
from train.data.prepare import prepare
from train.synth.render import render_clip

beam = pytest.importorskip("apache_beam", reason="pip install 'avdrift[beam]'")
from device.check.beam import beam_options  # noqa: E402
from train.data.prepare_beam import SKIPPED, prepare_with_beam, read_remote_rows  # noqa: E402


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two synthetic people, a file that is none, and a name without a file."""
    if not face_model_path().is_file():
        pytest.skip("the face detector's model is not here")
    folder = tmp_path_factory.mktemp("clips")
    for seed in (3, 4):
        render_clip(folder / f"face{seed}.mkv", seed=seed, duration_s=2.5, fps=25.0, size=(240, 240))
    (folder / "noise.mkv").write_bytes(bytes(range(256)) * 40)
    recordings.write(folder / "faceless.mkv", duration_s=1.0)
    write_table(folder, ["face3.mkv", "noise.mkv", "face4.mkv", "faceless.mkv", "missing.mkv"])
    return folder


@pytest.mark.slow
def test_the_shards_are_those_of_one_machine(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    local, spread = tmp_path / "local", tmp_path / "spread"
    assert prepare(clips, local, jobs=1) == 3
    assert main(["prepare", str(clips), str(spread), "--beam", "--runner", "DirectRunner"]) == 0
    names = sorted(path.name for path in local.iterdir())
    assert names == ["face3.mkv.npz", "face4.mkv.npz"]
    assert sorted(path.name for path in spread.iterdir()) == [*names, SKIPPED], "no partial files stay"
    for name in names:
        with np.load(local / name) as one, np.load(spread / name) as other:
            assert one.files == other.files
            for key in one.files:
                np.testing.assert_array_equal(one[key], other[key], err_msg=key)
    said = capsys.readouterr()
    assert "2 of 5 clips ready" in said.out
    for name in ("noise.mkv", "faceless.mkv", "missing.mkv"):
        assert sum(line.startswith("skipped: ") and name in line for line in said.err.splitlines()) >= 1
    why = [json.loads(line) for line in (spread / SKIPPED).read_text().splitlines()]
    assert {row["file"] for row in why} == {"noise.mkv", "faceless.mkv", "missing.mkv"}

    # Again: what is there stays as it is, and only what failed is tried again.
    before = {path: path.stat().st_mtime_ns for path in spread.glob("*.npz")}
    (spread / "face4.mkv.npz").unlink()
    assert prepare_with_beam(str(clips), str(spread), []) == 3
    assert (spread / "face4.mkv.npz").is_file()
    assert (spread / "face3.mkv.npz").stat().st_mtime_ns == before[spread / "face3.mkv.npz"]


def test_nothing_to_do_starts_no_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_table(tmp_path, ["a.mkv"])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.mkv.npz").write_bytes(b"as it was")

    def refuse(**_: object) -> None:
        raise AssertionError("a pipeline was made")

    monkeypatch.setattr(beam, "Pipeline", refuse)
    assert prepare_with_beam(str(tmp_path), str(tmp_path / "out"), []) == 0


@pytest.mark.slow
def test_a_worker_without_the_face_model_fails_instead_of_skipping_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_table(tmp_path, ["a.mkv"])
    monkeypatch.setenv("AVDRIFT_SHARE", str(tmp_path / "nothing"))
    with pytest.raises(Exception, match="face detector's model"):
        prepare_with_beam(str(tmp_path), str(tmp_path / "out"), ["--runner", "DirectRunner"])
    assert not list((tmp_path / "out").glob("*.npz"))


@pytest.mark.parametrize("arguments", [["--rnner", "DirectRunner"], ["--direct_num_workers", "many"]])
def test_options_that_beam_would_pass_over_are_refused(arguments: list[str]) -> None:
    with pytest.raises(UsageError, match=r"--rnner|option of Beam is wrong"):
        beam_options(arguments)


def test_options_of_beam_without_beam_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["prepare", str(tmp_path), str(tmp_path), "--runner", "DirectRunner"])
    assert "unrecognized arguments: --runner DirectRunner" in capsys.readouterr().err


def test_jobs_are_not_for_beam(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", str(tmp_path), str(tmp_path / "out"), "--beam", "--jobs", "2"]) == 2
    assert "--direct_num_workers" in capsys.readouterr().err


def test_a_folder_without_its_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match=r"clips\.csv"):
        read_remote_rows(str(tmp_path))


def test_a_wrong_table_is_named_by_its_own_place(tmp_path: Path) -> None:
    (tmp_path / "clips.csv").write_text("file,speaker\na.mkv,she\n")
    with pytest.raises(InputFormatError, match=str(tmp_path)):
        read_remote_rows(str(tmp_path))


def test_an_out_that_is_a_file_is_refused(tmp_path: Path) -> None:
    write_table(tmp_path, ["a.mkv"])
    shutil.copy(tmp_path / "clips.csv", tmp_path / "out")
    with pytest.raises(UsageError, match="cannot be used"):
        prepare_with_beam(str(tmp_path), str(tmp_path / "out"), [])
