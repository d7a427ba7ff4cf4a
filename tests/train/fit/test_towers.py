"""A run of two steps: it resumes exactly, with its optimizer, and never leaves an incomplete checkpoint."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device.bundles.bundle import DEFAULT_BUNDLE, load_bundle
from device.features.contract import FRONT_END
from tests.train.made import make_clip, perfect_towers, write_shard
from train.cli import main
from train.data.batches import Batches
from train.data.shards import Clip
from train.evaluation.tracks import track
from train.models.encoders import bundle_towers
from train.models.load import load_model

keras = pytest.importorskip("keras")
Workers = pytest.importorskip("train.fit.strategies").Workers
fit_module = pytest.importorskip("train.fit.towers")
loop = pytest.importorskip("train.fit.loop")
towers = pytest.importorskip("train.models.towers")

CONFIG: dict[str, Any] = {
    "epochs": 1, "steps_per_epoch": 2, "frames_per_batch": 60, "warmup_steps": 1, "shape_steps": 2,
}  # fmt: skip


def clips() -> list[Clip]:
    return [make_clip(f"{k}", seconds=3, seed=k, speaker=f"{k % 2}", split="train") for k in range(3)]


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any], Any]:
    """A run of one epoch, continued to two: its folder, its weights after the first epoch, the pair at the end."""
    run = tmp_path_factory.mktemp("run")
    first = fit_module.fit(clips(), [], run, fit_module.FitConfig(**CONFIG))
    weights = [np.array(w) for w in first.get_weights()]
    valid = [make_clip("valid", seconds=2)]
    again = fit_module.fit(clips(), valid, run, fit_module.FitConfig(**CONFIG | {"epochs": 2}))
    return run, weights, again


@pytest.mark.slow
def test_a_run_leaves_checkpoint_state_config_and_log(resumed: tuple[Path, list[Any], Any]) -> None:
    run, _, _ = resumed
    assert {path.name for path in run.iterdir()} == {
        "config.json",
        "data.json",
        "last.weights.h5",
        "log.jsonl",
        "watched.json",
        "state.json",
    }
    assert json.loads((run / "state.json").read_text())["epochs"] == 2
    assert json.loads((run / "config.json").read_text())["epochs"] == 2
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in log] == [1, 2]
    assert all(np.isfinite(line["loss"]) for line in log)
    assert {"0.2s", "2s"} <= set(log[1])


@pytest.mark.slow
def test_the_second_call_goes_on_with_the_optimizer_where_it_was(resumed: tuple[Path, list[Any], Any]) -> None:
    _, weights, again = resumed
    assert int(again.optimizer.iterations) == 4
    assert any(not np.array_equal(a, b) for a, b in zip(weights, again.get_weights(), strict=True))


@pytest.mark.slow
def test_a_finished_run_does_nothing_more(resumed: tuple[Path, list[Any], Any]) -> None:
    run, _, again = resumed
    before = (run / "last.weights.h5").read_bytes()
    same = fit_module.fit(clips(), [], run, fit_module.FitConfig(**CONFIG | {"epochs": 2}))
    assert (run / "last.weights.h5").read_bytes() == before
    for a, b in zip(same.get_weights(), again.get_weights(), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.slow
def test_the_checkpoint_is_what_evaluation_loads(resumed: tuple[Path, list[Any], Any]) -> None:
    run, _, again = resumed
    from train.models.load import towers_of_run

    towers, calibration, name = towers_of_run(run)
    crops = np.random.default_rng(0).standard_normal((7, 64, 64), np.float32)
    expected = np.asarray(keras.ops.convert_to_numpy(again.lips(crops[None])))[0]
    assert towers.lips(crops) == pytest.approx(expected, abs=1e-4)
    assert calibration.logit_scale == towers.logit_scale == pytest.approx(np.exp(2), rel=0.1)
    assert name == run.name


@pytest.mark.slow
def test_a_student_begins_as_its_first_teacher_and_comes_to_think_as_all_do(tmp_path: Path) -> None:
    runs = [tmp_path / "one", tmp_path / "two"]
    for seed, run in enumerate(runs, 1):
        fit_module.fit(clips(), [], run, fit_module.FitConfig(**CONFIG | {"seed": seed}))
    teachers = [load_model(run) for run in runs]
    before = [np.array(w) for teacher in teachers for w in teacher.get_weights()]
    student = fit_module.build_model()
    student.learn_from(teachers, share=1.0)
    for mine, first in zip(student.get_weights(), teachers[0].get_weights(), strict=True):
        np.testing.assert_array_equal(mine, first)
    batch = next(iter(Batches(clips(), lip_ticks=26, batch_size=3, seed=1, augmentation=None)))
    student.compile(optimizer=keras.optimizers.Adam(1e-3), jit_compile=loop.JIT_COMPILE)
    told = sum(teacher(batch[0], training=False)["logits"] for teacher in teachers) / 2
    least = float(towers.distillation_loss(told, told, batch[1]["lip_weight"], batch[1]["audio_valid"]))
    above = [float(student.train_on_batch(*batch)) - least for _ in range(40)]
    assert 0 < above[-1] < 0.5 * above[0]
    for was, teacher_weight in zip(before, (w for t in teachers for w in t.get_weights()), strict=True):
        np.testing.assert_array_equal(was, teacher_weight)
    student.save_weights(tmp_path / "student.weights.h5")
    fit_module.build_model().load_weights(tmp_path / "student.weights.h5")  # its own weights alone are in the file


@pytest.mark.slow
def test_a_students_run_names_its_teachers_and_has_no_pretraining(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = tmp_path / "shards"
    for clip in clips():
        write_shard(clip, shards)
    first, student = tmp_path / "first", tmp_path / "student"
    options = ["--epochs", "1", "--steps", "2", "--frames-per-batch", "60", "--warmup-steps", "1", "--shape-steps", "1"]
    assert main(["fit", str(shards), "--out", str(first), *options]) == 0
    assert "shape_error" in capsys.readouterr().out
    assert main(["fit", str(shards), "--out", str(student), "--teacher", str(first), *options]) == 0
    assert "shape_error" not in capsys.readouterr().out
    told = json.loads((student / "config.json").read_text())
    assert (told["teachers"], told["shape_steps"]) == (["first"], 0)
    assert main(["fit", str(shards), "--out", str(tmp_path / "x"), "--teacher", str(tmp_path / "no"), *options]) == 3


@pytest.mark.slow
def test_shapes_are_learnt_before_anything_else() -> None:
    model = fit_module.build_model()
    frames, audio = (np.array(tower.get_weights()[0]) for tower in (model.lips.frames, model.audio))
    x = {"crops": np.random.default_rng(0).standard_normal((2, 8, 64, 64), np.float32)}
    y = {"lip_points": np.full((2, 6, 160), 0.5, np.float32)}

    def error() -> float:
        read = keras.ops.convert_to_numpy(model.shape_head(model.lips.encode(x["crops"], training=True)))
        return float(np.abs(read - 0.5).mean())

    before = error()
    fit_module.pretrain_shapes(model, iter(lambda: [(x, y)], None), fit_module.FitConfig(shape_steps=30), Workers())
    assert error() < 0.5 * before
    assert not np.array_equal(frames, model.lips.frames.get_weights()[0])
    assert np.array_equal(audio, model.audio.get_weights()[0])


def test_encoding_in_pieces_is_encoding_as_a_whole() -> None:
    model = fit_module.build_model()
    towers = fit_module.keras_towers(model)
    random = np.random.default_rng(0)
    crops, rows = random.standard_normal((57, 64, 64), np.float32), random.standard_normal((230, 40), np.float32)
    for run, tower, values, window in ((towers.lips, model.lips, crops, 5), (towers.audio, model.audio, rows, 33)):
        whole = np.asarray(keras.ops.convert_to_numpy(tower(values[None])))[0]
        assert run(values) == pytest.approx(whole, abs=1e-4)
        assert len(run(values[: window - 1])) == 0
        assert len(run(values[:window])) == 1


def test_validation_of_perfect_towers() -> None:
    made = [make_clip(f"{k}", seconds=6, seed=k, offset_ticks=4) for k in range(2)]
    found = fit_module.validate(perfect_towers(), made)
    assert set(found) == {"0.2s", "0.6s", "1s", "2s"}
    assert found["2s"] == found["1s"] == 1.0
    assert found["0.2s"] < 1.0


def test_an_error_while_making_batches_ends_the_run() -> None:
    def broken() -> Any:
        yield "batch"
        raise ValueError("no more")

    source, stop = loop.prefetch(broken())
    assert next(source) == "batch"
    with pytest.raises((ValueError, RuntimeError, StopIteration)):
        next(source)
    stop.set()


# Trains and answers without TensorFlow, as a machine with a GPU may be set up.
ON_JAX = """
import sys
from pathlib import Path
sys.modules["tensorflow"] = None
import numpy as np
from train.cli import main
from train.models.load import load_model
shards, run, pictures, answers = sys.argv[1:]
if status := main(["fit", shards, "--out", run, "--epochs", "1", "--steps", "1", "--warmup-steps", "0",
                   "--frames-per-batch", "60", "--shape-steps", "1"]):
    sys.exit(status)
np.save(answers, np.asarray(load_model(Path(run)).lips(np.load(pictures), training=False)))
"""


@pytest.mark.slow
def test_jax_trains_the_same_pair_and_tensorflow_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("jax")
    shards, run, pictures, answers = (tmp_path / name for name in ("shards", "run", "in.npy", "out.npy"))
    shards.mkdir()
    for clip in clips():
        write_shard(clip, shards)
    size = FRONT_END.crop_px
    np.save(pictures, np.random.default_rng(1).standard_normal((1, 8, size, size), np.float32))
    command = [sys.executable, "-c", ON_JAX, *map(str, (shards, run, pictures, answers))]
    done = subprocess.run(
        command, env=os.environ | {"KERAS_BACKEND": "jax"}, cwd=Path(__file__).parents[3], text=True,
        capture_output=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    here = keras.ops.convert_to_numpy(load_model(run).lips(np.load(pictures), training=False))
    np.testing.assert_allclose(here, np.load(answers), atol=1e-3)
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    assert main(["fit", str(shards), "--out", str(run), "--strategy", "mirrored"]) == 2
    assert "needs TensorFlow, and Keras runs on jax" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_from_a_bundle_begins_as_it_and_trains_its_last_layers_alone(tmp_path: Path) -> None:
    pair = towers.build_model()
    fit_module.start_from(pair, DEFAULT_BUNDLE, clips(), 0.7)
    bundle = load_bundle(DEFAULT_BUNDLE)
    assert towers.keras_towers(pair).logit_scale == pytest.approx(bundle.calibration.logit_scale)
    clip = clips()[0]
    mine, theirs = track(clip, towers.keras_towers(pair)), track(clip, bundle_towers(bundle))
    for a, b in ((mine.lips, theirs.lips), (mine.audio, theirs.audio)):
        cosines = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
        assert np.median(cosines) > 0.99, "int8 and its weights in float32"
    before = {weight.path: np.array(weight) for weight in pair.weights}  # its shape head is another random one
    trained = fit_module.fit(clips(), [], tmp_path, fit_module.FitConfig(**CONFIG), start=DEFAULT_BUNDLE)
    changed = [path for (path, was), now in zip(before.items(), trained.get_weights(), strict=True)
               if not np.array_equal(was, now) and "shape_head" not in path]  # fmt: skip
    assert len(changed) > 5 and all("windows" in path or "log_scale" in path for path in changed)
    assert not [path for path in changed if "batch_norm" in path]
