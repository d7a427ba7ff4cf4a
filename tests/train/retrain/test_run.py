"""`avdrift-train retrain`: its commands exist, faults show before hours of work, and it completes."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from device.bundles.bundle import load_bundle
from device.cli import main as device_main
from device.features.model_download import require_face_model
from tests import recordings
from tests.scenes import ROOT
from train.cli import build_parser, main
from train.models.run_files import PROVENANCE
from train.retrain.plan import stages_of
from train.retrain.recipe import read_recipe
from train.retrain.stages import Stage

TINY = """
[recipe]
kind = "train"
ignore_minimum = true
[synth]
clips = 1
duration_s = 3.0
[clean]
use = false
[fit]
epochs = 2
steps_per_epoch = 40
frames_per_batch = 240
warmup_steps = 8
phone_steps = 0
shape_steps = 40
learning_rate = 0.003
dropout = 0.0
[student]
epochs = 1
steps_per_epoch = 4
frames_per_batch = 240
warmup_steps = 1
[rooms]
epochs = 1
steps_per_epoch = 2
stretches = 2
warmup_steps = 1
[bundle]
name = "tiny"
version = "7"
examples = 4
max_loss = 1.0
"""
ANY = "[recipe]\nignore_minimum = true\n"
STAGES = [
    "prepare", "synth", "prepare-synth", "clean", "zero-clips", "fit", "fit-2", "student", "rooms",
    "calibrate", "zero-towers", "evaluate", "gate", "bundle",
]  # fmt: skip


def table(folder: Path, *splits: str) -> Path:
    """A folder with clips.csv and files of its names, a speaker each."""
    folder.mkdir(exist_ok=True)
    with (folder / "clips.csv").open("w", newline="") as file:
        rows = [(f"{number}.mkv", f"s{number}", split, "made") for number, split in enumerate(splits)]
        csv.writer(file).writerows([("file", "speaker", "split", "corpus"), *rows])
    for name, *_ in rows:
        recordings.write(folder / name, duration_s=2.0)
    return folder


def config(folder: Path, text: str = "") -> Path:
    file = folder / "retrain.toml"
    file.write_text(f"config_version = 1\n{text}", encoding="utf-8")
    return file


def stages(folder: Path, text: str = "", kind: str = "train") -> dict[str, Stage]:
    recipe = read_recipe(config(folder, text))
    found = stages_of(recipe, kind, folder / "work", [folder / "clips" / "clips.csv", folder / "clips" / "a.mkv"])
    return {stage.name: stage for stage in found}


def words(stage: Stage, option: str) -> list[str]:
    return [stage.command[at + 1] for at, word in enumerate(stage.command) if word == option]


def test_every_command_is_one_that_exists(tmp_path: Path) -> None:
    pytest.importorskip("keras")
    from convert.cli import build_parser as convert_parser

    found = stages(tmp_path, '[bundle]\ncard = "my.toml"\n')
    assert list(found) == STAGES
    for stage in found.values():
        module, command, *rest = stage.command
        if command == "synth":
            assert set(rest[1::2]) == {"--clips", "--seed", "--duration-s", "--jobs"}
        elif module == "train.cli":
            build_parser(command).parse_args([command, *rest])
        else:
            assert convert_parser().parse_args([command, *rest]).card == tmp_path / "my.toml"


def test_stages_read_from_stages_before_them(tmp_path: Path) -> None:
    found = stages(tmp_path)
    for number, name in enumerate(found):
        command = " ".join(found[name].command[1:])
        assert set(found[name].after) <= set(list(found)[:number])
        for other in set(STAGES) - {name, *found[name].after}:
            read = [part for part in command.split() if part.startswith(str(tmp_path / "work" / other))]
            assert all(Path(part).parts[-1] != other and not part.endswith(".json") for part in read), (name, other)


@pytest.mark.parametrize(
    ("text", "left_out", "offsets", "calibration"),
    [
        ("", [], "zero-clips/offsets.json", "zero-towers"),
        ("[synth]\nclips = 0\n", ["synth", "prepare-synth"], "zero-clips/offsets.json", "zero-towers"),
        ("[clean]\nuse = false\n", ["clean", "zero-clips"], None, "zero-towers"),
        ("[zero]\nuse = false\n", ["zero-clips", "zero-towers"], "clean/offsets.json", "calibrate"),
        ("[student]\nteachers = 0\n", ["fit-2", "student"], "zero-clips/offsets.json", "zero-towers"),
        ("[rooms]\nuse = false\n", ["rooms"], "zero-clips/offsets.json", "zero-towers"),
    ],
)
def test_what_is_not_wanted_is_left_out(
    text: str, left_out: list[str], offsets: str | None, calibration: str, tmp_path: Path
) -> None:
    found, work = stages(tmp_path, text), tmp_path / "work"
    assert list(found) == [name for name in STAGES if name not in left_out]
    assert words(found["fit"], "--offsets") == ([str(work / offsets)] if offsets else [])
    for name in ("evaluate", "gate", "bundle"):
        assert words(found[name], "--calibration") == [str(work / calibration / "calibration.json")]
    assert len(words(found["fit"], "--source")) == (2 if "synth" in left_out else 3)


def test_training_is_asked_for_with_all_values_of_its_section(tmp_path: Path) -> None:
    fit = stages(tmp_path, "[fit]\nepochs = 3\ndropout = 0.25\n")["fit"]
    assert words(fit, "--epochs") == ["3"] and words(fit, "--dropout") == ["0.25"]
    assert words(fit, "--phone-voices") == ["400"]


def test_a_student_learns_from_trainings_that_differ_in_their_seed_alone(tmp_path: Path) -> None:
    text = "[fit]\nseed = 2147483646\n[student]\nteachers = 3\nteacher_share = 0.5\n"
    found, work = stages(tmp_path, text), tmp_path / "work"
    names = ["fit", "fit-2", "fit-3"]
    assert [words(found[name], "--seed") for name in names] == [["2147483646"], ["2147483647"], ["0"]]
    assert len({json.dumps({**found[name].settings, "seed": 0}) for name in names}) == 1
    student = found["student"]
    assert words(student, "--teacher") == [str(work / name) for name in names]
    assert words(student, "--teacher-share") == ["0.5"] and set(names) <= set(student.after)
    assert words(found["rooms"], "--start") == [str(work / "student")] and "student" in found["rooms"].after
    for name in ("calibrate", "zero-towers", "evaluate", "gate"):
        assert words(found[name], "--run") == [str(work / "rooms")] and "rooms" in found[name].after
    assert str(work / "rooms") in found["bundle"].command


@pytest.mark.parametrize(
    ("splits", "text", "code", "message"),
    [
        (None, "", 3, "clips: no such folder. Give the folder that holds clips.csv"),
        (("valid",), "", 3, "no usable clip of the split 'train'"),
        (("train",), "", 3, "no usable clip of the split 'valid'"),
        (("train", "valid", "valid"), "", 3, "fit: 0.0 training minutes, at least 2 are needed"),
        (("train", "valid"), '[recipe]\nkind = "train"\n', 3, "clean and fit: 0.0 training minutes, at least 30 are"),
        (("train", "valid"), f'{ANY}[folders]\nwork = "clips/0.mkv"\n', 2, "cannot be made"),
        (("train", "valid"), f'{ANY}[folders]\nwork = "/proc/nowhere"\n', 2, "/proc/nowhere: cannot be made"),
        (("train", "valid"), '[folders]\nclips = "elsewhere"\n', 3, "elsewhere: no such folder"),
        (("train", "valid"), '[bundle]\ncard = "no.toml"\n', 2, "no.toml"),
        (("train", "valid"), "[fit]\nepochs = 0\n", 2, "fit.epochs: found 0; allowed: a whole number from 1 to"),
    ],
)
def test_faults_show_before_anything_is_made(
    splits: tuple[str, ...] | None, text: str, code: int, message: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if splits:
        table(tmp_path / "clips", *splits)
    assert main(["retrain", str(config(tmp_path, text))]) == code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


CORPUS = '[recipe]\nkind = "corpus"\nignore_minimum = true\n[corpus]\n'


@pytest.mark.parametrize(
    ("settings", "message"),
    [('beam = "--no_such_option=1"', "unknown: --no_such_option"), ('strategy = "multiworker"', "TF_CONFIG names no"),
     ("beam = \"--runner 'Direct\"", "with closed quotation marks")],
)  # fmt: skip
def test_what_the_recipe_corpus_lacks_shows_before_anything_is_made(
    settings: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("apache_beam", "tensorflow"):
        pytest.importorskip(module)
    table(tmp_path / "clips", "train", "valid")
    for options in ([], ["--dry-run"]):
        assert main(["retrain", str(config(tmp_path, f"{CORPUS}{settings}\n")), *options]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


def test_the_recipe_corpus_without_beam_says_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    table(tmp_path / "clips", "train", "valid")
    assert main(["retrain", str(config(tmp_path, CORPUS)), "--dry-run"]) == 2
    assert "pip install 'avdrift[beam]'" in capsys.readouterr().err


def test_a_recording_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (table(tmp_path / "clips", "train", "valid") / "1.mkv").unlink()
    assert main(["retrain", str(config(tmp_path))]) == 3
    assert "row 3 (1.mkv): cannot be read (No such file or directory). Did you mean 0.mkv?" in capsys.readouterr().err


def test_without_a_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["retrain", str(tmp_path / "nothing.toml")]) == 2
    assert "nothing to read" in capsys.readouterr().err


def test_recordings_that_are_none_end_at_the_first_stage_that_needs_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    require_face_model()
    (tmp_path / "train.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path)
    table(tmp_path / "clips", "train", "valid")
    (tmp_path / "work").mkdir()  # or it would estimate how long all of it takes
    assert main(["retrain", str(config(tmp_path, f"{ANY}[synth]\nclips = 0\n[clean]\nuse = false\n"))]) == 3
    seen = capsys.readouterr()
    assert [line.split()[0] for line in seen.out.splitlines()][-2:] == ["prepare", "adapt"]
    assert "stage adapt failed" in seen.err and "prepare could use none of its clips" in seen.err
    assert str(tmp_path / "work" / "prepare") in seen.err and "log.txt" in seen.err


def speakers(folder: Path) -> Path:
    """Four rendered people, three of them again as validation, which a minute's training then knows by heart."""
    from train.synth.render import render_clips

    render_clips(folder, clips=4, seed=3, duration_s=8.0, jobs=os.cpu_count() or 1)
    rows = [("file", "speaker", "split", "corpus")]
    for number, clip in enumerate(sorted(folder.glob("*.mkv"))):
        rows.append((clip.name, f"s{number}", "train", "made"))
        if number < 3:
            shutil.copy(clip, folder / f"valid{number}.mkv")
            rows.append((f"valid{number}.mkv", f"v{number}", "valid", "made"))
    with (folder / "clips.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


@pytest.mark.slow
def test_from_a_folder_of_recordings_to_a_bundle_killed_in_between(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("keras")
    require_face_model()
    speakers(tmp_path / "clips")
    recipe, run = config(tmp_path, TINY), tmp_path / "work" / "fit"
    command = [sys.executable, "-m", "train.cli", "retrain", str(recipe)]
    first = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    while not (run / "state.json").exists():
        assert first.poll() is None
        time.sleep(0.1)
    first.send_signal(signal.SIGTERM)
    said = first.communicate(timeout=60)[0].decode()
    assert "stopped" in said and f"To go on: avdrift-train retrain {recipe}" in said and "estimate: " in said

    assert main(["retrain", str(recipe)]) == 0
    out = capsys.readouterr().out
    # A stage that takes minutes has a line for each of them, and the last one counts.
    last = {line.split()[0]: line for line in out.splitlines() if line.split()[:1] and line.split()[0] in STAGES}
    lines = list(last.values())
    assert list(last) == [name for name in STAGES if name not in ("clean", "zero-clips")]
    assert [("done before" in line) for line in lines[:4]] == [True, True, True, False]
    assert "resumed" in lines[3] and str(tmp_path / "work" / "bundle" / "int8") in out.splitlines()[-1]
    assert (tmp_path / "work" / "gate" / "gate.txt").read_text() in out
    assert [json.loads(line)["epoch"] for line in (run / "log.jsonl").read_text().splitlines()] == [1, 2]
    assert [session["from_epoch"] for session in json.loads((run / PROVENANCE).read_text())["sessions"]] == [0, 1]

    bundle = tmp_path / "work" / "bundle" / "int8"
    manifest = load_bundle(bundle).manifest
    training, card, gate = manifest["training"], manifest["card"], manifest["gate"]
    assert gate["rows"] and gate["speakers"] == 3 and gate["sentence"] in out
    assert training["recipe"]["config"]["synth"]["seed"] == 1
    assert training["provenance"]["data"]["shards"][0]["count"] == 7
    sources = [source["file"] for source in training["provenance"]["data"]["sources"]]
    assert sources == ["retrain.toml", "clips.csv", "clips.csv"]
    assert set(card["corpora"]) == {"made", "avdrift synthetic"} and set(card["measured"]["corpora"]) == {"made"}
    assert str(tmp_path) not in json.dumps(manifest) and "valid0" not in json.dumps(manifest)
    verify = ["model", "verify", str(bundle), "--allow-unsigned", "--store", str(tmp_path / "store")]
    assert device_main(verify) == 4, "so small a training is worse, and its gate says so"
    assert device_main([*verify, "--accept-worse"]) == 0
    capsys.readouterr()
    room = ["--max-memory", "20000"]  # with all that TensorFlow has in this process
    measure = ["measure", str(tmp_path / "clips" / "valid0.mkv"), "--bundle", str(bundle), "--json", *room]
    assert device_main(measure) == 0
    assert json.loads(capsys.readouterr().out)["speech_s"] > 4

    assert main(["retrain", str(recipe)]) == 0
    assert capsys.readouterr().out.count("done before") == len(last)
