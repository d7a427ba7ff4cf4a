"""Training and validation batches of the direct networks: windows of video and audio with a known offset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import numpy.typing as npt

from device.errors import InputFormatError
from device.features.contract import AUDIO_TICKS_PER_LIP_TICK
from train.data.augment import MARGIN_PX, Augmentation
from train.data.batches import Batches
from train.data.shards import AUDIO_REACH, LIP_REACH, Clip
from train.models.direct import ConcatNet, CorrelationNet

if TYPE_CHECKING:
    from train.models.direct import DirectConfig

_SHORT_TICKS, _LONG_TICKS = 24, 74  # word-long clips and sentences
_SHORT_WINDOWS, _LONG_WINDOWS = 10, 46  # lip windows; the long ones see 2 s, up to 12 frames off
_JUDGED = 384


def with_faces(clips: Sequence[Clip], shards: Sequence[Path]) -> list[Clip]:
    """The same clips with whole faces instead of mouth crops. Raises InputFormatError if a shard has none."""
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


def concat_batches(
    clips: list[Clip], config: DirectConfig, seed: int, augmentation: Augmentation | None
) -> Iterator[Any]:
    """Windows of video and of audio, cut from a stretch at places a random number of frames apart."""
    n, far = config.window_ticks, config.max_offset
    random = np.random.default_rng(seed)
    ticks = n + 2 * far + 2 * LIP_REACH
    for x, _ in Batches(clips, lip_ticks=ticks, batch_size=config.stretches, seed=seed, augmentation=augmentation):
        offset = random.integers(-far, far + 1, config.stretches)
        start = LIP_REACH + far - offset  # video from an earlier time means early audio
        crops = np.stack([stretch[a : a + n] for stretch, a in zip(x["crops"], start, strict=True)])
        first = AUDIO_REACH + AUDIO_TICKS_PER_LIP_TICK * far  # row AUDIO_REACH belongs to lip tick LIP_REACH
        rows = x["rows"][:, first : first + AUDIO_TICKS_PER_LIP_TICK * n]
        yield {"crops": crops, "rows": rows}, {"offset_frames": offset.astype(np.float32)}


def correlation_batches(
    clips: list[Clip], config: DirectConfig, seed: int, augmentation: Augmentation | None
) -> Iterator[Any]:
    """Batches of short and of long windows, each at a random place of its stretch; all audio of the stretch is used."""
    random = np.random.default_rng(seed)
    sizes = [(_SHORT_TICKS, _SHORT_WINDOWS), (_LONG_TICKS, _LONG_WINDOWS)]
    frames = config.stretches * _LONG_TICKS
    kinds = []
    for k, (ticks, n) in enumerate(sizes):
        batches = Batches(clips, lip_ticks=ticks, batch_size=frames // ticks, seed=seed + k, augmentation=augmentation)
        kinds.append((iter(batches), n))
    while True:
        source, n = kinds[int(random.random() < 0.65)]
        yield cut_window(*next(source), n=n, none_share=config.none_share, random=random)


def cut_window(
    x: dict[str, Any], y: dict[str, Any], *, n: int, none_share: float, random: np.random.Generator
) -> tuple[dict[str, Any], dict[str, Any]]:
    """From a batch of stretches, `n` lip windows each at a random place, and the resulting true offset bin."""
    windows = y["lip_weight"].shape[1]
    start = random.integers(0, windows - n + 1, len(x["crops"]))

    def cut(values: npt.NDArray[Any], more: int) -> npt.NDArray[Any]:
        return np.stack([row[a : a + n + more] for row, a in zip(values, start, strict=True)])

    first_match = (AUDIO_TICKS_PER_LIP_TICK * start + y["first_match"]).astype(np.float32)
    lags = AUDIO_TICKS_PER_LIP_TICK * (windows - n) + 1
    foreign = (random.random(len(start)) < none_share).astype(np.float32)
    return {"crops": cut(x["crops"], 2 * LIP_REACH), "rows": x["rows"], "foreign": foreign}, {
        "lag": lags - 1 - first_match, "foreign": foreign, "first_match": first_match,
        "lip_weight": cut(y["lip_weight"], 0), "audio_valid": y["audio_valid"],
        "lip_points": cut(y["lip_points"], 2 * LIP_REACH - 2),
    }  # fmt: skip


def judge_concat(model: ConcatNet, batches: Iterator[Any], count: int = _JUDGED) -> dict[str, float]:
    """Mean absolute error in frames, and the variation of the answers relative to the truth: 0 is a constant answer."""
    truth: list[float] = []
    answer: list[float] = []
    while len(truth) < count:
        x, y = next(batches)
        truth += y["offset_frames"].tolist()
        answer += np.asarray(model.offset_frames(model.predict_on_batch(x))).tolist()
    return _scores(np.array(answer), np.array(truth))


def judge_correlation(
    model: CorrelationNet, batches: Iterator[Any], count: int = _JUDGED, windows: int = _LONG_WINDOWS
) -> dict[str, float]:
    """The same for the most likely offset bin of long windows; silent lip windows count as usual."""
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
