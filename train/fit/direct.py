"""`avdrift-train fit --model direct`: the concatenation baseline with its improvements, and the correlation network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras

from train.data.augment import Augmentation
from train.data.shards import Clip
from train.fit.config import FitConfig
from train.fit.direct_batches import concat_batches, correlation_batches, judge_concat, judge_correlation, longest
from train.fit.direct_init import initialize
from train.fit.loop import JIT_COMPILE, describe_run, resumes, train, training_data
from train.models.direct import ConcatNet, CorrelationNet, DirectConfig, build_direct


def fit_direct(
    clips: list[Clip], validation: list[Clip], out: Path, config: DirectConfig
) -> ConcatNet | CorrelationNet:
    """Train, checkpointing after each epoch into `out`; resumes from the last checkpoint there."""
    clips = longest(clips, config.clips)
    describe_run(out, training_data(clips), config)
    keras.utils.set_random_seed(config.seed)
    model = build_direct(config)
    steps = config.epochs * config.steps_per_epoch
    warmup = steps // 10
    schedule = keras.optimizers.schedules.CosineDecay(
        1e-5, steps - warmup, alpha=0.01, warmup_target=config.learning_rate, warmup_steps=warmup
    )
    # XLA would compile each length of windows again.
    model.compile(optimizer=keras.optimizers.AdamW(schedule, weight_decay=0.01, clipnorm=1.0), jit_compile=JIT_COMPILE)
    correlates = isinstance(model, CorrelationNet)
    make: Any = correlation_batches if correlates else concat_batches
    judge: Any = judge_correlation if correlates else judge_concat
    # The concatenation baseline gets unaugmented recordings: it cannot even memorize these.
    augmentation = Augmentation() if correlates else None
    if correlates and not resumes(out):
        pretraining = FitConfig(
            learning_rate=config.learning_rate, shape_steps=config.shape_steps, phone_steps=config.phone_steps,
            phone_voices=config.phone_voices, seed=config.seed,
        )  # fmt: skip
        initialize(
            model.model, config.start, make(clips, config, config.seed, augmentation), pretraining, Augmentation()
        )

    def figures(_: int) -> dict[str, float]:
        found = {f"train_{k}": v for k, v in judge(model, make(clips, config, 7, None)).items()}
        if validation:
            found |= {f"valid_{k}": v for k, v in judge(model, make(validation, config, 7, None)).items()}
        return found

    train(
        model, lambda epoch: make(clips, config, config.seed + 10 * epoch, augmentation), out,
        epochs=config.epochs, steps_per_epoch=config.steps_per_epoch, judge=figures,
    )  # fmt: skip
    return model
