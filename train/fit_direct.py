"""`avdrift-train fit --model direct`: the origin's direct network with its remedies, and the form that fits."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from device.errors import InputFormatError
from device.features.contract import AUDIO_TICKS_PER_LIP_TICK, FRONT_END
from train.augment import MARGIN_PX, Augmentation
from train.data import AUDIO_REACH, LIP_REACH, Batches, Clip
from train.direct import CorrelationNet, LinearNet
from train.loop import describe_run, train

_SHORT_TICKS, _LONG_TICKS = 24, 74  # word-long clips and sentences
_SHORT_WINDOWS, _LONG_WINDOWS = 10, 42
_JUDGED = 192


@dataclass(frozen=True, slots=True)
class DirectConfig:
    """Everything that decides a training run; written beside its checkpoints.

    The form `linear` is the origin's, with its remedies: `picture` (mouth in place of the whole face), `differences`,
    `window_ticks`, `conv_layers`, `dense_layers`, `clips` (1: a single training video), `max_offset` (frames).
    """

    model: str = field(default="direct", init=False)
    form: str = field(default="correlation", metadata={"choices": ("correlation", "linear")})
    picture: str = field(default="mouth", metadata={"choices": ("mouth", "face")})
    differences: bool = False
    window_ticks: int = 25
    conv_layers: int = 3
    dense_layers: int = 2
    clips: int = 0  # 0: all; otherwise the longest ones
    max_offset: int = 12
    epochs: int = 10
    steps_per_epoch: int = 100
    stretches: int = 16
    learning_rate: float = 2e-3
    none_share: float = 0.1
    seed: int = 1


def build_direct(config: DirectConfig) -> LinearNet | CorrelationNet:
    """A direct network with its weights made."""
    size, bands = FRONT_END.crop_px, FRONT_END.mel_bands
    ticks = config.window_ticks if config.form == "linear" else 2 * LIP_REACH + 1
    rows = AUDIO_TICKS_PER_LIP_TICK * ticks if config.form == "linear" else 2 * AUDIO_REACH + 9
    x = {"crops": np.zeros((1, ticks, size, size), np.float32), "rows": np.zeros((1, rows, bands), np.float32)}
    if config.form == "linear":
        linear = LinearNet(
            differences=config.differences, conv_layers=config.conv_layers, dense_layers=config.dense_layers
        )
        linear(x)
        return linear
    correlation = CorrelationNet()
    correlation(x | {"foreign": np.zeros(1, np.float32)})
    return correlation


def with_faces(clips: Sequence[Clip], shards: Sequence[Path]) -> list[Clip]:
    """The same clips with whole faces in place of mouth crops. Raises InputFormatError where a shard has none."""
    files = {path.stem: path for folder in shards for path in folder.glob("*.npz")}
    found = []
    for clip in clips:
        with np.load(files[clip.name]) as arrays:
            if "faces" not in arrays:
                remedy = "Prepare the clips again with this version"
                raise InputFormatError("no whole faces", where=str(files[clip.name]), remedy=remedy)
            margin = (MARGIN_PX, MARGIN_PX)
            found.append(replace(clip, crops=np.pad(arrays["faces"], ((0, 0), margin, margin), mode="edge")))
    return found


def longest(clips: list[Clip], count: int) -> list[Clip]:
    """The longest clips; all of them for 0."""
    return sorted(clips, key=lambda clip: -len(clip.valid))[:count] if count else clips


def linear_batches(
    clips: list[Clip], config: DirectConfig, seed: int, augmentation: Augmentation | None
) -> Iterator[Any]:
    """Windows of pictures and of sound, cut out of a stretch at places that are a random number of frames apart."""
    n, far = config.window_ticks, config.max_offset
    random = np.random.default_rng(seed)
    ticks = n + 2 * far + 2 * LIP_REACH
    for x, _ in Batches(clips, lip_ticks=ticks, batch_size=config.stretches, seed=seed, augmentation=augmentation):
        offset = random.integers(-far, far + 1, config.stretches)
        start = LIP_REACH + far - offset  # pictures from earlier on: sound that is early
        crops = np.stack([stretch[a : a + n] for stretch, a in zip(x["crops"], start, strict=True)])
        first = AUDIO_REACH + AUDIO_TICKS_PER_LIP_TICK * far  # row AUDIO_REACH belongs to lip tick LIP_REACH
        rows = x["rows"][:, first : first + AUDIO_TICKS_PER_LIP_TICK * n]
        yield {"crops": crops, "rows": rows}, {"offset_frames": offset.astype(np.float32)}


def correlation_batches(
    clips: list[Clip], config: DirectConfig, seed: int, augmentation: Augmentation | None
) -> Iterator[Any]:
    """Batches of short and of long windows, each at a random place of its stretch; all of the stretch is heard."""
    random = np.random.default_rng(seed)
    sizes = [(_SHORT_TICKS, _SHORT_WINDOWS), (_LONG_TICKS, _LONG_WINDOWS)]
    frames = config.stretches * _LONG_TICKS
    kinds = []
    for k, (ticks, n) in enumerate(sizes):
        batches = Batches(
            clips, lip_ticks=ticks, batch_size=frames // ticks, seed=seed + k, augmentation=augmentation
        )
        kinds.append((iter(batches), n))
    while True:
        source, n = kinds[int(random.random() < 0.65)]
        yield cut_window(*next(source), n=n, none_share=config.none_share, random=random)


def cut_window(
    x: dict[str, Any], y: dict[str, Any], *, n: int, none_share: float, random: np.random.Generator
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of a batch of stretches, `n` lip windows each at a random place, and the offset bin that it makes true."""
    windows = y["lip_weight"].shape[1]
    start = random.integers(0, windows - n + 1, len(x["crops"]))

    def cut(values: npt.NDArray[Any], more: int) -> npt.NDArray[Any]:
        return np.stack([row[a : a + n + more] for row, a in zip(values, start, strict=True)])

    first_match = (AUDIO_TICKS_PER_LIP_TICK * start + y["first_match"]).astype(np.float32)
    lags = AUDIO_TICKS_PER_LIP_TICK * (windows - n) + 1
    foreign = (random.random(len(start)) < none_share).astype(np.float32)
    points = y["lip_points"][..., : y["lip_points"].shape[-1] // 2]  # their places; from the second tick on
    nan = np.full_like(points[:, :1], np.nan)
    return {"crops": cut(x["crops"], 2 * LIP_REACH), "rows": x["rows"], "foreign": foreign}, {
        "lag": lags - 1 - first_match, "foreign": foreign, "first_match": first_match,
        "lip_weight": cut(y["lip_weight"], 0), "audio_valid": y["audio_valid"],
        "lip_points": cut(np.concatenate([nan, points, nan], axis=1), 2 * LIP_REACH),
    }  # fmt: skip


def judge_linear(model: LinearNet, batches: Iterator[Any], count: int = _JUDGED) -> dict[str, float]:
    """Mean absolute error in frames, and how much the answers vary against the truth: 0 is always the same answer."""
    truth: list[float] = []
    answer: list[float] = []
    while len(truth) < count:
        x, y = next(batches)
        truth += y["offset_frames"].tolist()
        answer += np.ravel(model.predict_on_batch(x)).tolist()
    return _scores(np.array(answer), np.array(truth))


def judge_correlation(
    model: CorrelationNet, batches: Iterator[Any], count: int = _JUDGED, windows: int = _LONG_WINDOWS
) -> dict[str, float]:
    """The same of the most likely offset bin of long windows; silent lip windows count as they do anywhere."""
    truth: list[float] = []
    answer: list[float] = []
    while len(truth) < count:
        x, y = next(batches)
        if y["lip_weight"].shape[1] == windows:
            curve = keras.ops.convert_to_numpy(model(x, training=False)["evidence"]).sum(1)
            native = y["foreign"] == 0
            truth += ((y["lag"] - curve.shape[1] // 2) / AUDIO_TICKS_PER_LIP_TICK)[native].tolist()
            answer += ((curve.argmax(1) - curve.shape[1] // 2) / AUDIO_TICKS_PER_LIP_TICK)[native].tolist()
    return _scores(np.array(answer), np.array(truth))


def _scores(answer: npt.NDArray[np.float64], truth: npt.NDArray[np.float64]) -> dict[str, float]:
    return {
        "mae_frames": float(np.abs(answer - truth).mean()),
        "std_ratio": float(answer.std() / max(truth.std(), 1e-9)),
        "zero_mae_frames": float(np.abs(truth).mean()),
    }


def fit_direct(
    clips: list[Clip], validation: list[Clip], out: Path, config: DirectConfig
) -> LinearNet | CorrelationNet:
    """Train, checkpointing after each epoch into `out`; goes on from the last checkpoint found there."""
    clips = longest(clips, config.clips)
    describe_run(out, clips, config)
    keras.utils.set_random_seed(config.seed)
    model = build_direct(config)
    steps = config.epochs * config.steps_per_epoch
    schedule = keras.optimizers.schedules.CosineDecay(config.learning_rate, steps, alpha=0.01)
    # XLA would compile each length of windows anew.
    model.compile(optimizer=keras.optimizers.AdamW(schedule, weight_decay=0.01, clipnorm=1.0), jit_compile=False)
    make: Any = linear_batches if config.form == "linear" else correlation_batches
    judge: Any = judge_linear if config.form == "linear" else judge_correlation
    # The origin's form is shown recordings as they are: it does not even learn these by heart.
    augmentation = None if config.form == "linear" else Augmentation()

    def figures() -> dict[str, float]:
        found = {f"train_{k}": v for k, v in judge(model, make(clips, config, 7, None)).items()}
        if validation:
            found |= {f"valid_{k}": v for k, v in judge(model, make(validation, config, 7, None)).items()}
        return found

    train(
        model, lambda done: make(clips, config, config.seed + 10 * done, augmentation), out,
        epochs=config.epochs, steps_per_epoch=config.steps_per_epoch, judge=figures,
    )  # fmt: skip
    return model


def read_direct_config(run: Path) -> DirectConfig:
    """What a run was configured with."""
    table = json.loads((run / "config.json").read_text(encoding="utf-8"))
    return DirectConfig(**{key: value for key, value in table.items() if key != "model"})
