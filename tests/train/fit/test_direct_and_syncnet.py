"""SyncNet and the direct network: shapes, losses by hand, batches with the right truth, and short runs."""

from __future__ import annotations

import ctypes.util
import json
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("keras")

from device.bundles.bundle import DEFAULT_BUNDLE, load_bundle
from device.errors import ModelCorruptError, ModelMissingError
from device.sync.curve import unit
from tests.train.made import make_clip, write_shard
from train.cli import main
from train.comparison.load_estimators import bundle_macs_per_s, estimator_of_run
from train.data.shards import AUDIO_REACH, front_end
from train.fit.direct import fit_direct
from train.fit.direct_batches import concat_batches, correlation_batches, longest
from train.fit.syncnet import fit_syncnet, share_of
from train.models.direct import ConcatNet, CorrelationNet, DirectConfig, build_direct
from train.models.encoders import layer_macs
from train.models.syncnet import (
    SyncNetConfig,
    audio_network,
    build_syncnet,
    contrastive_loss,
    distances,
    lip_network,
    mfcc_matrix,
    multiway_loss,
)

CLIPS = [make_clip(f"{k}", seconds=8, seed=k, speaker=f"{k}") for k in range(3)]


def test_syncnet_has_the_published_dimensions() -> None:
    net = build_syncnet(SyncNetConfig())
    assert net.lips.input_shape == (None, 120, 120, 5)
    assert net.audio.input_shape == (None, 13, 20, 1)
    assert net.lips.output_shape == net.audio.output_shape == (None, 256)
    convolutions = (
        (118**2, 5 * 3 * 3, 96), (28**2, 96 * 5 * 5, 256),
        (13**2, 256 * 3 * 3, 512), (13**2, 512 * 3 * 3, 512), (13**2, 512 * 3 * 3, 512),
    )  # fmt: skip
    assert layer_macs(net.lips) == sum(map(prod, convolutions)) + 6 * 6 * 512 * 512 + 512 * 256


def test_the_built_in_pair_costs_at_most_a_threehundredth_of_syncnet() -> None:
    syncnet_macs_per_s = 25 * (layer_macs(lip_network(SyncNetConfig().input_px)) + layer_macs(audio_network()))
    assert syncnet_macs_per_s >= 300 * bundle_macs_per_s(load_bundle(DEFAULT_BUNDLE))


def test_mfcc_are_a_cosine_transform() -> None:
    matrix = mfcc_matrix()
    assert matrix.T @ matrix == pytest.approx(np.eye(13), abs=1e-5)
    wave = np.cos(np.pi * 3 * (np.arange(40) + 0.5) / 40)  # the third term, and no other
    assert np.flatnonzero(np.abs(wave @ matrix) > 1e-4).tolist() == [3]


def test_distances_and_contrastive_loss_by_hand() -> None:
    lips = np.array([[[0, 0], [3, 4]]], np.float32)
    audio = np.array([[[0, 0], [0, 4]]], np.float32)
    found = np.asarray(distances(lips, audio))
    assert found[0] == pytest.approx(np.array([[0, 4], [5, 3]]), abs=2e-3)
    # Genuine: 0 and 3; false: 4 and 5, of which the margin of 4.5 wants 0.5 more of the first.
    loss = contrastive_loss(found, np.array([[1, 0]]), np.ones((1, 2), np.float32), 4.5)
    assert float(loss) == pytest.approx(0.5 * (9 + 0.25) / 4, abs=1e-2)


def test_the_multiway_loss_is_least_where_each_belongs_to_its_own() -> None:
    weight = np.ones((1, 8), np.float32)
    right = -20 * np.abs(np.arange(8)[:, None] - np.arange(8)[None])[None].astype(np.float32)
    assert float(multiway_loss(right / 20, weight)) < float(multiway_loss(np.zeros_like(right), weight))
    assert float(multiway_loss(right / 20, weight)) < float(multiway_loss(np.roll(right, 2, 2) / 20, weight))


def test_a_small_share_of_the_data_is_within_a_larger_one() -> None:
    names = [{clip.name for clip in share_of(CLIPS, share)} for share in (0.3, 0.6, 1.0)]
    assert [len(found) for found in names] == [1, 2, 3]
    assert names[0] < names[1] < names[2]


def test_a_syncnet_run_goes_on_where_it_was_and_can_be_measured(tmp_path: Path) -> None:
    config = {"steps_per_epoch": 1, "stretches": 1, "lip_ticks": 8, "input_px": 64, "loss": "multiway"}
    fit_syncnet(CLIPS[:2], CLIPS[2:], tmp_path, SyncNetConfig(epochs=1, **config))  # type: ignore[arg-type]
    fit_syncnet(CLIPS[:2], CLIPS[2:], tmp_path, SyncNetConfig(epochs=2, **config))  # type: ignore[arg-type]
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in log] == [1, 2]
    assert json.loads((tmp_path / "config.json").read_text())["model"] == "syncnet"
    estimator = estimator_of_run(tmp_path)
    curve = estimator.study(make_clip(seconds=2))(slice(0, 20), 60, 0)
    assert curve.shape == (121,) and np.isfinite(curve).all()


@pytest.mark.slow
def test_syncnet_begins_with_the_weights_of_an_earlier_run(tmp_path: Path) -> None:
    config = SyncNetConfig(epochs=1, steps_per_epoch=1, stretches=1, lip_ticks=8, input_px=64, loss="multiway")
    first = fit_syncnet(CLIPS[:1], [], tmp_path / "first", config)
    still = replace(config, loss="contrastive", learning_rate=1e-12, start=str(tmp_path / "first"))
    second = fit_syncnet(CLIPS[:1], [], tmp_path / "second", still)
    for before, after in zip(first.trainable_variables, second.trainable_variables, strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-8)
    assert estimator_of_run(tmp_path / "second").name == "SyncNet, contrastive, from an earlier run, 64 px"


def test_weights_that_are_missing_or_of_another_network_are_refused(tmp_path: Path) -> None:
    config = SyncNetConfig(input_px=64, start=str(tmp_path))
    with pytest.raises(ModelMissingError, match="no trained weights"):
        fit_syncnet(CLIPS[:1], [], tmp_path / "run", config)
    for made in (lambda file: file.write_bytes(b"not HDF5"), build_direct(DirectConfig(form="linear")).save_weights):
        made(tmp_path / "last.weights.h5")
        with pytest.raises(ModelCorruptError, match="not the weights of this network"):
            fit_syncnet(CLIPS[:1], [], tmp_path / "run", config)


@pytest.mark.parametrize("far", [0, 5])
def test_linear_batches_hold_windows_that_many_frames_apart(far: int) -> None:
    """The bar's column is the letter at that tick: pictures of a window are found again at the offset."""
    config = DirectConfig(form="linear", window_ticks=20, max_offset=max(far, 1), stretches=6)
    x, y = next(concat_batches(CLIPS, config, 3, None))
    assert x["crops"].shape == (6, 20, 64, 64) and x["rows"].shape == (6, 80, 40)
    shown = x["crops"].mean(2).argmax(2) // 4
    heard = (x["rows"][:, :, 10:40:2].argmax(2))[:, ::4]
    for seen, said, offset in zip(shown, heard, y["offset_frames"].astype(int), strict=True):
        own = np.arange(max(offset, 0), 20 + min(offset, 0))  # lips at i, their sound at i - offset
        assert (seen[own] == said[own - offset]).mean() > 0.8


def test_correlation_windows_have_their_sound_at_the_true_bin() -> None:
    batches = correlation_batches(CLIPS, DirectConfig(stretches=4, none_share=0.0), 1, None)
    for _ in range(4):
        x, y = next(batches)
        n = y["lip_weight"].shape[1]
        lags = y["audio_valid"].shape[1] - 4 * (n - 1)
        shown = x["crops"].mean(2).argmax(2)[:, 2:-2] // 4
        heard = x["rows"][:, AUDIO_REACH:, 10:40:2].argmax(2)
        for seen, said, lag in zip(shown, heard, np.rint(y["lag"]).astype(int), strict=True):
            assert 0 <= lag < lags
            assert (seen == said[4 * np.arange(n) + lags - 1 - lag]).mean() > 0.8


def test_foreign_sound_is_marked_as_such() -> None:
    x, y = next(correlation_batches(CLIPS, DirectConfig(stretches=4, none_share=1.0), 1, None))
    assert x["foreign"].all() and (x["foreign"] == y["foreign"]).all()


def test_the_longest_clips() -> None:
    clips = [make_clip("short", seconds=1), make_clip("long", seconds=3)]
    assert [clip.name for clip in longest(clips, 1)] == ["long"]
    assert longest(clips, 0) == clips


def test_the_concatenation_baseline_supports_every_improvement() -> None:
    origin = DirectConfig(form="linear", max_offset=3, stretches=2)
    for config in (
        replace(origin, differences=True), replace(origin, conv_layers=1, dense_layers=0),
        replace(origin, window_ticks=50), replace(origin, form="bins"),
    ):  # fmt: skip
        x, y = next(concat_batches(CLIPS, config, 0, None))
        net = build_direct(config)
        assert isinstance(net, ConcatNet)
        assert np.asarray(net.offset_frames(net(x))).shape == y["offset_frames"].shape


def test_the_form_that_fits_begins_as_the_towers_and_can_be_measured(tmp_path: Path) -> None:
    config = DirectConfig(epochs=1, steps_per_epoch=1, stretches=2, learning_rate=0.0)
    net = fit_direct(CLIPS, [], tmp_path, config)
    assert isinstance(net, CorrelationNet)
    bundle = load_bundle(DEFAULT_BUNDLE)
    rows = front_end(CLIPS[0])[3][300:432]
    expected, found = unit(bundle.audio(rows[None])[0]), unit(np.asarray(net.audio(rows[None], training=False)))
    assert (expected * found).sum(-1).mean() > 0.9
    estimator = estimator_of_run(tmp_path)
    assert estimator.name == "direct, correlation, from the two-tower model"
    assert estimator.macs_per_s == pytest.approx(145e6, rel=0.1)
    curve = estimator.study(CLIPS[0])(slice(0, 20), 60, 0)
    assert curve.shape == (121,) and np.isfinite(curve).all()


@pytest.mark.slow
@pytest.mark.skipif(ctypes.util.find_library("espeak-ng") is None, reason="espeak-ng is not installed")
def test_the_correlation_network_can_be_pretrained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pretraining = DirectConfig(start="pretraining", shape_steps=1, phone_steps=1, phone_voices=2)
    fit_direct(CLIPS, [], tmp_path, replace(pretraining, epochs=1, steps_per_epoch=1, stretches=2))
    told = capsys.readouterr().out
    assert '"phone_steps": 1' in told and '"shape_steps": 1' in told


def test_fit_trains_the_model_that_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for clip in CLIPS[:1]:
        write_shard(make_clip(clip.name, seconds=8, split="train"), tmp_path / "shards")
    run = tmp_path / "run"
    options = ["--epochs", "1", "--steps", "1", "--stretches", "2", "--form", "linear", "--window-ticks", "10"]
    assert main(["fit", "--model", "direct", str(tmp_path / "shards"), "--out", str(run), *options]) == 0
    assert json.loads((run / "config.json").read_text())["form"] == "linear"
    assert main(["report", str(tmp_path / "shards"), "--run", str(run)]) == 4
    assert "--form correlation" in capsys.readouterr().err
    assert main(["fit", "--model", "syncnet", "x", "--out", str(run), "--margin", "0"]) == 2
    assert main(["fit", "--model=direct", "x", "--out", str(run), "--none-share", "2"]) == 2
