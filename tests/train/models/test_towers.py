"""train/models/towers.py: the input of each encoder, and a loss that ignores invalid pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from device.features.contract import FRONT_END
from train.data.landmarks import LIP_POINTS

keras = pytest.importorskip("keras")
towers = pytest.importorskip("train.models.towers")

SIGMA = 2.4  # ticks of the target
N = 9
M = 4 * (N - 1) + 1
Floats = npt.NDArray[np.float32]
Reals = npt.NDArray[np.floating[Any]]


@pytest.fixture(scope="module")
def model() -> Any:
    keras.utils.set_random_seed(0)
    made = towers.TwoTowerModel(shape_weight=1.0)
    made({"crops": crops(6), "rows": rows(37)})
    for layer in made._flatten_layers():  # so that no unit is silent by chance
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.beta.assign(layer.beta + 1.0)
    return made


def crops(ticks: int, seed: int = 0) -> Floats:
    size = FRONT_END.crop_px
    return np.random.default_rng(seed).standard_normal((1, ticks, size, size), np.float32)


def rows(ticks: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal((1, ticks, FRONT_END.mel_bands), np.float32)


def array(tensor: Any) -> Floats:
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def loss(logits: Reals, first_match: float = 0.0, lips: Floats | None = None, audio: Floats | None = None) -> float:
    lip_weight = np.ones((1, N), np.float32) if lips is None else lips[None]
    audio_valid = np.ones((1, M), np.float32) if audio is None else audio[None]
    match = np.array([first_match], np.float32)
    return float(array(towers.matching_loss(logits[None].astype(np.float32), match, lip_weight, audio_valid)))


def log_target(first_match: float = 0.0) -> npt.NDArray[np.float64]:
    return np.asarray(-0.5 * ((np.arange(M) - first_match - 4 * np.arange(N)[:, None]) / SIGMA) ** 2)


def entropy(log_mass: npt.NDArray[np.float64], axis: int) -> float:
    share = np.exp(log_mass)
    share /= share.sum(axis, keepdims=True)
    return float(-(share * np.log(share)).sum(axis).mean())


@pytest.mark.parametrize("ticks", [5, 6, 17])
def test_one_lip_embedding_for_each_five_ticks(model: Any, ticks: int) -> None:
    assert array(model.lips(crops(ticks))).shape == (1, ticks - 4, towers.EMBEDDING_SIZE)


@pytest.mark.parametrize("ticks", [33, 34, 60])
def test_one_audio_embedding_for_each_33_ticks(model: Any, ticks: int) -> None:
    assert array(model.audio(rows(ticks))).shape == (1, ticks - 32, towers.EMBEDDING_SIZE)


@pytest.mark.parametrize(("kind", "window"), [("lips", 5), ("audio", 33)])
def test_an_embedding_sees_its_own_window_and_all_of_it(model: Any, kind: str, window: int) -> None:
    tower, make = (model.lips, crops) if kind == "lips" else (model.audio, rows)
    ticks = 2 * window + 3
    values = make(ticks)
    before = array(tower(values))[0]
    for tick in (0, window - 1, window + 1, ticks - 1):
        changed = values.copy()
        changed[:, tick] += 2 * make(1, seed=9)[:, 0]
        differs = np.abs(array(tower(changed))[0] - before).max(1) > 1e-4
        expected = [k <= tick < k + window for k in range(ticks - window + 1)]
        assert differs.tolist() == expected, tick


def test_logits_are_cosines_times_the_learnt_scale(model: Any) -> None:
    logits = array(model({"crops": crops(8), "rows": rows(45)})["logits"])
    assert logits.shape == (1, 4, 13)
    assert np.abs(logits).max() <= np.exp(float(array(model.log_scale))) + 1e-3
    lips, audio = array(model.lips(crops(8)))[0], array(model.audio(rows(45)))[0]
    cosine = lips[1] @ audio[5] / np.linalg.norm(lips[1]) / np.linalg.norm(audio[5])
    assert logits[0, 1, 5] == pytest.approx(np.exp(2.0) * cosine, abs=1e-3)


@pytest.mark.parametrize("first_match", [0.0, 0.4, -0.5])
def test_perfect_logits_leave_the_entropy_of_the_target(first_match: float) -> None:
    target = log_target(first_match)
    expected = entropy(target, 1) + entropy(target, 0)
    assert loss(target, first_match) == pytest.approx(expected, rel=0.02)
    assert loss(np.zeros((N, M))) == pytest.approx(np.log(M) + np.log(N), rel=1e-4)
    assert loss(target, first_match) < loss(0.5 * target, first_match)
    assert loss(target, first_match) < loss(2.0 * target, first_match)


def test_logits_of_another_offset_cost_more() -> None:
    right = loss(log_target())
    assert right < loss(log_target(2.0)) < loss(log_target(8.0))
    assert right < loss(log_target(-2.0)) < loss(log_target(-8.0))


def test_the_loss_is_the_same_with_time_reversed() -> None:
    logits = np.random.default_rng(0).standard_normal((N, M))
    assert loss(logits, 0.3) == pytest.approx(loss(logits[::-1, ::-1], -0.3), rel=1e-5)


def test_invalid_audio_and_silent_lips_have_no_influence() -> None:
    random = np.random.default_rng(0)
    logits = random.standard_normal((N, M))
    lips, audio = np.ones(N, np.float32), np.ones(M, np.float32)
    lips[[0, 5]], audio[20:27] = 0, 0
    before = loss(logits, 0.0, lips, audio)
    changed = logits.copy()
    changed[[0, 5]] += 5 * random.standard_normal((2, M))
    changed[:, 20:27] += 5 * random.standard_normal((N, 7))
    assert loss(changed, 0.0, lips, audio) == pytest.approx(before, rel=1e-5)
    assert loss(changed) != pytest.approx(loss(logits), rel=1e-2)


@pytest.mark.parametrize("what", ["lips", "audio"])
def test_nothing_to_learn_from_is_no_loss(what: str) -> None:
    logits = np.random.default_rng(0).standard_normal((N, M))
    lips = np.zeros(N, np.float32) if what == "lips" else None
    audio = np.zeros(M, np.float32) if what == "audio" else None
    assert loss(logits, 0.0, lips, audio) == 0.0


def test_a_batch_weighs_each_window_alike() -> None:
    logits = np.stack([log_target(), np.zeros((N, M))]).astype(np.float32)
    both = float(array(towers.matching_loss(
        logits, np.zeros(2, np.float32), np.ones((2, N), np.float32), np.ones((2, M), np.float32)
    )))  # fmt: skip
    assert both == pytest.approx((loss(logits[0]) + loss(logits[1])) / 2, rel=1e-4)


def taught(logits: Reals, told: Reals, lips: Floats, audio: Floats) -> float:
    both = (values[None].astype(np.float32) for values in (logits, told))
    return float(array(towers.distillation_loss(*both, lips[None], audio[None])))


def test_distillation_is_the_cross_entropy_in_both_directions_over_valid_pairs() -> None:
    random = np.random.default_rng(3)
    logits, told = random.normal(0, 2, (2, N, M))
    lips, audio = np.ones(N, np.float32), np.ones(M, np.float32)
    lips[[0, 3]], audio[[1, 2, M - 1]] = 0, 0
    seen, heard = lips > 0, audio > 0
    expected = 0.0
    for axis in (0, 1):
        p, q = (values[seen][:, heard] for values in (logits, told))
        share = np.exp(q - np.log(np.exp(q).sum(axis, keepdims=True)))
        expected += float(-(share * (p - np.log(np.exp(p).sum(axis, keepdims=True)))).sum(axis).mean())
    assert taught(logits, told, lips, audio) == pytest.approx(expected, rel=1e-4)
    assert taught(told, told, lips, audio) < taught(logits, told, lips, audio)
    assert taught(logits, told, 0 * lips, audio) == taught(logits, told, lips, 0 * audio) == 0.0


def test_gradients_reach_every_weight_of_both_towers(model: Any) -> None:
    tf = pytest.importorskip("tensorflow")
    with tf.GradientTape() as tape:
        found = model({"crops": crops(N + 4), "rows": rows(M + 32)}, training=True)
        target = {
            "first_match": np.zeros(1, np.float32), "lip_weight": np.ones((1, N), np.float32),
            "audio_valid": np.ones((1, M), np.float32), "lip_points": np.ones((1, N + 2, 4 * LIP_POINTS), np.float32),
        }  # fmt: skip
        value = model.compute_loss(y=target, y_pred=found)
    variables = [variable.value for variable in model.trainable_variables]
    gradients = tape.gradient(value, variables)
    dead = [v.path for v, g in zip(model.trainable_variables, gradients, strict=True) if g is None or not np.any(g)]
    assert not dead
    assert len(variables) > 20


def test_shapes_cost_their_distance_where_they_are_known() -> None:
    answer, target = np.zeros((1, 2, 4), np.float32), np.full((1, 2, 4), np.nan, np.float32)
    assert float(array(towers.shape_loss(answer, target))) == 0.0
    target[0, 0, :2] = (3, -1)
    assert float(array(towers.shape_loss(answer, target))) == pytest.approx(2.0)


def test_shapes_are_read_off_each_picture_and_its_neighbours(model: Any) -> None:
    seen = crops(6)
    read = array(towers.ShapeReader(model)(seen))
    assert read.shape == (1, 4, 4 * LIP_POINTS)
    seen[:, 5] += 1
    changed = np.abs(array(towers.ShapeReader(model)(seen)) - read).max(-1)[0] > 1e-6
    assert changed.tolist() == [False, False, False, True]


def test_all_layers_fold_into_int8() -> None:
    allowed = {
        "InputLayer", "Conv1D", "Conv2D", "Dense", "BatchNormalization", "ReLU", "Flatten", "Dropout",
        "SpatialDropout2D", "ZeroPadding2D", "Sequential", "LipEncoder", "AudioEncoder", "TwoTowerModel",
    }  # fmt: skip
    found = {type(layer).__name__ for layer in towers.TwoTowerModel()._flatten_layers()}
    assert found - allowed == set()
