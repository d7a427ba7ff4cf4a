"""A training loop with checkpoints that a later call resumes: what SyncNet and the direct network share."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
from tqdm import tqdm

from train.data import Clip
from train.fit import _prefetch, training_data

CHECKPOINT, STATE = "last.weights.h5", "state.json"


def describe_run(out: Path, clips: list[Clip], config: Any) -> None:
    """Write what was trained on, and how, into the folder of a run. `config` is a dataclass with a field `model`."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(asdict(config), indent=1), encoding="utf-8")
    (out / "data.json").write_text(json.dumps(training_data(clips), indent=1), encoding="utf-8")


def resumes(out: Path) -> bool:
    """Whether training into a folder goes on from a checkpoint there."""
    return (out / STATE).exists()


def train(
    model: keras.Model, batches: Callable[[int], Iterator[Any]], out: Path, *, epochs: int, steps_per_epoch: int,
    judge: Callable[[], Mapping[str, float]],
) -> None:  # fmt: skip
    """Train a compiled model, checkpointing after each epoch into `out`; goes on from the checkpoint found there.

    batches: endless batches for a run that starts at the given epoch. judge: figures for the log after each epoch.
    """
    checkpoint, state = out / CHECKPOINT, out / STATE
    model.optimizer.build(model.trainable_variables)  # or its moments would be left out when weights are loaded
    done = 0
    if resumes(out):
        model.load_weights(checkpoint)
        done = int(json.loads(state.read_text(encoding="utf-8"))["epochs"])
    source, stop = _prefetch(batches(done))
    try:
        for epoch in range(done, epochs):
            began, losses = time.monotonic(), []
            for _ in tqdm(range(steps_per_epoch), desc=f"epoch {epoch + 1}/{epochs}", disable=None):
                x, y = next(source)
                losses.append(float(model.train_on_batch(x, y)))
            figures = {
                "epoch": epoch + 1,
                "loss": round(float(np.mean(losses)), 4),
                "seconds": round(time.monotonic() - began),
                **{key: round(value, 4) for key, value in judge().items()},
            }
            print(json.dumps(figures), flush=True)
            with (out / "log.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps(figures) + "\n")
            partial = out / "next.weights.h5"
            model.save_weights(partial)
            partial.replace(checkpoint)
            state.write_text(json.dumps({"epochs": epoch + 1}), encoding="utf-8")
    finally:
        stop.set()
