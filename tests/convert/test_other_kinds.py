"""SyncNet and the direct network as bundles: built with random weights, verified, and refused where they cannot run."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.cli import main
from convert.kinds import KINDS
from convert.models.syncnet import windows_of
from convert.models.trained import open_run
from device.bundles.bundle import load_bundle
from device.bundles.model_kinds import DIRECT
from device.cli import main as avdrift
from device.errors import ModelContractError
from device.sync.curve import unit
from train.models.direct import DirectConfig, build_direct
from train.models.syncnet import SyncNetConfig, build_syncnet, distance_evidence


def run_of(folder: Path, config: Any, net: Any) -> Path:
    folder.mkdir()
    net.save_weights(folder / "last.weights.h5")
    (folder / "config.json").write_text(json.dumps(asdict(config)), encoding="utf-8")
    return folder


def built(run: Path, shards: Path, out: Path) -> Path:
    options = ["--examples", "4", "--max-loss", "1", "--name", "tiny"]
    assert main(["build", str(run), "--shards", str(shards), "--out", str(out), *options]) == 0
    return out


@pytest.mark.slow
def test_the_direct_network(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = DirectConfig()
    net = build_direct(config)
    out = built(run_of(tmp_path / "run", config, net), shards, tmp_path / "out")
    assert main(["verify", str(out / "int8")]) == 0
    bundle = load_bundle(out / "float32", (DIRECT,))
    crops = np.random.default_rng(0).standard_normal((1, 29, 64, 64), np.float32)
    expected = np.asarray(net.lips(crops, training=False))
    np.testing.assert_allclose(bundle.models["lips"](crops)[0], expected, atol=1e-4, err_msg="the pool as convolution")
    left = json.loads((out / "parity.json").read_text(encoding="utf-8"))["int8"]["left_by_xnnpack"]
    assert left == {"lips.tflite": [], "audio.tflite": [], "head.tflite": []}
    with pytest.raises(ModelContractError, match="models of kind 'direct'"):
        load_bundle(out / "int8")


def test_the_concatenation_baseline_cannot_be_a_bundle(tmp_path: Path) -> None:
    config = DirectConfig(form="linear")
    with pytest.raises(ModelContractError, match="form 'linear' cannot be used on a device"):
        open_run(run_of(tmp_path / "run", config, build_direct(config)))


@pytest.mark.slow
def test_syncnet(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = SyncNetConfig(loss="multiway", input_px=48)
    net = build_syncnet(config)
    out = built(run_of(tmp_path / "run", config, net), shards, tmp_path / "out")
    assert main(["verify", str(out / "int8")]) == 0
    assert avdrift(["measure", "talk.mp4", "--bundle", str(out / "int8")]) == 4
    assert "models of kind 'syncnet', and only towers can be used here" in capsys.readouterr().err
    bundle = load_bundle(out / "float32", KINDS)
    rows = np.random.default_rng(0).standard_normal((1, 33, 40), np.float32)
    expected = np.asarray(net.embed_audio(rows, training=False))
    np.testing.assert_allclose(unit(bundle.audio(rows)[0]), unit(expected), atol=1e-4)


def test_syncnets_windows_are_its_own() -> None:
    net = build_syncnet(SyncNetConfig(input_px=48))
    crops = np.random.default_rng(0).standard_normal((1, 5, 64, 64), np.float32)
    wrapped = np.asarray(windows_of(net)["lips.tflite"](crops, training=False))
    np.testing.assert_allclose(wrapped, np.asarray(net.embed_lips(crops, training=False)), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("offset", [0, 7, -5])
def test_the_nearest_sound_has_the_most_evidence(offset: int, normalized: bool) -> None:
    known = np.random.default_rng(1).standard_normal((400, 16)).astype(np.float32)
    lips, audio = known[100 + 4 * np.arange(10)], known[60 + offset : 300]
    flags = np.ones(10, np.bool_), np.ones(len(audio), np.bool_)
    rows = distance_evidence(lips, flags[0], 25, audio, flags[1], 60, 20, normalized=normalized, scale=1.0)
    assert rows.shape == (10, 41) and (rows.argmax(1) == 20 + offset).all()
    np.testing.assert_allclose(rows.sum(1), 0, atol=1e-3)
    assert not distance_evidence(
        lips, ~flags[0], 25, audio, flags[1], 60, 20, normalized=normalized, scale=1.0
    ).any(), "lips that were not seen"
