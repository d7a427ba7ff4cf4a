"""train/cli.py: each command runs, and every error ends in one line and the documented exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from device.bundles.bundle import DEFAULT_BUNDLE
from device.bundles.calibration import Calibration
from device.features.model_download import SHARE_VARIABLE
from tests.train.made import make_clip, perfect_towers, write_shard
from train.cli import build_parser, main
from train.models.load import read_calibration

WITHOUT_TENSORFLOW = """
import sys
from dataclasses import asdict
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tensorflow", "keras"):
            raise ImportError(f"{name} is not installed")
sys.meta_path.insert(0, Refuse())
from train.cli import main
sys.exit(main(sys.argv[1:]))
"""


def without_tensorflow(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT_TENSORFLOW, *arguments]
    root = Path(__file__).parents[2]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=False)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("avdrift-train: ")]
    assert len(lines) == 1
    return lines[0]


def test_every_documented_command_is_there() -> None:
    text = build_parser().format_help()
    for command in ("prepare", "synth", "clean", "fit", "calibrate", "evaluate", "check"):
        assert f"\n    {command}" in text


@pytest.mark.parametrize(
    "arguments", [[], ["nothing"], ["prepare"], ["evaluate"], ["evaluate", "x", "--run", "a", "--bundle", "b"]]
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_prepare_without_a_table_is_exit_code_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("train.commands.make.require_face_model", lambda: None)
    assert main(["prepare", str(tmp_path), str(tmp_path / "out")]) == 3
    assert "clips.csv" in said(capsys)


def test_prepare_without_the_face_model_is_exit_code_4(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(SHARE_VARIABLE, str(tmp_path / "share"))
    assert main(["prepare", str(tmp_path), str(tmp_path / "out")]) == 4
    assert "device.features.model_download" in said(capsys)
    assert not (tmp_path / "out").exists()


def test_prepare_wants_a_possible_number_of_jobs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", str(tmp_path), str(tmp_path / "out"), "--jobs", "-1"]) == 2
    assert "--jobs" in said(capsys)


def test_synth_has_its_own_options(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("train.synth.render")
    with pytest.raises(SystemExit) as stopped:
        main(["synth", "--help"])
    assert stopped.value.code == 0
    assert "--sample" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--run", "{folder}/nothing"], 4, "no trained weights"),
        (["--bundle", "{folder}/nothing"], 4, "no bundle here"),
        (["--offsets", "{folder}/nothing.json"], 3, "nothing.json"),
        (["--out", "{folder}/file/below"], 2, "cannot be made"),
    ],
)
def test_evaluate_says_what_is_missing(
    arguments: list[str], code: int, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    filled = [argument.format(folder=tmp_path) for argument in arguments]
    assert main(["evaluate", str(tmp_path), *filled]) == code
    assert words in said(capsys)


def test_weights_that_are_none_are_exit_code_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("keras")
    (tmp_path / "last.weights.h5").write_bytes(b"no weights")
    assert main(["evaluate", str(tmp_path), "--run", str(tmp_path)]) == 4
    assert "last.weights.h5" in said(capsys)


def test_fit_and_clean_name_every_value_that_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("keras")
    options = ["--epochs", "0", "--learning-rate", "-1", "--dropout", "1.5"]
    folder = str(tmp_path)
    for command in (["fit", "x", "--out", folder], ["clean", "x", "--out", folder + "/o", "--work", folder]):
        assert main([*command, *options]) == 2
        line = said(capsys)
        assert all(word in line for word in ("--epochs", "--learning-rate", "--dropout"))
    assert main(["fit", "x", "--out", str(tmp_path), "--epochs", "1", "--steps", "5", "--warmup-steps", "5"]) == 2
    assert "--warmup-steps" in said(capsys)


def test_clean_measures_with_a_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("keras")
    shards, table = tmp_path / "shards", tmp_path / "offsets.json"
    shards.mkdir()
    write_shard(make_clip("noise", seconds=2, split="train"), shards)
    write_shard(make_clip("of others", seconds=2, split="valid"), shards)
    assert main(["clean", str(shards), "--out", str(table), "--bundle", str(tmp_path)]) == 4
    assert str(tmp_path) in said(capsys) and not table.exists()
    assert main(["clean", str(shards), "--out", str(table), "--bundle", str(DEFAULT_BUNDLE)]) == 3
    shown = capsys.readouterr()
    assert "0 clips measured and shifted, 1 dropped" in shown.out and "clean dropped 1 of 1 clips" in shown.err
    assert json.loads(table.read_text())["noise"]["dropped"], "nothing fits noise"


def test_fit_without_training_clips_is_exit_code_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("keras")
    assert main(["fit", str(tmp_path), "--out", str(tmp_path / "run")]) == 3
    assert "no shards" in said(capsys)
    write_shard(make_clip("v", seconds=1), tmp_path)
    assert main(["fit", str(tmp_path), "--out", str(tmp_path / "run")]) == 3
    assert "'train'" in said(capsys)
    (tmp_path / "broken.json").write_text("{")
    assert main(["fit", str(tmp_path), "--out", str(tmp_path / "run"), "--offsets", str(tmp_path / "broken.json")]) == 3
    assert "broken.json" in said(capsys)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--model", "direct", "--teacher", "first"],
            "--teacher: only towers, not direct, can be trained with teachers",
        ),
        (["--teacher", "{run}/../run"], "a run cannot be its own teacher"),
        (["--teacher-share", "2"], "--teacher-share is 2, allowed is 0 to 1"),
    ],
)
def test_teachers_that_cannot_be_are_refused(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("keras")
    run = tmp_path / "run"
    assert main(["fit", str(tmp_path), "--out", str(run), *(word.format(run=run) for word in options)]) == 2
    assert message in said(capsys)
    assert not run.exists()


def test_every_field_of_the_configuration_is_an_option() -> None:
    pytest.importorskip("keras")
    from dataclasses import fields

    from train.fit.config import FitConfig

    given = build_parser("fit").parse_args(["fit", "x", "--out", "y", "--steps", "7"])
    assert given.steps_per_epoch == 7
    assert all(getattr(given, f.name) == f.default for f in fields(FitConfig) if f.name != "steps_per_epoch")


def test_without_tensorflow_only_training_is_missing(tmp_path: Path) -> None:
    done = without_tensorflow("fit", "x", "--out", str(tmp_path))
    assert done.returncode == 2
    assert "pip install 'avdrift[train]'" in done.stderr and "Traceback" not in done.stderr
    done = without_tensorflow("evaluate", str(tmp_path), "--bundle", str(tmp_path))
    assert done.returncode == 4
    assert "no bundle here" in done.stderr
    assert without_tensorflow("--help").returncode == 0


def test_a_calibration_is_read_at_the_scale_of_the_towers(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text('{"logit_scale": 3, "temperature": 5, "null_log_odds": 1, "zero_offset_ms": 2}')
    assert read_calibration(path, 9.0) == Calibration(9.0, 5.0, 1.0, 2.0, negative_reach_ticks=0)
    path.write_text(json.dumps(Calibration(3.0, 5.0, 1.0, 2.0, 8.5).to_dict()))
    assert read_calibration(path, 9.0) == Calibration(9.0, 5.0, 1.0, 2.0, 8.5)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"logit_scale": 1, "temperature": 0, "null_log_odds": 1, "zero_offset_ms": 0}']
)
def test_an_invalid_calibration_is_exit_code_3(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.models.load.towers_of_bundle", lambda _: (perfect_towers(), Calibration(), "made"))
    (tmp_path / "c.json").write_text(content)
    assert main(["evaluate", str(tmp_path), "--calibration", str(tmp_path / "c.json")]) == 3
    assert "c.json" in said(capsys)


def test_evaluate_prints_tables_or_json_and_writes_all_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calibration = Calibration(logit_scale=8.0, temperature=2.0)
    monkeypatch.setattr("train.models.load.towers_of_bundle", lambda _: (perfect_towers(), calibration, "made 1.0"))
    for k in range(2):
        write_shard(make_clip(f"{k}", seconds=5, seed=k, speaker=f"{k}", offset_ticks=3), tmp_path / "shards")
    command = ["evaluate", str(tmp_path / "shards"), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    assert "made 1.0: 2 clips of 2 speakers" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "evaluation.json",
        "evaluation.md",
        "evaluation.txt",
        "accuracy.png",
        "errors.png",
        "reliability.png",
    }
    assert main([*command, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert next(r for r in printed["rows"] if r["window_s"] == 2)["speech"]["within_frame"] == 1.0


def test_trust_judges_joined_clips(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calibration = Calibration(logit_scale=8.0, temperature=2.0)
    monkeypatch.setattr("train.models.load.towers_of_bundle", lambda _: (perfect_towers(), calibration, "made 1.0"))
    for k in range(2):
        write_shard(make_clip(f"{k}", seconds=12, seed=k, speaker=f"{k}"), tmp_path / "shards")
    assert main(["trust", str(tmp_path / "shards"), "--rounds", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["speakers"]["measuring"] > 0


def test_clips_in_a_room_are_evaluated_against_their_offset_without_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calibration = Calibration(logit_scale=8.0, temperature=2.0)
    monkeypatch.setattr("train.models.load.towers_of_bundle", lambda _: (perfect_towers(), calibration, "made 1.0"))
    write_shard(make_clip(seconds=12, offset_ticks=12), tmp_path / "shards")
    shards = str(tmp_path / "shards")

    def right(*options: str) -> float:
        assert main(["evaluate", shards, "--json", *options]) == 0
        found = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert ("without the room" in found["truth"]) == bool(options)
        return float(found["rows"][0]["speech"]["within_frame"])

    assert right() > right("--room", "1", "20"), "letters of 10 ms run into each other"
    assert main(["evaluate", shards, "--room", "0", "6"]) == 2
    assert "--room: not a room" in capsys.readouterr().err


def test_fit_calibrate_and_evaluate_one_after_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("keras")
    for k in range(3):
        split = "valid" if k else "train"
        write_shard(make_clip(f"{k}", seconds=12, seed=k, speaker=f"{k}", split=split), tmp_path / "shards")
    shards, run = str(tmp_path / "shards"), str(tmp_path / "run")
    options = ["--epochs", "1", "--steps", "1", "--frames-per-batch", "60", "--warmup-steps", "0", "--shape-steps", "2"]
    assert main(["fit", shards, "--out", run, *options]) == 0
    assert main(["evaluate", shards, "--run", run, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert np.isfinite(figures["rows"][0]["speech"]["within_frame"])
    # An untrained pair is sure of no clip's truth, so there is nothing to calibrate it on.
    assert main(["calibrate", shards, "--run", run, "--out", str(tmp_path / "c.json")]) in (0, 3)
