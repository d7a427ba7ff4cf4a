"""A training that is killed anywhere and resumed ends with the same weights, to the last bit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from device.bundles.bundle import DEFAULT_BUNDLE
from tests.scenes import ROOT
from tests.train.made import make_clip, write_shard
from train.models.run_files import CHECKPOINT

pytest.importorskip("keras")

OPTIONS = ["--epochs", "3", "--steps-per-epoch", "2", "--frames-per-batch", "120", "--warmup-steps", "1",
           "--shape-steps", "2"]  # fmt: skip
# Kills the training the n-th time that it writes its checkpoint, its state, or a line of its log.
KILLER = """
import os, signal, sys
from pathlib import Path
from train.cli import main
left, replace = int(sys.argv[1]), Path.replace
def killing(self, target):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, target)
Path.replace = killing
sys.exit(main(sys.argv[2:]))
"""


COMMANDS = {
    "fit": OPTIONS,
    "rooms": ["--start", str(DEFAULT_BUNDLE), "--epochs", "3", "--steps-per-epoch", "2", "--stretches", "2",
              "--warmup-steps", "1"],
}  # fmt: skip


def train(command: str, shards: Path, run: Path, kill_after: int = 1000) -> int:
    arguments = [command, str(shards), "--out", str(run), *COMMANDS[command]]
    killed = [sys.executable, "-c", KILLER, str(kill_after), *arguments]
    return subprocess.run(killed, cwd=ROOT, capture_output=True, timeout=600).returncode


def losses_of(run: Path) -> dict[int, float]:
    """Each epoch's mean loss to four digits: other batches, or another dropout, would change it."""
    epochs = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return {epoch["epoch"]: epoch["loss"] for epoch in epochs}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "kill_after"),
    [("fit", 2), ("fit", 4), ("rooms", 4), ("rooms", 6)],  # between the checkpoint of an epoch and its state
)
def test_a_killed_training_ends_as_one_that_was_not(command: str, kill_after: int, tmp_path: Path) -> None:
    for k in range(3):
        write_shard(make_clip(f"{k}", seconds=3, seed=k, speaker=f"{k}", split="train"), tmp_path / "shards")
    assert train(command, tmp_path / "shards", tmp_path / "whole") == 0
    assert train(command, tmp_path / "shards", tmp_path / "killed", kill_after) == -9
    assert train(command, tmp_path / "shards", tmp_path / "killed") == 0
    assert losses_of(tmp_path / "whole") == losses_of(tmp_path / "killed")
    whole, killed = ((tmp_path / run / CHECKPOINT).read_bytes() for run in ("whole", "killed"))
    assert whole == killed
