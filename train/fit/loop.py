"""What training runs share: batches made ahead, what a run's folder says of it, a loop that a later call resumes."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from queue import Full, Queue
from typing import Any

import keras
import numpy as np
from tqdm import tqdm

from device.features.contract import FRONT_END
from train.data.shards import Clip
from train.fit.strategies import Workers
from train.models.run_files import CHECKPOINT, STATE

# XLA's convolutions are several times slower than TensorFlow's own on a CPU; JAX has nothing else.
JIT_COMPILE: Any = False if keras.backend.backend() == "tensorflow" else "auto"
SEEDS_APART = 1_000_003  # of workers, whose batches must not be the same


def describe_run(out: Path, clips: list[Clip], config: Any, **more: Any) -> None:
    """Write what is trained on, and how, into the folder of a run. `config` is a dataclass; `more` goes beside it."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(asdict(config) | more, indent=1), encoding="utf-8")
    (out / "data.json").write_text(json.dumps(training_data(clips), indent=1), encoding="utf-8")


def resumes(out: Path) -> bool:
    """Whether training into a folder goes on from a checkpoint there."""
    return (out / STATE).exists()


def training_data(clips: list[Clip]) -> dict[str, dict[str, float]]:
    """Per corpus, what is trained on: clips, speaker labels and minutes."""
    corpora = {}
    for corpus in sorted({clip.corpus for clip in clips}):
        own = [clip for clip in clips if clip.corpus == corpus]
        corpora[corpus] = {
            "clips": len(own),
            "speakers": len({clip.speaker for clip in own}),
            "minutes": round(sum(len(clip.valid) for clip in own) * FRONT_END.lip_tick_ms / 60_000, 1),
        }
    return corpora


def prefetch(batches: Iterator[Any], depth: int = 4) -> tuple[Iterator[Any], threading.Event]:
    """The same batches, made in a thread while the last one trains; set the event to end it."""
    queue: Queue[Any] = Queue(depth)
    stop = threading.Event()
    failures: list[Exception] = []

    def put(item: Any) -> None:
        while not stop.is_set():
            try:
                queue.put(item, timeout=0.5)
                return
            except Full:
                continue

    def work() -> None:
        try:
            for batch in batches:
                put(batch)
                if stop.is_set():
                    return
        except Exception as error:  # raised again where the batches are taken, or the taker would wait for ever
            failures.append(error)
        put(None)

    def taken() -> Iterator[Any]:
        yield from iter(queue.get, None)
        if failures:
            raise failures[0]

    threading.Thread(target=work, daemon=True).start()
    return taken(), stop


def train(
    model: keras.Model, batches: Callable[[int], Iterator[Any]], out: Path, *, epochs: int, steps_per_epoch: int,
    judge: Callable[[int], Mapping[str, float]], pretraining: Callable[[Iterator[Any]], None] | None = None,
    workers: Workers | None = None,
) -> None:  # fmt: skip
    """Train a compiled model, checkpointing after each epoch into `out`; goes on from the checkpoint found there.

    batches: endless batches for a run that starts at the given epoch. judge: figures for the log after the epoch of
    that number. lessons: what comes before, from the same batches, in groups of one for each replica.
    Of several `workers`, each calls this with the same arguments, and the first one writes.
    """
    workers = workers or Workers()
    checkpoint, state = out / CHECKPOINT, out / STATE
    model.optimizer.build(model.trainable_variables)  # or its moments would be left out when weights are loaded
    done = 0
    if resumed := resumes(out):
        model.load_weights(checkpoint)
        done = int(json.loads(state.read_text(encoding="utf-8"))["epochs"])
    source, stop = prefetch(workers.grouped(batches(done)))
    try:
        if pretraining and not resumed:
            pretraining(source)
        step = workers.step(model)
        for epoch in range(done + 1, epochs + 1):
            began = time.monotonic()
            bar = tqdm(range(steps_per_epoch), desc=f"epoch {epoch}/{epochs}", disable=workers.quiet)
            losses = [step(next(source))["loss"] for _ in bar]
            figures = {
                "epoch": epoch,
                "loss": round(float(np.mean(losses)), 4),
                "seconds": round(time.monotonic() - began),
                **{key: round(value, 4) for key, value in judge(epoch).items()},
            }
            print(json.dumps(figures), flush=True)
            partial = out / f"next{workers.index}.weights.h5"
            model.save_weights(partial)  # by all workers: what replicas share is read by all or by none
            if not workers.is_chief:
                partial.unlink()
                continue
            with (out / "log.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps(figures) + "\n")
            partial.replace(checkpoint)
            state.write_text(json.dumps({"epochs": epoch}), encoding="utf-8")
    finally:
        stop.set()
