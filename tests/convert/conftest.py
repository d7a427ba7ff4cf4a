"""One build for all tests of conversion: a model with random weights, and synthetic clips as `prepare` writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from convert.cli import main
from device.features.contract import AUDIO_RATE_HZ, FRONT_END
from train.data.augment import MARGIN_PX
from train.data.landmarks import LIP_POINTS
from train.data.shards import load_clips
from train.fit.loop import training_data
from train.models.towers import build_model

LIP_TICKS = 100
SECRET = "somebody's name"  # speakers are counted in a manifest, never named


def write_shard(folder: Path, name: str, split: str, speaker: str, seed: int, lip_ticks: int = LIP_TICKS) -> None:
    """A clip of a moving pattern with swelling noise, speech throughout."""
    random = np.random.default_rng(seed)
    size = FRONT_END.crop_px + 2 * MARGIN_PX
    coarse = random.integers(40, 216, (lip_ticks, size // 8, size // 8))
    swell = np.repeat(random.uniform(0, 0.3, lip_ticks * 4), AUDIO_RATE_HZ // 100)
    np.savez(
        folder / f"{name}.npz",
        crops=np.kron(coarse, np.ones((1, 8, 8))).astype(np.uint8),
        valid=np.ones(lip_ticks, np.bool_),
        lip_points=np.full((lip_ticks, LIP_POINTS, 2), np.nan, np.float32),
        first_lip_tick=0,
        samples=(32767 * swell * random.uniform(-1, 1, len(swell))).astype(np.int16),
        samples_t_ns=0,
        speech=np.ones(lip_ticks * 4, np.bool_),
        speech_first_tick=0,
        meta=json.dumps({"speaker": speaker, "split": split, "corpus": "made up", "front_end": FRONT_END.to_dict()}),
    )


def random_model(seed: int = 1) -> Any:
    """A pair whose batch normalisations are not the identity, so that folding them is put to the test."""
    keras.utils.set_random_seed(seed)
    model, random = build_model(), np.random.default_rng(seed)
    for weight in model.weights:
        if weight.path.endswith(("gamma", "moving_variance")):
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
        elif weight.path.endswith(("beta", "moving_mean")):
            weight.assign(random.normal(0, 0.1, weight.shape))
    return model


@pytest.fixture(scope="session")
def model() -> Any:
    return random_model()


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory, model: Any, shards: Path) -> Path:
    folder = tmp_path_factory.mktemp("run")
    model.save_weights(folder / "last.weights.h5")
    clips = [clip for clip in load_clips([shards]) if clip.split == "train"]
    (folder / "data.json").write_text(json.dumps(training_data(clips)), encoding="utf-8")
    (folder / "config.json").write_text('{"epochs": 0}', encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    for n, (split, speaker) in enumerate([("train", "a"), ("train", SECRET), ("valid", "c"), ("valid", "d")]):
        write_shard(folder, f"clip{n}", split, speaker, n)
    return folder


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, run_folder: Path, shards: Path) -> Path:
    """What one call of the command leaves; random weights are near chance, so any loss is allowed."""
    out = tmp_path_factory.mktemp("out") / "not" / "there yet"
    options = ["--examples", "12", "--max-loss", "1", "--name", "tiny", "--model-version", "7"]
    assert main(["build", str(run_folder), "--shards", str(shards), "--out", str(out), *options]) == 0
    return out
