"""train/models/bundle_weights.py: the built-in encoders, back in Keras, give the same results as the bundle."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("keras")

from device.bundles.bundle import DEFAULT_BUNDLE, load_bundle
from device.errors import ModelContractError
from device.sync.curve import unit
from tests.train.made import make_clip
from train.data.shards import front_end
from train.models.bundle_weights import stored_weights, take_weights
from train.models.towers import build_model


def test_the_built_in_towers_answer_as_the_bundle_does() -> None:
    pair, bundle = build_model(), load_bundle(DEFAULT_BUNDLE)
    crops, _, _, rows, _ = front_end(make_clip(seconds=8))
    take_weights(pair, DEFAULT_BUNDLE, crops[None, :60], rows[None, :240])
    for model, tower, given in ((bundle.lips, pair.lips, crops[60:89]), (bundle.audio, pair.audio, rows[300:432])):
        expected, found = model(given[None])[0], np.asarray(tower(given[None], training=False))
        cosine = (unit(found) * unit(expected)).sum(-1)
        assert cosine.mean() > 0.98 and cosine.min() > 0.95, "as far as int8 is from real numbers"


def test_layers_come_in_order_with_their_biases() -> None:
    weights = stored_weights((DEFAULT_BUNDLE / "lips.tflite").read_bytes())
    assert [kernel.shape[0] for kernel, _ in weights] == [16, 24, 48, 96, 128, 192, 128]
    assert all(len(bias) == len(kernel) for kernel, bias in weights)


def test_other_towers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    crops, rows = np.zeros((1, 8, 64, 64), np.float32), np.zeros((1, 48, 40), np.float32)
    monkeypatch.setattr("train.models.bundle_weights.stored_weights", lambda _: [(np.zeros((16, 1), np.float32),) * 2])
    with pytest.raises(ModelContractError, match="where conv2d"):
        take_weights(build_model(), DEFAULT_BUNDLE, crops, rows)
