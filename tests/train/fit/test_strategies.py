"""train/fit/strategies.py: two workers on loopback, and two devices in one process, train one model together."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device.errors import UsageError
from tests.train.made import make_clip, write_shard
from train.cli import main
from train.models.load import load_model

pytest.importorskip("tensorflow")
from train.fit.strategies import Workers, workers

ROOT = Path(__file__).parents[3]

# Prints what all workers must have in common: the replicas, the steps, a digest of the weights, the losses.
TRAINER = """
import hashlib, json, sys
from pathlib import Path
import keras
import numpy as np
import tensorflow as tf
from train.fit.strategies import Workers, workers
kind, run = sys.argv[1], Path(sys.argv[2])
if kind == "two devices":
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    together = Workers(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
else:
    together = workers(kind)
keras.utils.set_random_seed(1)
losses = []
if run == Path("small"):
    with together.scope():
        model = keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization(), keras.layers.Dense(1)])
        model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
        random = np.random.default_rng(together.index)
        batches = iter(lambda: (random.standard_normal((8, 4), np.float32), np.ones((8, 1), np.float32)), None)
        step, source = together.step(model), together.grouped(batches)
        losses = [step(next(source))["loss"] for _ in range(3)]
else:
    from tests.train.made import make_clip
    from train.fit.towers import fit
    from train.fit.config import FitConfig
    clips = [make_clip(f"{k}", seconds=3, seed=k, speaker=f"{k % 2}", split="train") for k in range(3)]
    config = FitConfig(epochs=1, steps_per_epoch=1, frames_per_batch=60, warmup_steps=0, shape_steps=1)
    model = fit(clips, [], run, config, together)
weights = [np.asarray(weight.numpy()) for weight in model.trainable_weights]
digest = hashlib.sha256(b"".join(weight.tobytes() for weight in weights)).hexdigest()
steps = int(model.optimizer.iterations.numpy())
print(json.dumps({"replicas": together.replicas, "steps": steps, "weights": digest, "losses": losses}))
"""


def cluster(index: int, ports: list[int]) -> dict[str, str]:
    task = {"cluster": {"worker": [f"127.0.0.1:{port}" for port in ports]}, "task": {"type": "worker", "index": index}}
    return os.environ | {
        "TF_CONFIG": json.dumps(task), "PYTHONPATH": str(ROOT), "TF_NUM_INTRAOP_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1",
    }  # fmt: skip


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def together(command: list[str]) -> list[list[dict[str, Any]]]:
    """Runs a command as two workers; what each of them printed as JSON."""
    ports = free_ports(2)
    processes = [
        subprocess.Popen(command, env=cluster(index, ports), cwd=ROOT, text=True, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE)
        for index in range(2)
    ]  # fmt: skip
    try:
        said = [process.communicate(timeout=240) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], said
    return [[json.loads(line) for line in out.splitlines() if line.startswith("{")] for out, _ in said]


@pytest.mark.slow
def test_two_workers_with_batches_of_their_own_end_with_the_same_weights() -> None:
    one, other = together([sys.executable, "-c", TRAINER, "multiworker", "small"])
    assert one[-1] == other[-1]
    assert (one[-1]["replicas"], one[-1]["steps"]) == (2, 3)
    assert len(set(one[-1]["losses"])) == 3 and np.isfinite(one[-1]["losses"]).all()


@pytest.mark.slow
def test_two_devices_of_one_process_are_two_workers() -> None:
    done = subprocess.run([sys.executable, "-c", TRAINER, "two devices", "small"], env=cluster(0, free_ports(1)),
                          cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert (said["replicas"], said["steps"]) == (2, 3)
    assert np.isfinite(said["losses"]).all()


@pytest.mark.slow
def test_a_run_of_two_workers_is_kept_by_the_first_and_is_a_run_like_any_other(tmp_path: Path) -> None:
    run = tmp_path / "run"
    one, other = together([sys.executable, "-c", TRAINER, "multiworker", str(run)])
    assert one == other, "the same losses, the same weights"
    assert {path.name for path in run.iterdir()} == {
        "config.json", "data.json", "last.weights.h5", "log.jsonl", "state.json",
    }  # fmt: skip
    assert len((run / "log.jsonl").read_text().splitlines()) == 1, "one of them writes"
    assert json.loads((run / "config.json").read_text())["replicas"] == 2
    assert all(np.isfinite(weight).all() for weight in load_model(run).get_weights())


def test_alone_there_is_one_replica_and_it_writes() -> None:
    for found in (Workers(), workers("none")):
        assert (found.replicas, found.local_replicas, found.index, found.is_chief) == (1, 1, 0, True)


def test_a_group_has_a_batch_for_each_replica() -> None:
    assert next(Workers().grouped(iter(["a", "b"]))) == ["a"]


@pytest.mark.parametrize(
    "config",
    [
        None, "", "{", "[]", "null", '{"cluster": {}}', '{"cluster": {"worker": []}, "task": {"type": "worker"}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": -1}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "chief", "index": 0}}',
    ],
)  # fmt: skip
def test_an_invalid_cluster_is_exit_code_2(
    config: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_shard(make_clip("a", split="train"), tmp_path / "shards")
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config is not None:
        monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(UsageError, match="TF_CONFIG"):
        workers("multiworker")
    command = ["fit", str(tmp_path / "shards"), "--out", str(tmp_path / "run"), "--strategy", "multiworker"]
    assert main(command) == 2
    assert '"task"' in capsys.readouterr().err


@pytest.mark.parametrize(("task", "place"), [(("chief", 0), 0), (("worker", 0), 1), (("worker", 1), 2)])
def test_the_chief_comes_first(task: tuple[str, int], place: int) -> None:
    from train.fit.strategies import _worker_index

    given = {"cluster": {"chief": ["a:1"], "worker": ["b:1", "c:1"]}, "task": {"type": task[0], "index": task[1]}}
    assert _worker_index(json.dumps(given)) == place
