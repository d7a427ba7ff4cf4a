"""Networks that output the offset itself: a concatenation baseline, which learns the mean, and a correlation network.

The concatenation baseline (`ConcatNet`), with which this project began: convolutions over a window of frames,
convolutions over its spectrogram, both flattened and concatenated, dense layers, one linear neuron for the offset in
frames, squared error; or, instead of the neuron, a softmax over all offsets.
The correlation network (`CorrelationNet`): one branch makes features of each lip window, another of each 10 ms of
audio. Their products at all lags are an image [frames, lags], and a small network along the lags turns it into
evidence. The evidence is summed over the window, and a softmax goes over offset bins and `none of them`, with softened
targets. Everything is the same at all times and at all lags, so windows and search ranges of any size work with any
training.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from device.features.contract import AUDIO_TICKS_PER_LIP_TICK, FRONT_END
from device.sync.direct import GROUPS
from train.models.towers import AudioEncoder, LipEncoder, TwoTowerModel, build_model, matching_loss, shape_loss

STARTS = ("scratch", "pretraining", "bundle")  # initial states of its branches: train/fit/direct_init.py

# A clip's own offset is known to a tick or two. Wider targets teach doubt that no window length can overcome.
_TARGET_SIGMA_TICKS = 1.5
_TARGET_SIGMA_FRAMES = _TARGET_SIGMA_TICKS / AUDIO_TICKS_PER_LIP_TICK
_MIN_SPOKEN = 0.3


class ConcatNet(keras.Model):
    """The baseline: {crops [batch, ticks, 64, 64], rows [batch, rows, bands]} to an offset in frames.

    Its output is that offset [batch, 1], or with `max_offset` logits [batch, 2 max_offset + 1] of all whole offsets.
    """

    def __init__(
        self, *, differences: bool, conv_layers: int, dense_layers: int, max_offset: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.differences, self.max_offset = differences, max_offset
        self.pictures = keras.Sequential(_pyramid(conv_layers, (2, 2)), name="pictures")
        self.spectrum = keras.Sequential(_pyramid(conv_layers, (4, 2)), name="spectrum")
        outputs = layers.Dense(2 * max_offset + 1)
        self.joined = keras.Sequential(
            [*(layers.Dense(128, activation="relu") for _ in range(dense_layers)), outputs], name="joined"
        )

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        crops = inputs["crops"]
        crops = crops[:, 1:] - crops[:, :-1] if self.differences else crops
        seen = self.pictures(ops.transpose(crops, (0, 2, 3, 1)), training=training)
        heard = self.spectrum(ops.expand_dims(inputs["rows"], -1), training=training)
        return self.joined(ops.concatenate([seen, heard], -1), training=training)

    def offset_frames(self, output: Any) -> Any:
        """[batch]: the offset that an output means."""
        if not self.max_offset:
            return output[:, 0]
        return ops.cast(ops.argmax(output, axis=1), output.dtype) - self.max_offset

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        offset = ops.cast(y["offset_frames"], y_pred.dtype)
        if not self.max_offset:
            return ops.mean((y_pred[:, 0] - offset) ** 2)
        target = softened(2 * self.max_offset + 1, offset + self.max_offset, _TARGET_SIGMA_FRAMES)
        return ops.mean(cross_entropy(target, y_pred))


def _pyramid(depth: int, pool: tuple[int, int]) -> list[Any]:
    parts: list[Any] = []
    for level in range(depth):
        parts.append(layers.Conv2D(16 << min(level, 2), 3, padding="same", activation="relu"))
        parts.append(layers.MaxPooling2D(pool, padding="same"))  # otherwise a short window would be used up after a few
    return [*parts, layers.Flatten()]


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

    Features are scaled to length 1 in each group. Lag q of lip tick i is audio 4 i + lags - 1 - q.
    """
    n, size = ops.shape(lips)[1], lips.shape[-1] // GROUPS
    lips = ops.normalize(ops.reshape(lips, (-1, n, GROUPS, size)), axis=-1)
    audio = ops.normalize(ops.reshape(audio, (-1, ops.shape(audio)[1], GROUPS, size)), axis=-1)
    products = ops.einsum("bigd,bjgd->bijg", lips, audio)
    index = AUDIO_TICKS_PER_LIP_TICK * ops.arange(n)[:, None] + lags - 1 - ops.arange(lags)[None]
    return ops.take_along_axis(products, index[None, :, :, None], axis=2)


class CorrelationNet(keras.Model):
    """Features of both branches, products at all lags, evidence, and the loss over offset bins and `none`.

    The branches have the structure of a two-tower model's towers, so that the same pretraining works for both.
    """

    def __init__(self, model: TwoTowerModel, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model, self.head = model, evidence_head()
        self.none_logit = self.add_weight(shape=(), initializer="zeros", name="none_logit")

    @property
    def lips(self) -> LipEncoder:
        return self.model.lips

    @property
    def audio(self) -> AudioEncoder:
        return self.model.audio

    def build(self, input_shape: Any) -> None:
        """The first call builds the layers."""

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> dict[str, Any]:
        """`evidence` [batch, n, lags] of each lip window; `logits` [batch, n, m] of features; lip points of frames.

        `foreign` [batch] is 1 if the audio is to be that of another clip of the batch.
        """
        encoded = self.lips.encode(inputs["crops"], training=training)
        lips = self.lips.windows(encoded, training=training)
        audio = self.audio(inputs["rows"], training=training)
        foreign = ops.cast(inputs["foreign"], audio.dtype)[:, None, None]
        audio = foreign * ops.roll(audio, 1, axis=0) + (1 - foreign) * audio
        lags = ops.shape(audio)[1] - AUDIO_TICKS_PER_LIP_TICK * (ops.shape(lips)[1] - 1)
        evidence = ops.squeeze(self.head(lag_products(lips, audio, lags), training=training), -1)
        unit_lips, unit_audio = ops.normalize(lips, axis=-1), ops.normalize(audio, axis=-1)
        scale = ops.exp(ops.minimum(self.model.log_scale, 4.0))
        return {
            "evidence": evidence - ops.logsumexp(evidence, -1, keepdims=True) + ops.log(ops.cast(lags, evidence.dtype)),
            "logits": scale * ops.matmul(unit_lips, ops.transpose(unit_audio, (0, 2, 1))),
            "lip_points": self.model.shape_head(encoded), "none": self.none_logit * ops.ones_like(foreign),
        }  # fmt: skip

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        native = 1 - y["foreign"]
        bins = bin_loss(y_pred["evidence"], y_pred["none"][:, 0, 0], y["lag"], y["foreign"], y["lip_weight"])
        matching = matching_loss(
            y_pred["logits"], y["first_match"], y["lip_weight"] * native[:, None], y["audio_valid"]
        )
        return bins + 0.5 * matching + self.model.shape_weight * shape_loss(y_pred["lip_points"], y["lip_points"])


def bin_loss(evidence: Any, none: Any, lag: Any, foreign: Any, lip_weight: Any) -> Any:
    """Cross-entropy over the offset bins of a window and `none of them`; targets softened by 1.5 bins of 10 ms.

    evidence [batch, n, lags]; none [batch], a logit; lag [batch], the true bin; foreign [batch], 1 if none is true;
    lip_weight [batch, n]. Windows with hardly any speech are left out.
    """
    curve = ops.sum(evidence * lip_weight[..., None], axis=1)
    lags = ops.shape(curve)[1]
    logits = ops.concatenate([curve, none[:, None] + ops.log(ops.cast(lags, curve.dtype))], axis=1)
    soft = softened(lags, lag, _TARGET_SIGMA_TICKS) * (1 - foreign[:, None])
    entropy = cross_entropy(ops.concatenate([soft, foreign[:, None]], axis=1), logits)
    weight = ops.cast(ops.mean(lip_weight, 1) > _MIN_SPOKEN, entropy.dtype)
    return ops.sum(entropy * weight) / ops.maximum(ops.sum(weight), 1.0)


def softened(bins: Any, position: Any, sigma: float) -> Any:
    """[batch, bins]: a normal distribution around each position [batch], summing to 1."""
    soft = ops.exp(-0.5 * ((ops.arange(bins, dtype=position.dtype)[None] - position[:, None]) / sigma) ** 2)
    return soft / ops.maximum(ops.sum(soft, -1, keepdims=True), 1e-6)


def cross_entropy(target: Any, logits: Any) -> Any:
    """For each row [batch] of [batch, bins]."""
    return -ops.sum(target * (logits - ops.logsumexp(logits, -1, keepdims=True)), -1)


@dataclass(frozen=True, slots=True)
class DirectConfig:
    """Everything that determines a training run; saved beside its checkpoints.

    `linear` is the baseline, with its improvements: `picture` (mouth instead of the whole face), `differences`,
    `window_ticks`, `conv_layers`, `dense_layers`, `clips` (1: a single training video), `max_offset` (frames). `bins`
    is the same with a softmax over the offsets instead of its linear neuron. For `correlation`, `start` is the initial
    state of the branches (train/fit/direct_init.py), with `shape_steps` and `phone_steps` of the pretraining.
    """

    model: str = field(default="direct", init=False)
    form: str = field(default="correlation", metadata={"choices": ("correlation", "linear", "bins")})
    picture: str = field(default="mouth", metadata={"choices": ("mouth", "face")})
    differences: bool = False
    window_ticks: int = 25
    conv_layers: int = 3
    dense_layers: int = 2
    clips: int = 0  # 0: all; otherwise the longest ones
    max_offset: int = 12
    start: str = field(default="bundle", metadata={"choices": STARTS})
    shape_steps: int = 400
    shape_weight: float = 1.0
    phone_steps: int = 400
    phone_voices: int = 200
    dropout: float = 0.1
    epochs: int = 10
    steps_per_epoch: int = 100
    stretches: int = 12
    learning_rate: float = 1e-3
    none_share: float = 0.1
    seed: int = 1


def build_direct(config: DirectConfig) -> ConcatNet | CorrelationNet:
    """A direct network with initialized weights."""
    net, ticks, steps = CorrelationNet(build_model(config.dropout, config.shape_weight)), 8, 48
    if config.form != "correlation":
        net = ConcatNet(
            differences=config.differences, conv_layers=config.conv_layers, dense_layers=config.dense_layers,
            max_offset=config.max_offset if config.form == "bins" else 0,
        )  # fmt: skip
        ticks, steps = config.window_ticks, AUDIO_TICKS_PER_LIP_TICK * config.window_ticks
    size, bands = FRONT_END.crop_px, FRONT_END.mel_bands
    net({
        "crops": np.zeros((1, ticks, size, size), np.float32), "rows": np.zeros((1, steps, bands), np.float32),
        "foreign": np.zeros(1, np.float32),
    })  # fmt: skip
    return net
