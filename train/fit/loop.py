"""Shared by training runs: batches made ahead, a run's description in its folder, a loop that a later call resumes."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from queue import Full, Queue
from typing import Any

import keras
import numpy as np

from device.features.contract import FRONT_END
from train.data.shards import Clip
from train.files import write_atomically
from train.fit.strategies import Workers
from train.models.run_files import CHECKPOINT, STATE
from train.progress import with_progress

# XLA's convolutions are several times slower than TensorFlow's own on a CPU; JAX has nothing else.
JIT_COMPILE: Any = False if keras.backend.backend() == "tensorflow" else "auto"
SEEDS_APART = 1_000_003  # between workers, whose batches must differ


def describe_run(out: Path, data: Mapping[str, Any], config: Any, **more: Any) -> None:
    """Describe a run in its folder: its `training_data`, and its configuration, a dataclass, with `more`."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(asdict(config) | more, indent=1), encoding="utf-8")
    (out / "data.json").write_text(json.dumps(data, indent=1), encoding="utf-8")


def resumes(out: Path) -> bool:
    """Whether training into a folder resumes from a checkpoint there."""
    return (out / STATE).exists()


def training_data(clips: list[Clip]) -> dict[str, dict[str, float]]:
    """The training data per corpus: clips, speaker labels and minutes."""
    corpora = {}
    for corpus in sorted({clip.corpus for clip in clips}):
        own = [clip for clip in clips if clip.corpus == corpus]
        corpora[corpus] = {
            "clips": len(own),
            "speakers": len({clip.speaker for clip in own}),
            "minutes": round(sum(len(clip.valid) for clip in own) * FRONT_END.lip_tick_ms / 60_000, 1),
        }
    return corpora


def optimizer_of(config: Any) -> keras.optimizers.Optimizer:
    """AdamW with a configuration's learning rate: it rises for `warmup_steps` batches and then falls as a cosine."""
    schedule = keras.optimizers.schedules.CosineDecay(
        1e-5,
        config.epochs * config.steps_per_epoch - config.warmup_steps,
        alpha=0.01,
        warmup_target=config.learning_rate,
        warmup_steps=config.warmup_steps,
    )
    return keras.optimizers.AdamW(schedule, weight_decay=config.weight_decay, clipnorm=1.0)


def prefetch(batches: Iterator[Any], depth: int = 4) -> tuple[Iterator[Any], threading.Event]:
    """The same batches, made ahead in a thread; set the event to end it."""
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
        except Exception as error:  # raised again in the consumer, which would otherwise wait for ever
            failures.append(error)
        put(None)

    def checked() -> Iterator[Any]:
        yield from iter(queue.get, None)
        if failures:
            raise failures[0]

    threading.Thread(target=work, daemon=True).start()
    return checked(), stop


def train(
    model: keras.Model, batches: Callable[[int], Iterator[Any]], out: Path, *, epochs: int, steps_per_epoch: int,
    judge: Callable[[int], Mapping[str, float]], pretraining: Callable[[Iterator[Any]], None] | None = None,
    workers: Workers | None = None, callbacks: Sequence[keras.callbacks.Callback] = (),
    finish: Callable[[], None] | None = None,
) -> None:  # fmt: skip
    """Train a compiled model, checkpointing after each epoch into `out`; resumes from the checkpoint found there.

    batches: endless batches for the epoch of that number; 0 is for `pretraining`, which comes before the first epoch
    and gets them in groups of one per replica. judge: figures for the log after the epoch of that number. Each epoch
    has batches and random numbers of its own, so an interrupted run ends with the same result as an uninterrupted one.
    callbacks: Keras callbacks, called at the end of each epoch. finish: called after the last batch of all, before the
    last checkpoint.
    With several `workers`, each calls this with the same arguments, and the first one writes.
    """
    workers = workers or Workers()
    callback_list = (
        keras.callbacks.CallbackList(list(callbacks), model=model) if callbacks and workers.is_chief else None
    )
    checkpoint, state = out / CHECKPOINT, out / STATE
    model.optimizer.build(model.trainable_variables)  # otherwise its moments would be skipped when weights are loaded
    done = 0
    if resumed := resumes(out):
        model.load_weights(checkpoint)
        done = _epochs_done(int(model.optimizer.iterations), state, steps_per_epoch)
    if pretraining and not resumed:
        reseed(model, 0)
        with prefetched(workers.grouped(batches(0))) as source:
            pretraining(source)
    step = workers.step(model)
    if callback_list:
        callback_list.on_train_begin()
    for epoch in range(done + 1, epochs + 1):
        began = time.monotonic()
        reseed(model, epoch)
        with prefetched(workers.grouped(batches(epoch))) as source:
            steps = with_progress(
                range(steps_per_epoch), f"batches, epoch {epoch} of {epochs}", epochs * steps_per_epoch, "batch",
                before=(epoch - 1) * steps_per_epoch, quiet=not workers.is_chief,
            )  # fmt: skip
            losses = [step(next(source))["loss"] for _ in steps]
        if finish and epoch == epochs:
            finish()
        figures = {
            "epoch": epoch,
            "loss": round(float(np.mean(losses)), 4),
            "rate": float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)),
            "seconds": round(time.monotonic() - began),
            **{key: round(value, 4) for key, value in judge(epoch).items()},
        }
        print(json.dumps(figures), flush=True)
        partial = out / f"next{workers.index}.weights.h5"
        model.save_weights(partial)  # by all workers: replicated variables are read by all or by none
        if not workers.is_chief:
            partial.unlink()
            continue
        with (out / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(figures) + "\n")
        partial.replace(checkpoint)
        write_atomically(state, {"epochs": epoch})
        if callback_list:
            callback_list.on_epoch_end(epoch - 1, {key: value for key, value in figures.items() if key != "epoch"})
    if callback_list:
        callback_list.on_train_end()


def _epochs_done(steps: int, state: Path, steps_per_epoch: int) -> int:
    """The epochs of a checkpoint with so many steps; the state of a killed process may be one epoch behind."""
    finished_epochs = int(json.loads(state.read_text(encoding="utf-8"))["epochs"])
    return finished_epochs + (steps == (finished_epochs + 1) * steps_per_epoch)


def reseed(model: keras.Model, epoch: int) -> None:
    """Let dropout start each epoch at a place of its own, whatever came before."""
    weights = {id(weight) for weight in model.weights}
    states = [each for each in model.non_trainable_variables if id(each) not in weights and len(each.shape) == 1]
    for number, each in enumerate(states):
        each.assign(np.array([number, epoch], np.uint32))


@contextmanager
def prefetched(batches: Iterator[Any]) -> Iterator[Iterator[Any]]:
    """`prefetch` as a context manager."""
    source, stop = prefetch(batches)
    try:
        yield source
    finally:
        stop.set()
