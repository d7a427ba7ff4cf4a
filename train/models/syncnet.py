"""SyncNet as published: one network for five mouth frames and one for 0.2 s of audio, close to each other if in sync.

Reference: J. S. Chung and A. Zisserman, "Out of time: automated lip sync in the wild", ACCV workshops 2016: VGG-M with
smaller first filters over 120x120x5 grey mouths, a VGG-like network over 13 MFCC x 20 steps of 10 ms, 256-d outputs, L2
distance, contrastive loss. The multi-way loss is that of Chung et al., "Perfect Match", 2019.
Differences, and why: our crops have 64 px, so the network scales them up to 120 px (which gains nothing, but keeps the
published network). MFCC are the cosine transform of our log-mel rows without their running mean. Pooling comes before
batch norm and ReLU instead of after them, which is the same function wherever the scale of the batch norm is positive,
and twice as fast on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import layers, ops

from device.features.contract import AUDIO_TICKS_PER_LIP_TICK, FRONT_END
from device.sync.curve import unit
from train.data.shards import AUDIO_REACH

EMBEDDING_SIZE = 256
MFCC = 13
SOUND_ROWS = 20
_FRAMES = FRONT_END.lip_window_ticks
_SOFTNESS_FRAMES = 0.6  # recordings are not exact to a frame
_ABSENT = -1e4

Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]


def _conv(filters: int, kernel: int, dtype: str, *, strides: int = 1, padding: str = "valid", pool: Any = None) -> Any:
    return [
        layers.Conv2D(filters, kernel, strides=strides, padding=padding, use_bias=False, dtype=dtype),
        *([layers.MaxPooling2D(3, pool, dtype=dtype)] if pool else []),
        layers.BatchNormalization(momentum=0.98, dtype=dtype),
        layers.ReLU(dtype=dtype),
    ]


def _dense(dtype: str) -> Any:
    """fc6 and fc7."""
    return [
        layers.Flatten(dtype=dtype),
        layers.Dense(512, use_bias=False, dtype=dtype),
        layers.BatchNormalization(momentum=0.98, dtype=dtype),
        layers.ReLU(dtype=dtype),
        layers.Dense(EMBEDDING_SIZE, dtype="float32"),
    ]


def lip_network(input_px: int, dtype: str = "float32") -> keras.Sequential:
    """[batch, input_px, input_px, 5] grey frames to [batch, 256]: 1.5 GMAC at the published 120 px."""
    return keras.Sequential(
        [
            keras.Input((input_px, input_px, _FRAMES)),
            *_conv(96, 3, dtype, pool=2),
            layers.ZeroPadding2D(1, dtype=dtype),  # as in VGG-M: by one, which is not "same"
            *_conv(256, 5, dtype, strides=2, pool=2),
            *_conv(512, 3, dtype, padding="same"),
            *_conv(512, 3, dtype, padding="same"),
            *_conv(512, 3, dtype, padding="same", pool=2),
            *_dense(dtype),
        ],
        name="lips",
    )


def audio_network(dtype: str = "float32") -> keras.Sequential:
    """[batch, 13, 20, 1] MFCC to [batch, 256]."""
    return keras.Sequential(
        [
            keras.Input((MFCC, SOUND_ROWS, 1)),
            *_conv(64, 3, dtype, padding="same"),
            *_conv(128, 3, dtype, padding="same", pool=(1, 2)),
            *_conv(256, 3, dtype, padding="same"),
            *_conv(256, 3, dtype, padding="same"),
            *_conv(256, 3, dtype, padding="same", pool=2),
            *_dense(dtype),
        ],
        name="audio",
    )


def mfcc_matrix() -> Floats:
    """[bands, 13]: the orthonormal cosine transform (DCT-II) of log-mel rows, its first 13 terms."""
    bands = FRONT_END.mel_bands
    angle = np.pi / bands * (np.arange(bands)[:, None] + 0.5) * np.arange(MFCC)[None]
    scale = np.where(np.arange(MFCC) == 0, np.sqrt(1 / bands), np.sqrt(2 / bands))
    return np.asarray(np.cos(angle) * scale, np.float32)


class SyncNet(keras.Model):
    """Both networks over stretches of clips, and the loss that they are trained with."""

    def __init__(
        self, *, loss: str = "contrastive", margin: float = 10.0, input_px: int = 120, dtype_policy: str = "float32",
        **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.lips, self.audio = lip_network(input_px, dtype_policy), audio_network(dtype_policy)
        self.loss_name, self.margin, self.input_px = loss, margin, input_px
        self.log_scale = self.add_weight(shape=(), initializer=keras.initializers.Constant(2.0), name="log_scale")

    def embed_lips(self, crops: Any, training: bool | None = None) -> Any:
        """[batch, ticks, crop, crop] normalized crops to [batch, ticks - 4, 256]."""
        size, px = FRONT_END.crop_px, self.input_px
        frames = ops.reshape(crops, (-1, size, size, 1))
        frames = ops.image.resize(frames, (px, px)) if px != size else frames
        frames = ops.reshape(frames, (-1, ops.shape(crops)[1], px, px))
        count = ops.shape(crops)[1] - _FRAMES + 1
        windows = ops.stack([frames[:, k : k + count] for k in range(_FRAMES)], axis=-1)
        vectors = self.lips(ops.reshape(windows, (-1, px, px, _FRAMES)), training=training)
        return self._placed(vectors, count)

    def embed_audio(self, rows: Any, step: int = AUDIO_TICKS_PER_LIP_TICK, training: bool | None = None) -> Any:
        """[batch, ticks, bands] log-mel rows to [batch, (ticks - 33) // step + 1, 256], each `step` ticks on."""
        mfcc = ops.matmul(rows, ops.convert_to_tensor(mfcc_matrix()))
        count = (ops.shape(rows)[1] - FRONT_END.audio_window_ticks) // step + 1
        first = (FRONT_END.audio_window_ticks - SOUND_ROWS) // 2  # it sees the middle of the contract's window
        index = first + step * ops.arange(count)[:, None] + ops.arange(SOUND_ROWS)[None]
        windows = ops.transpose(ops.take(mfcc, index, axis=1), (0, 1, 3, 2))
        vectors = self.audio(ops.reshape(windows, (-1, MFCC, SOUND_ROWS, 1)), training=training)
        return self._placed(vectors, count)

    def _placed(self, vectors: Any, count: Any) -> Any:
        vectors = ops.reshape(vectors, (-1, count, EMBEDDING_SIZE))
        return vectors if self.loss_name == "contrastive" else ops.normalize(vectors, axis=-1)

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> dict[str, Any]:
        """L2 distances [batch, lip windows, audio windows], both 40 ms apart."""
        lips = self.embed_lips(inputs["crops"], training=training)
        audio = self.embed_audio(inputs["rows"], training=training)
        return {"distance": distances(lips, audio)}

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        weight = y["lip_weight"] * y["audio_valid"][:, ::AUDIO_TICKS_PER_LIP_TICK]
        if self.loss_name == "contrastive":
            return contrastive_loss(y_pred["distance"], y["false"], weight, self.margin)
        scale = ops.exp(ops.minimum(self.log_scale, 4.0))
        return multiway_loss(-scale * y_pred["distance"], weight)


def distances(lips: Any, audio: Any) -> Any:
    """L2 distances [batch, n, m] of vectors [batch, n, size] and [batch, m, size]."""
    squares = ops.sum(lips**2, -1)[:, :, None] + ops.sum(audio**2, -1)[:, None]
    return ops.sqrt(ops.maximum(squares - 2 * ops.matmul(lips, ops.transpose(audio, (0, 2, 1))), 1e-6))


def contrastive_loss(distance: Any, false: Any, weight: Any, margin: float) -> Any:
    """Pull genuine pairs together and push false ones at least `margin` apart: half the mean square of the violation.

    distance [batch, n, n]; false [batch, n]: the audio that each lip window is wrongly paired with; weight [batch, n].
    """
    genuine = ops.diagonal(distance, axis1=1, axis2=2)
    apart = ops.squeeze(ops.take_along_axis(distance, ops.cast(false, "int32")[..., None], axis=2), -1)
    squares = genuine**2 + ops.maximum(margin - apart, 0.0) ** 2
    return 0.5 * ops.sum(squares * weight) / ops.maximum(2 * ops.sum(weight), 1.0)


def multiway_loss(logits: Any, weight: Any) -> Any:
    """Cross-entropy of finding the audio for these lips, and the reverse, over all times of a stretch.

    logits [batch, n, n]; weight [batch, n]. Targets are softened by 0.6 frame, like those of the two-tower model.
    """
    n = ops.shape(logits)[1]
    apart = ops.cast(ops.arange(n)[:, None] - ops.arange(n)[None], logits.dtype)
    target = ops.exp(-0.5 * (apart / _SOFTNESS_FRAMES) ** 2)[None] * weight[:, None]
    target = target / ops.maximum(ops.sum(target, -1, keepdims=True), 1e-6)
    loss = 0.0
    for direction in (logits, ops.transpose(logits, (0, 2, 1))):
        masked = direction + _ABSENT * (1 - weight[:, None])
        entropy = -ops.sum(target * (masked - ops.logsumexp(masked, -1, keepdims=True)), -1)
        loss = loss + ops.sum(entropy * weight) / ops.maximum(ops.sum(weight), 1.0)
    return loss


def distance_evidence(
    lips: Floats, lips_valid: Flags, lips_first: int, audio: Floats, audio_valid: Flags, audio_first: int,
    search_ticks: int, *, normalized: bool, scale: float,
) -> Floats:  # fmt: skip
    """How much closer each candidate is than the average one, times `scale`; arguments as for sync.curve.evidence.

    The paper picks the candidate with the smallest mean distance over a window.
    """
    size = 2 * search_ticks + 1
    if not len(lips) or not len(audio):
        return np.zeros((len(lips), size), np.float32)
    a, b = (unit(lips), unit(audio)) if normalized else (lips, audio)
    squares = (a**2).sum(-1)[:, None] + (b**2).sum(-1)[None] - 2 * a @ b.T
    nearness = -np.sqrt(np.maximum(squares, 0)) * np.float32(scale)
    centre = (lips_first + np.arange(len(lips))) * AUDIO_TICKS_PER_LIP_TICK - audio_first
    column = centre[:, None] + search_ticks - np.arange(size)[None]
    inside = np.clip(column, 0, len(audio) - 1)
    heard = (column == inside) & audio_valid[inside] & lips_valid[:, None]
    rows = np.take_along_axis(nearness, inside, axis=1)
    mean = np.where(heard, rows, 0).sum(1, keepdims=True) / np.maximum(heard.sum(1, keepdims=True), 1)
    return np.where(heard, rows - mean, 0).astype(np.float32)


@dataclass(frozen=True, slots=True)
class SyncNetConfig:
    """Everything that determines a training run; saved beside its checkpoints."""

    model: str = field(default="syncnet", init=False)
    epochs: int = 10
    steps_per_epoch: int = 50
    stretches: int = 4
    lip_ticks: int = 24
    loss: str = field(default="contrastive", metadata={"choices": ("contrastive", "multiway")})
    margin: float = 10.0
    learning_rate: float = 0.0  # 0 means: 0.01 for the contrastive loss, as published, and 0.001 for the multi-way loss
    input_px: int = 120
    data_share: float = 1.0
    precision: str = field(default="float32", metadata={"choices": ("float32", "mixed_bfloat16")})
    start: str = ""  # folder of an earlier run with the same input_px to start from
    seed: int = 1


def build_syncnet(config: SyncNetConfig) -> SyncNet:
    """A SyncNet with initialized weights."""
    model = SyncNet(
        loss=config.loss, margin=config.margin, input_px=config.input_px, dtype_policy=config.precision
    )  # fmt: skip
    size, ticks = FRONT_END.crop_px, FRONT_END.lip_window_ticks + 1
    rows = AUDIO_TICKS_PER_LIP_TICK + 2 * AUDIO_REACH + 1
    model({"crops": np.zeros((1, ticks, size, size), np.float32),
           "rows": np.zeros((1, rows, FRONT_END.mel_bands), np.float32)})  # fmt: skip
    return model
