"""Networks that answer with the offset itself: the origin's first attempt, which answers the mean, and one that fits.

The origin's form (`LinearNet`): convolutions over a window of frames, convolutions over its spectrogram, both flattened
and joined, dense layers, one linear neuron for the offset in frames, squared error.
The form that fits (`CorrelationNet`): few features for each frame and each 10 ms of sound; their products at all lags,
an image [frames, lags]; a small network along the lags that makes evidence of it; the sum over the window; a softmax
over offset bins and `none of them`, with softened targets. Everything is the same at all times and at all lags, so a
window may be as long and a search as wide as one likes, whatever was trained with.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from device.features.contract import AUDIO_TICKS_PER_LIP_TICK, FRONT_END
from device.towers.direct import FEATURES, GROUPS
from train.landmarks import LIP_POINTS
from train.towers import matching_loss, shape_loss

_TARGET_SIGMA_TICKS = 3.0
_FRAME_ENCODING = 48


class LinearNet(keras.Model):
    """The origin's form: {crops [batch, ticks, 64, 64], rows [batch, rows, bands]} to an offset in frames [batch]."""

    def __init__(self, *, differences: bool, conv_layers: int, dense_layers: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.differences = differences
        self.pictures = keras.Sequential(_pyramid(conv_layers, (2, 2)), name="pictures")
        self.spectrum = keras.Sequential(_pyramid(conv_layers, (4, 2)), name="spectrum")
        self.joined = keras.Sequential(
            [*(layers.Dense(128, activation="relu") for _ in range(dense_layers)), layers.Dense(1)], name="joined"
        )

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        crops = inputs["crops"]
        crops = crops[:, 1:] - crops[:, :-1] if self.differences else crops
        seen = self.pictures(ops.transpose(crops, (0, 2, 3, 1)), training=training)
        heard = self.spectrum(ops.expand_dims(inputs["rows"], -1), training=training)
        return ops.squeeze(self.joined(ops.concatenate([seen, heard], -1), training=training), -1)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        return ops.mean((y_pred - y["offset_frames"]) ** 2)


def _pyramid(depth: int, pool: tuple[int, int]) -> list[Any]:
    parts: list[Any] = []
    for level in range(depth):
        parts.append(layers.Conv2D(16 << min(level, 2), 3, padding="same", activation="relu"))
        parts.append(layers.MaxPooling2D(pool, padding="same"))  # or a short window would be gone after a few
    return [*parts, layers.Flatten()]


def _conv(dims: int, filters: int, kernel: int, strides: int = 1) -> list[Any]:
    kind, padding = (layers.Conv2D, "same") if dims == 2 else (layers.Conv1D, "valid")
    return [
        kind(filters, kernel, strides=strides, padding=padding, use_bias=False),
        layers.BatchNormalization(momentum=0.98),
        layers.ReLU(),
    ]


class LipFeatures(keras.Model):
    """[batch, ticks, 64, 64] normalised crops to [batch, ticks - 4, FEATURES]: each sees the lip window around it."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        size = FRONT_END.crop_px
        picture = [layer for filters in (12, 24, 40) for layer in _conv(2, filters, 3, 2)]
        self.frames = keras.Sequential(
            [
                keras.Input((size, size, 1)), layers.AveragePooling2D(2), *picture, layers.Flatten(),
                layers.Dense(_FRAME_ENCODING, use_bias=False), layers.BatchNormalization(momentum=0.98), layers.ReLU(),
            ],
            name="frames",
        )  # fmt: skip
        self.windows = keras.Sequential(
            [keras.Input((None, _FRAME_ENCODING)), *_conv(1, 64, 3), layers.Conv1D(FEATURES, 3)], name="windows"
        )

    def encode(self, crops: Any, training: bool | None = None) -> Any:
        """[batch, ticks, 64, 64] to an encoding of each frame by itself [batch, ticks, 48]."""
        size = FRONT_END.crop_px
        encoded = self.frames(ops.reshape(crops, (-1, size, size, 1)), training=training)
        return ops.reshape(encoded, (-1, ops.shape(crops)[1], _FRAME_ENCODING))

    def call(self, crops: Any, training: bool | None = None) -> Any:
        return self.windows(self.encode(crops, training=training), training=training)


def audio_features() -> keras.Sequential:
    """[batch, ticks, bands] log-mel rows to [batch, ticks - 32, FEATURES]; each sees the middle 0.2 s of its window."""
    return keras.Sequential(
        [
            keras.Input((None, FRONT_END.mel_bands)), layers.Cropping1D((FRONT_END.audio_window_ticks - 21) // 2),
            *_conv(1, 64, 7), *_conv(1, 64, 7), layers.Conv1D(FEATURES, 9),
        ],
        name="audio",
    )  # fmt: skip


def evidence_head() -> keras.Sequential:
    """[batch, ticks, lags, GROUPS] products of features to [batch, ticks, lags, 1]: the same at every tick and lag."""
    return keras.Sequential(
        [
            keras.Input((None, None, GROUPS)),
            layers.Conv2D(16, (1, 9), padding="same", activation="relu"),
            layers.Conv2D(1, (1, 9), padding="same"),
        ],
        name="head",
    )


def lag_products(lips: Any, audio: Any, lags: int) -> Any:
    """[batch, n, size] and [batch, 4 (n - 1) + lags, size] to [batch, n, lags, GROUPS], offsets ascending.

    Features are scaled to length 1 in each group. Lag q of lip tick i is sound 4 i + lags - 1 - q.
    """
    n = ops.shape(lips)[1]
    lips = ops.normalize(ops.reshape(lips, (-1, n, GROUPS, FEATURES // GROUPS)), axis=-1)
    audio = ops.normalize(ops.reshape(audio, (-1, ops.shape(audio)[1], GROUPS, FEATURES // GROUPS)), axis=-1)
    products = ops.einsum("bigd,bjgd->bijg", lips, audio)
    index = AUDIO_TICKS_PER_LIP_TICK * ops.arange(n)[:, None] + lags - 1 - ops.arange(lags)[None]
    return ops.take_along_axis(products, index[None, :, :, None], axis=2)


class CorrelationNet(keras.Model):
    """Features of both branches, products at all lags, evidence, and the loss over offset bins and `none`."""

    def __init__(self, *, shape_weight: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lips, self.audio, self.head = LipFeatures(name="lips"), audio_features(), evidence_head()
        self.shape_head = layers.Dense(2 * LIP_POINTS, name="shape_head")
        self.shape_weight = shape_weight
        self.none_logit = self.add_weight(shape=(), initializer="zeros", name="none_logit")
        self.log_scale = self.add_weight(shape=(), initializer=keras.initializers.Constant(1.0), name="log_scale")

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> dict[str, Any]:
        """`evidence` [batch, n, lags] of each lip window; `logits` [batch, n, m] of features; lip points of frames.

        `foreign` [batch] is 1 where the sound is to be that of another clip of the batch.
        """
        encoded = self.lips.encode(inputs["crops"], training=training)
        lips = self.lips.windows(encoded, training=training)
        audio = self.audio(inputs["rows"], training=training)
        foreign = ops.cast(inputs["foreign"], audio.dtype)[:, None, None]
        audio = foreign * ops.roll(audio, 1, axis=0) + (1 - foreign) * audio
        lags = ops.shape(audio)[1] - AUDIO_TICKS_PER_LIP_TICK * (ops.shape(lips)[1] - 1)
        evidence = ops.squeeze(self.head(lag_products(lips, audio, lags), training=training), -1)
        unit_lips, unit_audio = ops.normalize(lips, axis=-1), ops.normalize(audio, axis=-1)
        logits = ops.exp(self.log_scale) * ops.matmul(unit_lips, ops.transpose(unit_audio, (0, 2, 1)))
        return {
            "evidence": evidence - ops.logsumexp(evidence, -1, keepdims=True) + ops.log(ops.cast(lags, evidence.dtype)),
            "logits": logits, "lip_points": self.shape_head(encoded), "none": self.none_logit * ops.ones_like(foreign),
        }  # fmt: skip

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        native = 1 - y["foreign"]
        bins = bin_loss(y_pred["evidence"], y_pred["none"][:, 0, 0], y["lag"], y["foreign"], y["lip_weight"])
        matching = matching_loss(
            y_pred["logits"], y["first_match"], y["lip_weight"] * native[:, None], y["audio_valid"]
        )
        return bins + 0.5 * matching + self.shape_weight * shape_loss(y_pred["lip_points"], y["lip_points"])


def bin_loss(evidence: Any, none: Any, lag: Any, foreign: Any, lip_weight: Any) -> Any:
    """Cross-entropy over the offset bins of a window and `none of them`; targets softened by 3 bins of 10 ms.

    evidence [batch, n, lags]; none [batch], a logit; lag [batch], the true bin; foreign [batch], 1 where none is true;
    lip_weight [batch, n]. Windows with hardly any speech are left out.
    """
    curve = ops.sum(evidence * lip_weight[..., None], axis=1)
    lags = ops.shape(curve)[1]
    logits = ops.concatenate([curve, none[:, None] + ops.log(ops.cast(lags, curve.dtype))], axis=1)
    distance = (ops.arange(lags, dtype=curve.dtype)[None] - lag[:, None]) / _TARGET_SIGMA_TICKS
    soft = ops.exp(-0.5 * distance**2)
    soft = soft / ops.maximum(ops.sum(soft, -1, keepdims=True), 1e-6) * (1 - foreign[:, None])
    target = ops.concatenate([soft, foreign[:, None]], axis=1)
    entropy = -ops.sum(target * (logits - ops.logsumexp(logits, -1, keepdims=True)), -1)
    weight = ops.cast(ops.mean(lip_weight, 1) > 0.3, entropy.dtype)
    return ops.sum(entropy * weight) / ops.maximum(ops.sum(weight), 1.0)
