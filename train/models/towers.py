"""The two-tower model: one network makes an embedding of each lip window, another of each audio window.

Both are convolutional over time, so overlapping windows share all encodings of single frames. Inside are only layers
that can be converted to int8 (convolution, batch normalization, ReLU); L2 normalization and correlation are outside.
Written with `keras.ops`: trains on any Keras backend.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import keras
import numpy as np
from keras import layers, ops

from device.features.contract import AUDIO_TICKS_PER_LIP_TICK, FRONT_END
from train.data.landmarks import LIP_POINTS
from train.data.shards import AUDIO_REACH, LIP_REACH
from train.models.encoders import Towers

EMBEDDING_SIZE = 128
SHORT_TICKS, LONG_TICKS = 26, 60  # lengths of the training stretches
_PICTURE_FILTERS = (16, 24, 48, 96)
_ENCODING_SIZE = 128
_FRAMES_PER_ENCODING = 3  # a frame and its neighbours; three encodings make one lip window of five frames


def _conv(
    filters: int, kernel: Any, strides: Any = 1, *, dims: int, padding: str = "valid", dilation: int = 1
) -> list[Any]:
    kind = layers.Conv2D if dims == 2 else layers.Conv1D
    return [
        kind(filters, kernel, strides=strides, padding=padding, dilation_rate=dilation, use_bias=False),
        layers.BatchNormalization(momentum=0.98),
        layers.ReLU(),
    ]


class LipEncoder(keras.Model):
    """[batch, ticks, crop, crop] normalized crops to [batch, ticks - 4, EMBEDDING_SIZE]."""

    def __init__(self, *, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        size = FRONT_END.crop_px
        picture = [layer for filters in _PICTURE_FILTERS for layer in _conv(filters, 3, 2, dims=2, padding="same")]
        self.frames = keras.Sequential(
            [
                keras.Input((size, size, _FRAMES_PER_ENCODING)),
                *picture,
                layers.SpatialDropout2D(dropout),
                layers.Flatten(),
                layers.Dense(_ENCODING_SIZE, use_bias=False),
                layers.BatchNormalization(momentum=0.98),
                layers.ReLU(),
                layers.Dropout(dropout),
            ],
            name="frames",
        )
        self.windows = keras.Sequential(
            [
                keras.Input((None, _ENCODING_SIZE)),
                *_conv(192, FRONT_END.lip_window_ticks - _FRAMES_PER_ENCODING + 1, dims=1),
                layers.Conv1D(EMBEDDING_SIZE, 1),
            ],
            name="windows",
        )

    def call(self, crops: Any, training: bool | None = None) -> Any:
        return self.windows(self.encode(crops, training=training), training=training)

    def encode(self, crops: Any, training: bool | None = None) -> Any:
        """[batch, ticks, crop, crop] to an encoding of each tick with both its neighbours [batch, ticks - 2, 128]."""
        ticks = ops.shape(crops)[1]
        count = ticks - _FRAMES_PER_ENCODING + 1
        size = FRONT_END.crop_px
        shifted = [crops[:, k : k + count] for k in range(_FRAMES_PER_ENCODING)]
        # One transpose: on the device ops.stack along the last axis takes longer than all convolutions.
        stacked = ops.reshape(ops.concatenate(shifted, axis=0), (_FRAMES_PER_ENCODING, -1, size, size))
        encoded = self.frames(ops.transpose(stacked, (1, 2, 3, 0)), training=training)
        return ops.reshape(encoded, (-1, count, _ENCODING_SIZE))


class AudioEncoder(keras.Model):
    """[batch, ticks, bands] level-corrected log-mel rows to [batch, ticks - 32, EMBEDDING_SIZE]."""

    def __init__(self, *, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        spectrum: list[Any] = []
        for filters, bands in ((24, 5), (32, 3), (48, 3)):
            spectrum.append(layers.ZeroPadding2D(((0, 0), (bands // 2, bands // 2))))
            spectrum += _conv(filters, (5, bands), (1, 2), dims=2)
        self.spectrum = keras.Sequential([keras.Input((None, FRONT_END.mel_bands, 1)), *spectrum], name="spectrum")
        self.windows = keras.Sequential(
            [
                keras.Input((None, FRONT_END.mel_bands // 8 * 48)),
                layers.Dropout(dropout),
                *_conv(128, 5, dims=1, dilation=2),
                *_conv(192, 5, dims=1, dilation=3),
                layers.Conv1D(EMBEDDING_SIZE, 1),
            ],
            name="windows",
        )

    def call(self, rows: Any, training: bool | None = None) -> Any:
        maps = self.spectrum(ops.expand_dims(rows, -1), training=training)
        flat = ops.reshape(maps, (-1, ops.shape(rows)[1] - 12, FRONT_END.mel_bands // 8 * 48))
        return self.windows(flat, training=training)


class TwoTowerModel(keras.Model):
    """Both towers, the scale of their cosine, and a head for training only, which reads lip shapes from frames.

    Outputs: `logits`, the matrix of one clip's lips and audio, and `lip_points`, the estimated shape of the lips.
    """

    def __init__(self, *, dropout: float = 0.0, shape_weight: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._teacher_logits: Callable[[dict[str, Any]], Any] | None = None
        self._teacher_share = 0.0
        self.lips = LipEncoder(dropout=dropout, name="lips")
        self.audio = AudioEncoder(dropout=dropout, name="audio")
        self.shape_head = layers.Dense(4 * LIP_POINTS, name="shape_head")
        self.shape_weight = shape_weight
        self.log_scale = self.add_weight(shape=(), initializer=keras.initializers.Constant(2.0), name="log_scale")

    def build(self, input_shape: Any) -> None:
        """The first call builds the layers."""

    def learn_from(self, teachers: Sequence[TwoTowerModel], share: float) -> None:
        """Start as the first of several trained models; `share` of the matching loss then asks for their mean."""
        self.set_weights(teachers[0].get_weights())
        self._teacher_share = share
        # A function, because Keras would count an attribute's models as parts of this one.
        self._teacher_logits = lambda x: (
            sum(teacher(x, training=False)["logits"] for teacher in teachers) / len(teachers)
        )

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> dict[str, Any]:
        """Logits [batch, lip windows, audio windows]; lip points [batch, ticks - 2, 160], see `data.lip_targets`."""
        encoded = self.lips.encode(inputs["crops"], training=training)
        lips = ops.normalize(self.lips.windows(encoded, training=training), axis=-1)
        audio = ops.normalize(self.audio(inputs["rows"], training=training), axis=-1)
        scale = ops.exp(ops.minimum(self.log_scale, 4.0))
        logits = scale * ops.matmul(lips, ops.transpose(audio, (0, 2, 1)))
        return {"logits": logits, "lip_points": self.shape_head(encoded)}

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """Loss for matching lip and audio windows in both directions, over all times of a clip, and for lip shapes."""
        logits, lip_weight, audio_valid = y_pred["logits"], y["lip_weight"], y["audio_valid"]
        matching = matching_loss(logits, y["first_match"], lip_weight, audio_valid)
        if self._teacher_logits is not None:
            teacher_logits = distillation_loss(
                logits, ops.stop_gradient(self._teacher_logits(x)), lip_weight, audio_valid
            )
            matching = (1 - self._teacher_share) * matching + self._teacher_share * teacher_logits
        return matching + self.shape_weight * shape_loss(y_pred["lip_points"], y["lip_points"])


class ShapeReader(keras.Model):
    """The part of a model that reads lip shapes from frames, for a pretraining that needs no audio."""

    def __init__(self, model: TwoTowerModel, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lips, self.head = model.lips, model.shape_head

    def build(self, input_shape: Any) -> None:
        """The model is already built."""

    def call(self, crops: Any, training: bool | None = None) -> Any:
        return self.head(self.lips.encode(crops, training=training))

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        return shape_loss(y_pred, y)


class PhoneReader(keras.Model):
    """An audio tower that classifies the phoneme in the middle of each window; only its tower is kept."""

    def __init__(self, tower: AudioEncoder, classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tower = tower
        self.head = layers.Dense(classes, name="phone_head")

    def build(self, input_shape: Any) -> None:
        """The tower is already built; the first call builds the head."""

    def call(self, rows: Any, training: bool | None = None) -> Any:
        return self.head(self.tower(rows, training=training))


def shape_loss(answer: Any, target: Any) -> Any:
    """Mean absolute error of lip landmarks, where they are known (not NaN)."""
    known = ops.cast(ops.equal(target, target), answer.dtype)
    error = ops.abs(answer - ops.where(ops.equal(target, target), target, 0.0)) * known
    return ops.sum(error) / ops.maximum(ops.sum(known), 1.0)


_TARGET_SIGMA_TICKS = 2.4  # 0.6 of a lip tick: recordings are not exact to a frame, and neighbours are nearly right
_ABSENT = -1e4


def matching_loss(logits: Any, first_match: Any, lip_weight: Any, audio_valid: Any) -> Any:
    """Cross-entropy of a softened match in both directions, without silent and invalid windows.

    logits [batch, n, m]; first_match [batch]: the (fractional) audio window of lip window 0, each further lip window
    four ticks on; lip_weight [batch, n]; audio_valid [batch, m], both 0 or 1.
    Source: multi-way matching of Chung et al., Perfect Match, 2019, made symmetric and with soft targets.
    """
    n, m = ops.shape(logits)[1], ops.shape(logits)[2]
    position = ops.cast(first_match, logits.dtype)[:, None] + AUDIO_TICKS_PER_LIP_TICK * ops.arange(
        n, dtype=logits.dtype
    )
    distance = (ops.arange(m, dtype=logits.dtype)[None, None] - position[..., None]) / _TARGET_SIGMA_TICKS
    silent, absent = _silent_and_absent(lip_weight, audio_valid, logits.dtype)
    target = ops.exp(-0.5 * distance**2) * (1 - silent) * (1 - absent)
    to_audio = _cross_entropy(target, logits + _ABSENT * absent, axis=2)
    to_lips = _cross_entropy(target, logits + _ABSENT * silent, axis=1)
    return to_audio + to_lips


def distillation_loss(logits: Any, teacher_logits: Any, lip_weight: Any, audio_valid: Any) -> Any:
    """Cross-entropy of a teacher's posterior in both directions; arguments as for `matching_loss`.

    Source: Hinton et al., Distilling the Knowledge in a Neural Network, 2015, at a temperature of 1.
    """
    silent, absent = _silent_and_absent(lip_weight, audio_valid, logits.dtype)
    found = []
    for axis, left_out in ((2, absent), (1, silent)):
        target = ops.softmax(teacher_logits + _ABSENT * left_out, axis=axis) * (1 - silent) * (1 - absent)
        found.append(_cross_entropy(target, logits + _ABSENT * left_out, axis=axis, min_mass=0.5))
    return found[0] + found[1]


def _silent_and_absent(lip_weight: Any, audio_valid: Any, dtype: Any) -> tuple[Any, Any]:
    """1 where lips [batch, n, 1] and where audio [batch, 1, m] are left out."""
    return 1 - ops.cast(lip_weight, dtype)[..., None], 1 - ops.cast(audio_valid, dtype)[:, None]


def _cross_entropy(target: Any, logits: Any, axis: int, min_mass: float = 1.0) -> Any:
    """Cross-entropy of rows with more than `min_mass`, so that the match itself is inside, not only its soft edge."""
    mass = ops.sum(target, axis=axis)
    log_probability = logits - ops.logsumexp(logits, axis=axis, keepdims=True)
    entropy = -ops.sum(target * log_probability, axis=axis) / ops.maximum(mass, 1e-6)
    weight = ops.cast(mass > min_mass, logits.dtype)
    return ops.sum(entropy * weight) / ops.maximum(ops.sum(weight), 1.0)


Model = TypeVar("Model", bound=TwoTowerModel)


def build_model(dropout: float = 0.0, shape_weight: float = 0.0) -> TwoTowerModel:
    """A two-tower model with initialized weights."""
    return with_weights(TwoTowerModel(dropout=dropout, shape_weight=shape_weight))


def with_weights(model: Model) -> Model:
    """The model after its first call, which builds its layers."""
    rows = AUDIO_TICKS_PER_LIP_TICK * (LONG_TICKS - 2 * LIP_REACH - 1) + 1 + 2 * AUDIO_REACH
    size = FRONT_END.crop_px
    model({"crops": np.zeros((1, LONG_TICKS, size, size), np.float32),
          "rows": np.zeros((1, rows, FRONT_END.mel_bands), np.float32)})  # fmt: skip
    return model


def keras_towers(model: TwoTowerModel) -> Towers:
    """The model as encoders of whole clips, in pieces of one length so that no graph is traced twice."""

    def encode(tower: keras.Model, window: int, piece: int) -> Any:
        reach = window - 1

        def run(values: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, np.dtype[np.float32]]:
            count = len(values) - reach
            if count <= 0:
                return np.empty((0, 1), np.float32)
            pieces = -(-count // piece)
            padded = np.zeros((pieces * piece + reach, *values.shape[1:]), np.float32)
            padded[: len(values)] = values
            batch = np.stack([padded[k * piece : (k + 1) * piece + reach] for k in range(pieces)])
            return np.concatenate(list(tower.predict_on_batch(batch)))[:count]

        return run

    return Towers(
        lips=encode(model.lips, FRONT_END.lip_window_ticks, 50),
        audio=encode(model.audio, FRONT_END.audio_window_ticks, 200),
        logit_scale=float(np.exp(min(float(keras.ops.convert_to_numpy(model.log_scale)), 4.0))),
    )
