"""The audio encoder of finished models learns rooms; everything else of them stays as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device.bundles.bundle import DEFAULT_BUNDLE
from device.errors import ModelCorruptError
from tests.train.made import make_clip
from train.data.augment import Augmentation
from train.data.shards import Clip
from train.fit.config import RoomConfig
from train.models.load import load_model
from train.models.run_files import CHECKPOINT, run_data

keras = pytest.importorskip("keras")
rooms = pytest.importorskip("train.fit.rooms")

CONFIG: dict[str, Any] = {"epochs": 1, "steps_per_epoch": 3, "stretches": 2, "warmup_steps": 1}


def clips() -> list[Clip]:
    return [make_clip(f"{k}", seconds=3, seed=k, speaker=f"{k % 2}", split="train") for k in range(3)]


def test_the_loss_is_zero_for_what_is_heard_as_before_and_grows_with_the_angle() -> None:
    target = np.random.default_rng(0).standard_normal((2, 7, 5)).astype(np.float32)
    target /= np.linalg.norm(target, axis=-1, keepdims=True)
    other = np.roll(target, 1, axis=1)
    losses = [float(rooms.room_loss((1 - part) * target + part * other, target, 10.0)) for part in (0.0, 0.1, 0.3, 1.0)]
    assert losses[0] == pytest.approx(0, abs=1e-5) and losses == sorted(losses)


def test_a_run_need_not_say_what_it_was_trained_on_but_says_nothing_damaged(tmp_path: Path) -> None:
    assert run_data(tmp_path) == {}
    for damaged in ("{", "3", "[" * 100_000):
        (tmp_path / "data.json").write_text(damaged)
        with pytest.raises(ModelCorruptError, match=r"data\.json: cannot be read"):
            run_data(tmp_path)


def test_batches_are_clean_audio_and_the_same_in_rooms_with_short_clips_joined() -> None:
    short = [make_clip(f"{k}", seconds=1, seed=k, speaker="one", split="train") for k in range(3)]
    same = Augmentation(
        noise_share=0, babble_share=0, reverb_share=0, gain_db=0, colour_db=0, log_tract=0, mask_share=0
    )
    (x,) = next(iter(rooms.RoomBatches(short, size=3, seed=1, augmentation=same)))
    assert x["clean"].shape == x["rows"].shape
    np.testing.assert_allclose(x["clean"], x["rows"], atol=1e-4)
    (x,) = next(iter(rooms.RoomBatches(short, size=3, seed=1, augmentation=Augmentation(reverb_share=1.0))))
    assert np.abs(x["clean"] - x["rows"]).mean() > 0.1


@pytest.mark.slow
def test_only_the_audio_encoder_changes_and_it_hears_rooms_better(tmp_path: Path) -> None:
    config = RoomConfig(**CONFIG | {"steps_per_epoch": 30, "warmup_steps": 5})
    before = rooms.model_of_bundle(DEFAULT_BUNDLE, clips())
    trained = rooms.fit_rooms(clips(), [], tmp_path / "run", config, DEFAULT_BUNDLE)
    assert all(map(np.array_equal, trained.lips.get_weights(), before.lips.get_weights()))
    assert not any(map(np.array_equal, trained.audio.get_weights(), before.audio.get_weights()))
    (x,) = next(iter(rooms.RoomBatches(clips(), size=8, seed=9, augmentation=Augmentation(reverb_share=1.0))))

    def cosine(model: Any) -> float:
        wanted, heard = before.audio(x["clean"], training=False), model.audio(x["rows"], training=False)
        return -float(keras.losses.CosineSimilarity()(wanted, heard))

    assert cosine(trained) > cosine(before)


@pytest.mark.slow
def test_a_run_resumes_starts_from_a_run_or_a_bundle_and_knows_the_data_of_its_start(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    rooms.fit_rooms(clips(), [], first, RoomConfig(**CONFIG), DEFAULT_BUNDLE)
    assert load_model(first).count_params() > 0
    data = json.loads((first / "data.json").read_text(encoding="utf-8"))
    assert "GRID" in data and clips()[0].corpus in data
    rooms.fit_rooms(clips(), [], second, RoomConfig(**CONFIG), first)
    rooms.fit_rooms(clips(), [], second, RoomConfig(**CONFIG | {"epochs": 2}), first)
    log = [json.loads(line) for line in (second / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["epoch"] for line in log] == [1, 2]
    assert json.loads((second / "data.json").read_text(encoding="utf-8")) == data
    assert (first / CHECKPOINT).read_bytes() != (second / CHECKPOINT).read_bytes()
