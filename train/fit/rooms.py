"""`avdrift-train rooms SHARDS… --out RUN`: make the audio encoder of finished models robust to rooms and noise.

The encoder learns to give the same embeddings for audio in a simulated room as it gave, before, for the audio as
recorded. The lip encoder and the zero stay as they are, so this needs neither video nor the clips' offsets, and a batch
takes a tenth of the time of one of `fit`.
Sources: Li et al., "Large-Scale Domain Adaptation via Teacher-Student Learning", Interspeech 2017. Besides the cosine
of each embedding with its target, the loss compares how well embeddings of different times are told apart. The result
is a mean of the learnt weights and those of the start, which loses nothing on clean audio: Wortsman et al., "Robust
Fine-Tuning of Zero-Shot Models", CVPR 2022.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from device.bundles.bundle import MANIFEST, load_bundle
from device.features.contract import AUDIO_RATE_HZ, FRONT_END
from train.data.augment import PREROLL_TICKS, Augmentation, SoundAugmenter
from train.data.shards import HOP_SAMPLES, Clip, Floats
from train.fit.config import RoomConfig
from train.fit.loop import describe_run, optimizer_of, train, training_data
from train.fit.towers import validate
from train.models.bundle_weights import model_of_bundle
from train.models.load import load_model
from train.models.run_files import WATCHED, run_data
from train.models.towers import AudioEncoder, TwoTowerModel, keras_towers, with_weights

_TICKS = 240  # of embeddings in a stretch
_SPEED_SHARE, _LOG_SPEED = 0.3, 0.15
_LATE_START_SHARE = 0.3  # of stretches before which there is little or no audio, as at the start of a stream
_REVERB_S = (0.12, 2.0)
_MIN_REVERB_DB = -12.0
_BAND_SHARE = 0.15
_MAX_SPEAKER_S = 300.0  # more audio of one speaker does not give that speaker more weight


class RoomStudent(TwoTowerModel):
    """A finished model whose audio encoder learns from what it was. Nothing else of it is trainable."""

    def start_from(self, model: TwoTowerModel) -> None:
        """Take a model's weights, and its audio encoder as the teacher."""
        self.set_weights(model.get_weights())
        teacher = AudioEncoder()
        teacher(np.zeros((1, FRONT_END.audio_window_ticks, FRONT_END.mel_bands), np.float32))
        self._start = model.audio.get_weights()
        teacher.set_weights(self._start)
        # A function, as in `learn_from`.
        self._teacher: Callable[[Any], Any] = lambda rows: teacher(rows, training=False)
        self.log_scale.trainable = False
        self.lips.trainable = self.shape_head.trainable = False

    def blend(self, learnt_share: float) -> None:
        """Replace the audio encoder's weights by a mean of the learnt ones and those of the start."""
        learnt = self.audio.get_weights()
        self.audio.set_weights([
            learnt_share * new + (1 - learnt_share) * old for new, old in zip(learnt, self._start, strict=True)
        ])  # fmt: skip

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> dict[str, Any]:
        """Embeddings [batch, windows, size] of audio in a room, and those to reach; or, with crops, all as usual."""
        if "crops" in inputs:
            return super().call(inputs, training=training)
        heard = ops.normalize(self.audio(inputs["rows"], training=training), axis=-1)
        target = ops.normalize(ops.stop_gradient(self._teacher(inputs["clean"])), axis=-1)
        return {"heard": heard, "target": target}

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        scale = ops.exp(ops.minimum(self.log_scale, 4.0))
        return room_loss(y_pred["heard"], y_pred["target"], scale)


def room_loss(heard: Any, target: Any, scale: Any) -> Any:
    """1 - cosine, plus the Kullback-Leibler divergence of where each target finds itself among all windows.

    Unit vectors [batch, windows, size]; 0 where they are equal.
    """
    cosine = ops.mean(1 - ops.sum(heard * target, axis=-1))
    wanted = scale * ops.matmul(target, ops.transpose(target, (0, 2, 1)))
    found = scale * ops.matmul(target, ops.transpose(heard, (0, 2, 1)))
    divergence = ops.sum(ops.softmax(wanted) * (ops.log_softmax(wanted) - ops.log_softmax(found)), axis=-1)
    return cosine + ops.mean(divergence)


class RoomBatches:
    """Endless batches `(x,)` for `RoomStudent`: rows of audio as recorded, and of the same audio in rooms and noise."""

    def __init__(self, clips: list[Clip], *, size: int, seed: int, augmentation: Augmentation) -> None:
        spoken: dict[str, list[npt.NDArray[np.int16]]] = {}
        for clip in clips:
            spoken.setdefault(clip.speaker, []).append(clip.samples)
        self._spoken = list(spoken.values())
        seconds = np.array([sum(map(len, clips)) / AUDIO_RATE_HZ for clips in self._spoken])
        weight = np.sqrt(np.minimum(seconds, _MAX_SPEAKER_S))
        self._share, self._size = weight / weight.sum(), size
        self._random = np.random.default_rng(seed)
        self._clean = SoundAugmenter(None, self._random, [])
        self._degraded = SoundAugmenter(augmentation, self._random, [clip.samples for clip in clips])

    def __iter__(self) -> Iterator[tuple[dict[str, Floats]]]:
        random = self._random
        rows = PREROLL_TICKS + _TICKS - 1 + FRONT_END.audio_window_ticks
        while True:
            chosen = random.choice(len(self._spoken), self._size, p=self._share)
            count = (rows - 1) * HOP_SAMPLES + FRONT_END.stft_window_samples
            clean = np.stack([self._stretch(self._spoken[speaker], count) for speaker in chosen])
            degraded = np.stack([self._degraded.samples(samples) for samples in clean])
            inside = np.ones((self._size, rows), np.bool_)
            for stretch in inside[random.random(self._size) < _LATE_START_SHARE]:
                stretch[: int(random.integers(PREROLL_TICKS + 1))] = False
            yield ({"clean": self._clean.rows(clean, inside), "rows": self._degraded.rows(degraded, inside)},)

    def _stretch(self, clips: list[npt.NDArray[np.int16]], count: int) -> Floats:
        """Audio of one speaker, from a random place on; clips as short as a word are joined."""
        random, speed = self._random, 1.0
        if random.random() < _SPEED_SHARE:
            speed = float(np.exp(random.uniform(-_LOG_SPEED, _LOG_SPEED)))
        needed = int(count * speed) + 2
        first = clips[int(random.integers(len(clips)))]
        parts = [first[int(random.integers(max(len(first) - needed, 0) + 1)) :]]
        while sum(map(len, parts)) < needed:
            parts.append(clips[int(random.integers(len(clips)))])
        samples = np.concatenate(parts)[:needed].astype(np.float32) / np.float32(32767)
        if speed != 1.0:
            samples = np.interp(np.arange(count) * speed, np.arange(needed), samples).astype(np.float32)
        return np.asarray(samples[:count], np.float32)


def fit_rooms(clips: list[Clip], validation: list[Clip], out: Path, config: RoomConfig, start: Path) -> TwoTowerModel:
    """Train, checkpointing after each epoch into `out`, a run like those of `fit`; resumes from the checkpoint there.

    start: a finished run of towers, or a bundle. Raises ModelError.
    """
    keras.utils.set_random_seed(config.seed)
    model = with_weights(RoomStudent())
    if (start / MANIFEST).is_file():
        model.start_from(model_of_bundle(start, clips))
        data = load_bundle(start).manifest.get("training", {}).get("data") or {}
    else:
        model.start_from(load_model(start))
        data = run_data(start)
    describe_run(out, data | training_data(clips), config, start=start.name)
    model.compile(optimizer=optimizer_of(config))
    augmentation = Augmentation(
        reverb_share=config.reverb_share, reverb_s=_REVERB_S, reverb_db=(_MIN_REVERB_DB, config.reverb_db),
        band_share=_BAND_SHARE,
    )  # fmt: skip

    def batches(epoch: int) -> Iterator[Any]:
        return iter(RoomBatches(clips, size=config.stretches, seed=config.seed + 2 * epoch, augmentation=augmentation))

    def judge(epoch: int) -> dict[str, float]:
        last = validation and epoch == config.epochs
        return validate(keras_towers(model), validation, out=out / WATCHED) if last else {}

    train(
        model, batches, out, epochs=config.epochs, steps_per_epoch=config.steps_per_epoch, judge=judge,
        finish=partial(model.blend, config.learnt_share),
    )  # fmt: skip
    return model
