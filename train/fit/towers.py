"""`avdrift-train fit SHARDS… --out RUN`: train the two-tower model, with checkpoints that a later call resumes.

Steps: load clips, build the model, train on two kinds of stretches (short ones that word-long clips can fill, long ones
that hold more wrong answers), evaluate on the validation speakers after every other epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from device.bundles.calibration import Calibration
from train.data.augment import Augmentation
from train.data.batches import Batches
from train.data.shards import Clip
from train.evaluation.tracks import accuracy, own_offset, track, windows
from train.evaluation.worst import watched
from train.files import write_atomically
from train.fit.config import FitConfig
from train.fit.loop import SEEDS_APART, describe_run, optimizer_of, train, training_data
from train.fit.pretraining import pretrain_phonemes, pretrain_shapes
from train.fit.strategies import Workers
from train.models.bundle_weights import model_of_bundle
from train.models.encoders import Towers
from train.models.load import load_model
from train.models.run_files import WATCHED
from train.models.towers import LONG_TICKS, SHORT_TICKS, TwoTowerModel, build_model, keras_towers


def validate(
    towers: Towers, clips: list[Clip], *, search_ms: float = 600.0, seed: int = 0, out: Path | None = None
) -> dict[str, float]:
    """Accuracy by window length, each clip against its own offset over its whole length.

    out: a file with details for people who watch, see `evaluation.worst`.
    """
    calibration = Calibration(logit_scale=towers.logit_scale)
    tracks = [track(clip, towers) for clip in clips]
    truths = [own_offset(t, calibration)[0] for t in tracks]
    result = {}
    for window_s in (0.2, 0.6, 1.0, 2.0):
        random = np.random.default_rng(seed)
        measured = [
            window
            for t, truth in zip(tracks, truths, strict=True)
            for window in windows(t, truth, window_s=window_s, search_ms=search_ms, calibration=calibration,
                                  random=random, max_shift_ms=min(300.0, search_ms / 2))
        ]  # fmt: skip
        result[f"{window_s:g}s"] = accuracy(measured)
    if out is not None:
        write_atomically(out, watched(tracks, truths, calibration))
    return result


def fit(
    clips: list[Clip], validation: list[Clip], out: Path, config: FitConfig, workers: Workers | None = None,
    teachers: Sequence[Path] = (), start: Path | None = None, tensorboard: Path | None = None,
) -> TwoTowerModel:  # fmt: skip
    """Train, checkpointing after each epoch into `out`; resumes from the last checkpoint there.

    With `teachers`, finished runs, the model starts as the first of them and learns their mean output. With `start`, a
    bundle, it starts as that; the bundle is then its teacher, and only its last layers are trained. Not both.
    tensorboard: a folder for logs of Keras' TensorBoard callback. Raises ModelError for a teacher or a bundle.
    With several `workers`, each calls this with the same arguments, and the first one writes.
    """
    workers = workers or Workers()
    out.mkdir(parents=True, exist_ok=True)
    if workers.is_chief:
        names = {"teachers": [run.name for run in teachers]} if teachers else {}
        describe_run(out, training_data(clips), config, replicas=workers.replicas, **names)
    with workers.scope():
        return _fit(clips, validation, out, config, workers, teachers, start, tensorboard)


def _fit(
    clips: list[Clip], validation: list[Clip], out: Path, config: FitConfig, workers: Workers,
    teachers: Sequence[Path], start: Path | None, tensorboard: Path | None,
) -> TwoTowerModel:  # fmt: skip
    keras.utils.set_random_seed(config.seed)
    model = build_model(config.dropout, config.shape_weight)
    if teachers:
        model.learn_from([load_model(run) for run in teachers], config.teacher_share)
    if start:
        start_from(model, start, clips, config.teacher_share)
    model.compile(optimizer=optimizer_of(config))
    augmentation = Augmentation(
        speed_share=config.speed_share, log_tract=config.log_tract,
        mask_share=config.mask_share, erase_share=config.erase_share,
    )  # fmt: skip

    def mixed(epoch: int) -> Iterator[Any]:
        kinds = [
            iter(Batches(clips, lip_ticks=ticks, batch_size=config.frames_per_batch // ticks,
                         seed=config.seed + epoch * 2 + k + SEEDS_APART * workers.index, augmentation=augmentation))
            for k, ticks in enumerate((SHORT_TICKS, LONG_TICKS))
        ]  # fmt: skip
        choose = np.random.default_rng(config.seed + epoch)  # the same for all workers, which run in lockstep
        # Each epoch begins with one batch of each length: TensorFlow traces a graph for the first length that a process
        # meets, and one for any length after it, which may round differently. A resumed process must meet them in the
        # same order.
        drawn = (kinds[int(choose.random() >= config.short_share)] for _ in count())
        for kind in chain(kinds, drawn):
            for _ in range(workers.local_replicas):  # which run in lockstep as well
                yield next(kind)

    def pretraining(source: Iterator[Any]) -> None:
        if config.phone_steps:
            pretrain_phonemes(model, config, augmentation, workers)
        if config.shape_steps:
            pretrain_shapes(model, source, config, workers)

    def judge(epoch: int) -> dict[str, float]:
        wanted = validation and (epoch % 2 == 0 or epoch == config.epochs)
        return validate(keras_towers(model), validation, out=out / WATCHED) if wanted else {}

    train(
        model, mixed, out, epochs=config.epochs, steps_per_epoch=config.steps_per_epoch, judge=judge,
        pretraining=None if start else pretraining, workers=workers, callbacks=_callbacks(tensorboard),
    )  # fmt: skip
    return model


def start_from(model: TwoTowerModel, bundle: Path, clips: list[Clip], teacher_share: float) -> None:
    """Initialize a model from a bundle, with the bundle as its teacher and only its last layers trainable.

    The encoders of frames and of spectra stay unchanged, and so do all statistics: a few minutes of clips hold too few
    faces and voices to learn them again. Raises ModelError.
    """
    model.learn_from([model_of_bundle(bundle, clips)], teacher_share)
    model.shape_weight = 0.0  # their head is new, and what it would teach is frozen
    for frozen in (model.lips.frames, model.audio.spectrum, model.shape_head):
        frozen.trainable = False
    # Normalization keeps using its statistics.
    for network in (model.lips.windows, model.audio.windows):
        for layer in network.layers:
            layer.trainable = not isinstance(layer, layers.BatchNormalization)


def _callbacks(tensorboard: Path | None) -> list[keras.callbacks.Callback]:
    if tensorboard is None:
        return []
    return [keras.callbacks.TensorBoard(str(tensorboard), write_graph=False, profile_batch=0)]
