"""A whole build: bundles that the device accepts, a correct manifest, and refused inputs."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from convert.build import build
from convert.gate import read_gate
from convert.models.towers import examples
from convert.pack import golden_input
from convert.quantize import FORMATS
from device.bundles.bundle import FILES, MANIFEST, load_bundle
from device.bundles.gate import gate_problem
from device.errors import (
    AvdriftError,
    InputFormatError,
    InputMissingError,
    ModelContractError,
    ModelCorruptError,
    ModelMissingError,
    UsageError,
)
from device.features.contract import FRONT_END
from device.towers.macs import count_macs
from tests.convert.conftest import SECRET, write_shard
from train.data.shards import Clip, front_end, load_clips
from train.files import sha256
from train.models.towers import keras_towers

SYNCNET_MACS_PER_S = 25 * (1.56e9 + 0.24e9)  # as published


def manifest(built: Path, fmt: str = "int8") -> dict[str, Any]:
    content: dict[str, Any] = json.loads((built / fmt / MANIFEST).read_text(encoding="utf-8"))
    return content


def start(run: Path, shards: Path, out: Path, calibration: Path | None = None) -> None:
    build(run, [shards], out, name="tiny", version="0", calibration=calibration, example_count=2, max_loss=1)


@pytest.mark.parametrize("fmt", FORMATS)
def test_the_device_takes_all_bundles(fmt: str, built: Path) -> None:
    bundle = load_bundle(built / fmt)
    assert (bundle.name, bundle.version) == ("tiny", "7")
    assert {path.name for path in (built / fmt).iterdir()} == {*FILES, MANIFEST}
    assert bundle.manifest["number_format"] == fmt


def test_int8_is_small(built: Path) -> None:
    sizes = {path.name: path.stat().st_size for path in (built / "int8").iterdir()}
    assert sizes["lips.tflite"] + sizes["audio.tflite"] < 1_000_000
    assert sum(sizes.values()) < 2_000_000
    assert sizes["golden.npz"] < 200_000


def test_towers_need_less_than_a_fiftieth_of_syncnet(built: Path) -> None:
    ours = sum(count_macs((built / "int8" / f"{tower}.tflite").read_bytes()) for tower in ("lips", "audio"))
    assert ours < SYNCNET_MACS_PER_S / 50, "one run of each is one second"
    assert ours < 200e6, "what this pair was designed for"


@pytest.mark.parametrize("fmt", FORMATS)
def test_the_manifest_describes_the_tensors(fmt: str, built: Path) -> None:
    contract, bundle = manifest(built, fmt)["contract"], load_bundle(built / fmt)
    assert contract["front_end"] == FRONT_END.to_dict()
    assert contract["embedding_size"] == 128 and contract["offset_tick_ms"] == 10
    for tower, model in (("lips", bundle.lips), ("audio", bundle.audio)):
        told = contract["towers"][tower]
        assert tuple(told["input"]["shape"]) == model.input_shape
        assert tuple(told["output"]["shape"]) == model.output_shapes[0]
        assert told["macs"] == count_macs((built / fmt / f"{tower}.tflite").read_bytes()) > 10_000_000
        for side in ("input", "output"):
            assert told[side]["dtype"] == ("int8" if fmt == "int8" else "float32")
            assert (told[side]["scale"] > 0) == (fmt == "int8")
            assert told[side]["name"]


def test_the_manifest_names_the_kind(built: Path) -> None:
    assert manifest(built)["kind"] == "towers"


def test_parity_is_in_its_file_and_in_every_manifest(built: Path) -> None:
    told = json.loads((built / "parity.json").read_text(encoding="utf-8"))
    assert list(told) == list(FORMATS)
    for fmt, each in told.items():
        assert {key: value for key, value in each.items() if key != "latency_ratio"} == manifest(built, fmt)["parity"]
        assert each["bytes"] == sum((built / fmt / f"{tower}.tflite").stat().st_size for tower in ("lips", "audio"))
        assert each["macs"] == told["float32"]["macs"] > 100e6
        assert 0.01 < each["latency_ratio"] < 100
        assert set(each["parity"]["windows"]) == {"0.6", "1", "2"}, "the clips are four seconds long"
        for cosines in each["parity"]["cosines"].values():
            assert 0.5 < cosines["worst"] <= cosines["worst_percent"] <= cosines["mean"] and cosines["mean"] > 0.98
    assert told["float32"]["worst_loss"]["share"] == 0 and told["float32"]["latency_ratio"] == 1
    assert told["int8"]["bytes"] < told["dynamic"]["bytes"] * 1.2 < told["float16"]["bytes"] < told["float32"]["bytes"]


def test_parity_is_drawn(built: Path) -> None:
    picture = cv2.imread(str(built / "parity.png"))
    assert picture is not None and picture.shape[1] > 1000
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50


def test_calibration_has_the_scale_of_these_towers(built: Path, model: Any) -> None:
    assert load_bundle(built / "int8").calibration.logit_scale == pytest.approx(keras_towers(model).logit_scale)


def test_training_is_summed_up_and_nobody_named(built: Path, shards: Path, run_folder: Path) -> None:
    told = manifest(built)["training"]
    data = {"made up": {"clips": 2, "speakers": 2, "minutes": 0.1}}
    assert told == {"data": data, "config": {"epochs": 0}, "provenance": None}
    text = (built / "int8" / MANIFEST).read_text(encoding="utf-8")
    for secret in (SECRET, str(shards), str(run_folder), "clip0"):
        assert secret not in text


def test_golden_vectors_show_nobody(built: Path, shards: Path) -> None:
    """Whatever trained the towers, only made-up pictures and sounds are given away with them."""
    with np.load(built / "int8" / "golden.npz") as golden:
        for tower in ("lips", "audio"):
            given = golden[f"{tower}_in"]
            assert np.array_equal(given, golden_input(given.shape))
            assert np.ptp(golden[f"{tower}_out"]) > 0.1


@pytest.mark.parametrize("shape", [(1, 29, 64, 64), (1, 120, 40)])
def test_golden_input(shape: tuple[int, ...]) -> None:
    given = golden_input(shape)
    assert given.shape == shape and given.dtype == np.float32
    assert -1.5 <= given.min() < -1 and 1 < given.max() <= 1.5, "as far as real input mostly goes"
    assert np.array_equal(given, golden_input(shape))
    assert np.abs(np.diff(given, axis=1)).mean() > 0.3, "each tick is another"


def clips_of(folder: Path, speakers: list[str], lip_ticks: int) -> list[Clip]:
    for n, speaker in enumerate(speakers):
        write_shard(folder, f"clip{n:02}", "train", speaker, seed=n, lip_ticks=lip_ticks)
    return load_clips([folder])


def test_examples_are_stretches_of_the_front_end_s_output(tmp_path: Path) -> None:
    clip = clips_of(tmp_path, ["a"], 60)[0]
    lips, audio = examples([clip], 3).values()
    crops, _, _, rows, _ = front_end(clip)
    assert lips.shape == (8, 29, 64, 64) and audio.shape == (7, 132, 40)
    for given, whole in [*((stretch, crops) for stretch in lips[:3]), *((stretch, rows) for stretch in audio[:3])]:
        starts = [k for k in range(len(whole) - len(given) + 1) if np.array_equal(whole[k], given[0])]
        assert any(np.array_equal(whole[k : k + len(given)], given) for k in starts)
    still, blank = lips[3:5]
    assert np.array_equal(still, np.repeat(lips[0][:1], 29, 0)) and not blank.any()
    assert not audio[3].any()


def test_examples_end_with_an_empty_room(tmp_path: Path) -> None:
    lips, audio = examples(clips_of(tmp_path, ["a"], 60), 3).values()
    for picture, sound in zip(lips[5:], audio[4:], strict=True):
        assert abs(picture.mean()) < 0.1 and picture.std() > 0.3, "grain, and no mouth"
        assert 0.01 < sound.std() < 0.3 and abs(sound.mean()) < 0.3, "the running level has found the noise"
        assert abs(np.corrcoef(picture[0].ravel(), picture[1].ravel())[0, 1]) < 0.1


def test_examples_give_each_speaker_the_same_room(tmp_path: Path) -> None:
    clips = clips_of(tmp_path, ["many"] * 9 + ["one"], 30)
    dark = replace(clips[-1], crops=np.zeros_like(clips[-1].crops))
    lips = examples([*clips[:-1], dark], 10)["lips.tflite"]
    assert sum(not stretch.any() for stretch in lips[:10]) == 5


def test_examples_of_short_clips_go_on_with_their_last_tick(tmp_path: Path) -> None:
    lips, audio = examples(clips_of(tmp_path, ["a"], 10), 1).values()
    assert np.array_equal(lips[0][10:], np.repeat(lips[0][9:10], 19, 0))
    assert np.array_equal(audio[0][60:], np.repeat(audio[0][59:60], 72, 0))


def test_examples_are_the_same_every_time(tmp_path: Path) -> None:
    clips = clips_of(tmp_path, ["a", "b"], 40)
    for first, second in zip(examples(clips, 4).values(), examples(clips, 4).values(), strict=True):
        assert np.array_equal(first, second)


def with_weights(tmp_path: Path, content: bytes) -> Path:
    run = tmp_path / "run"
    run.mkdir()
    (run / "last.weights.h5").write_bytes(content)
    return run


def test_no_weights(tmp_path: Path, shards: Path) -> None:
    with pytest.raises(ModelMissingError, match=r"last\.weights\.h5: no trained weights"):
        start(tmp_path / "nowhere", shards, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weights_that_are_not_weights(tmp_path: Path, shards: Path) -> None:
    with pytest.raises(ModelCorruptError, match="not the weights of this network"):
        start(with_weights(tmp_path, b"hello" * 100), shards, tmp_path / "out")


def test_weights_cut_short(tmp_path: Path, shards: Path, run_folder: Path) -> None:
    content = (run_folder / "last.weights.h5").read_bytes()
    with pytest.raises(ModelCorruptError, match="not the weights of this network"):
        start(with_weights(tmp_path, content[: len(content) // 2]), shards, tmp_path / "out")


def test_weights_of_another_network(tmp_path: Path, shards: Path, model: Any) -> None:
    run = tmp_path / "run"
    run.mkdir()
    model.audio.save_weights(run / "last.weights.h5")
    with pytest.raises(ModelCorruptError, match="not the weights of this network"):
        start(run, shards, tmp_path / "out")


def test_no_shards(tmp_path: Path, run_folder: Path) -> None:
    with pytest.raises(InputMissingError, match="no shards"):
        start(run_folder, tmp_path, tmp_path / "out")


def test_shards_of_one_split_only(tmp_path: Path, run_folder: Path, shards: Path) -> None:
    (tmp_path / "shards").mkdir()
    shutil.copy(shards / "clip0.npz", tmp_path / "shards")
    with pytest.raises(InputMissingError, match="1 training and 0 validation clips"):
        start(run_folder, tmp_path / "shards", tmp_path / "out")


def test_out_is_a_file(tmp_path: Path, run_folder: Path, shards: Path) -> None:
    (tmp_path / "out").write_text("here first", encoding="utf-8")
    with pytest.raises(UsageError, match="out: not a folder"):
        start(run_folder, shards, tmp_path / "out")
    assert (tmp_path / "out").read_text(encoding="utf-8") == "here first"


@pytest.mark.parametrize(("config", "error"), [('{"model": "gpt"}', ModelContractError), ("[1]", ModelCorruptError)])
def test_runs_of_no_known_kind(
    config: str, error: type[AvdriftError], tmp_path: Path, shards: Path, run_folder: Path
) -> None:
    shutil.copytree(run_folder, tmp_path / "run")
    (tmp_path / "run" / "config.json").write_text(config, encoding="utf-8")
    with pytest.raises(error, match=r"config\.json"):
        start(tmp_path / "run", shards, tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (None, InputMissingError),
        ("{", InputFormatError),
        ("{}", InputFormatError),
        ('{"temperature": 1}', InputFormatError),
    ],
)
def test_calibration_that_is_none(
    content: str | None, error: type[AvdriftError], tmp_path: Path, run_folder: Path, shards: Path
) -> None:
    path = tmp_path / "calibration.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(error, match=r"calibration\.json"):
        start(run_folder, shards, tmp_path / "out", path)


GATE = {"passed": True, "verdict": "better", "sentence": "Better.", "rows": [], "hopeless": []}


@pytest.mark.parametrize(
    ("content", "message"),
    [({"passed": True}, "verdict is missing"), (GATE | {"weights_sha256": "0" * 64}, "made for other weights")],
)
def test_a_gate_of_something_else_is_refused(
    content: dict[str, Any], message: str, run_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "gate.json").write_text(json.dumps(content))
    with pytest.raises(InputFormatError, match=message):
        read_gate(tmp_path / "gate.json", run_folder)


def test_a_gate_of_these_weights_is_accepted(run_folder: Path, tmp_path: Path) -> None:
    whole = GATE | {"weights_sha256": sha256(run_folder / "last.weights.h5")}
    (tmp_path / "gate.json").write_text(json.dumps(whole))
    assert read_gate(tmp_path / "gate.json", run_folder) == whole


def test_a_build_without_a_gate_passes_none(built: Path) -> None:
    assert gate_problem(manifest(built)) == "never compared with the models before it"
