"""A built-in zero is found, with a correct error, among unrelated pairs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from device.bundles.calibration import Calibration
from device.errors import InputFormatError, InputMissingError
from device.features.model_download import face_model_path
from tests.train.made import perfect_towers, write_shard
from tests.train.speakers import sayer
from train.cli import main
from train.data.clip_table import ClipRow
from train.data.prepare import prepare_clip
from train.data.shards import load_clip
from train.offsets.physical_zero import (
    OTHERS,
    Peak,
    Residuals,
    Zero,
    find_peak,
    find_zero,
    moved,
    random_effects,
    residuals,
)
from train.offsets.zero_command import zero_of_table, zero_of_towers
from train.synth.render import render_clip

# Without /p/: its burst is weak, and in a noisy clip the voice 30 ms later is taken for it.
BILABIAL = ("Bob may buy a big bag by my bed.", "A baby bear may bob above my big blue boat.")


def random() -> np.random.Generator:
    return np.random.default_rng(1)


def drawn(
    zero_ms: float, *, releases: int = 200, floor: int = 800, spread_ms: float = 15.0, units: int = 10, seed: int = 0
) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], np.ndarray[tuple[int], np.dtype[np.str_]]]:
    """Residuals of true pairs around a zero among others anywhere, and whose they are."""
    source = np.random.default_rng(seed)
    values = np.concatenate([source.normal(zero_ms, spread_ms, releases), source.uniform(-300, 300, floor)])
    return values, source.integers(0, units, len(values)).astype(np.str_)


# One corpus


@pytest.mark.parametrize("zero_ms", [-110.0, -3.0, 0.0, 52.0, 130.0])
def test_the_peak_is_found_wherever_it_lies(zero_ms: float) -> None:
    peak = find_peak(*drawn(zero_ms), random())
    assert peak is not None
    assert peak.zero_ms == pytest.approx(zero_ms, abs=4)
    assert peak.spread_ms == pytest.approx(15, abs=4)
    assert peak.events == pytest.approx(200, rel=0.3)
    assert peak.pairs == 1000


def test_the_error_that_is_said_is_the_error_that_is_made() -> None:
    found = [find_peak(*drawn(20.0, seed=seed, units=40), random()) for seed in range(16)]
    scores = np.array([(peak.zero_ms - 20.0) / peak.std_ms for peak in found if peak])
    assert len(scores) == 16
    assert 0.5 < float(np.sqrt(np.mean(scores**2))) < 1.7


def test_speakers_who_differ_make_the_error_larger() -> None:
    values, unit = drawn(0.0, units=6)
    same = find_peak(values, unit, random())
    apart = find_peak(values + 12 * np.array([int(name) % 2 for name in unit]), unit, random())
    assert same and apart and apart.std_ms > 1.5 * same.std_ms


@pytest.mark.parametrize("count", [0, 1, 30, 1000])
def test_pairs_by_chance_are_no_peak(count: int) -> None:
    values = np.random.default_rng(3).uniform(-300, 300, count)
    assert find_peak(values, np.full(count, "somebody"), random()) is None


def test_a_handful_of_releases_is_not_enough() -> None:
    assert find_peak(*drawn(0.0, releases=6, floor=20), random()) is None


# Corpora together


def test_random_effects_of_those_that_agree_is_the_weighted_mean() -> None:
    mean, error, between = random_effects(np.array([10.0, 12.0]), np.array([1.0, 2.0]))
    assert mean == pytest.approx((10 + 12 / 4) / 1.25)
    assert error == pytest.approx(1 / np.sqrt(1.25))
    assert between == 0


def test_random_effects_of_those_that_disagree_says_by_how_much() -> None:
    values = np.random.default_rng(0).normal(50, 20, 400)
    mean, error, between = random_effects(values, np.full(400, 3.0))
    assert mean == pytest.approx(50, abs=3)
    assert between == pytest.approx(20, abs=2)
    assert error == pytest.approx(20 / np.sqrt(400), rel=0.1)
    assert random_effects(np.array([7.0]), np.array([2.0])) == (7.0, 2.0, 0.0)


def given(zeros_ms: dict[str, float], floor: int = 400) -> Residuals:
    parts = [drawn(zero_ms, floor=floor, seed=seed) for seed, zero_ms in enumerate(zeros_ms.values())]
    corpus = np.repeat(np.array(list(zeros_ms)), [len(values) for values, _ in parts])
    unit = np.concatenate([names for _, names in parts])
    return Residuals(np.concatenate([values for values, _ in parts]), corpus, np.char.add(corpus, unit))


def test_corpora_that_agree_give_a_zero_that_is_known_well() -> None:
    zero = find_zero(given({"a": 30.0, "b": 30.0, "c": 30.0}), random())
    assert zero.zero_offset_ms == pytest.approx(30, abs=3)
    assert zero.disagreement_ms < 4
    assert zero.zero_uncertainty_ms < 8
    assert set(zero.corpora) == {"a", "b", "c"}


def test_corpora_that_disagree_are_reported_and_widen_the_uncertainty() -> None:
    zero = find_zero(given({"a": 0.0, "b": 55.0, "c": 60.0}), random())
    assert 30 < zero.zero_offset_ms < 50
    assert zero.disagreement_ms > 20 and zero.zero_uncertainty_ms > 20
    assert zero.corpora["a"].zero_ms == pytest.approx(0, abs=4)


def test_small_corpora_are_taken_together() -> None:
    small = given({"big": 20.0})
    few = [drawn(22.0, releases=8, floor=10, seed=k) for k in range(9, 13)]
    values = np.concatenate([small.residual_ms, *(v for v, _ in few)])
    corpus = np.concatenate([small.corpus, np.repeat(["w", "x", "y", "z"], 18)])
    unit = np.concatenate([small.unit, *(u for _, u in few)])
    zero = find_zero(Residuals(values, corpus, unit), random())
    assert set(zero.corpora) == {"big", OTHERS}
    assert zero.corpora[OTHERS].zero_ms == pytest.approx(22, abs=10)


def test_nothing_but_chance_is_an_error_that_says_so() -> None:
    values = np.random.default_rng(3).uniform(-300, 300, 500)
    for chance in (values, values[:0]):
        names = np.full(len(chance), "x")
        with pytest.raises(InputFormatError, match="no peak"):
            find_zero(Residuals(chance, names, names), random())


def test_one_corpus_is_drawn_towards_the_others_as_far_as_it_is_unsure() -> None:
    peaks = {"sure": Peak(10.0, 0.1, 15, 900, 9000), "unsure": Peak(90.0, 60.0, 15, 12, 30)}
    zero = Zero(50.0, 20.0, 20.0, peaks)
    assert zero.of("sure") == pytest.approx(10, abs=0.1)
    assert 50 < zero.of("unsure") < 60
    assert zero.of("never seen") == 50.0
    assert Zero(50.0, 5.0, 0.0, peaks).of("unsure") == 50.0


def test_a_table_is_moved_corpus_by_corpus() -> None:
    zero = Zero(50.0, 20.0, 20.0, {"a": Peak(10.0, 1e-6, 15, 900, 9000)})
    table = {"x": {"offset_ms": 12.0, "gain": 0.3, "dropped": False}, "y": {"offset_ms": -5.0, "dropped": True}}
    assert moved(table, {"x": "a"}, zero) == {
        "x": {"offset_ms": 2.0, "gain": 0.3, "dropped": False}, "y": {"offset_ms": -55.0, "dropped": True},
    }  # fmt: skip


# Clips


@pytest.mark.parametrize("early_ms", [-120.0, 0.0, 80.0])
def test_offsets_that_are_right_have_their_zero_at_zero(early_ms: float) -> None:
    clips = [sayer(f"p{k}", early_ms=early_ms, seed=k) for k in range(4)]
    zero = find_zero(residuals(clips, {clip.name: early_ms for clip in clips}), random())
    assert zero.zero_offset_ms == pytest.approx(0, abs=6)
    # What gives 50 ms too much for audio that is early has its zero at +50.
    zero = find_zero(residuals(clips, {clip.name: early_ms + 50 for clip in clips}), random())
    assert zero.zero_offset_ms == pytest.approx(50, abs=6)


def test_clips_without_an_offset_or_lips_say_nothing() -> None:
    clips = [sayer("p", early_ms=0.0), sayer("q", early_ms=0.0)]
    blind = replace(clips[1], lip_points=np.full_like(clips[1].lip_points, np.nan))
    assert set(residuals([clips[0], blind], {"q": 0.0, "other": 1.0}).unit.tolist()) == set()
    assert set(residuals(clips, {"q": 0.0}).unit.tolist()) == {"q"}


def test_a_label_with_very_many_clips_is_not_one_speaker() -> None:
    clips = [sayer(f"c{k}", early_ms=0.0, releases=2, speaker="pool", seed=k) for k in range(21)]
    clips.append(sayer("d", early_ms=0.0, releases=2, speaker="she"))
    units = set(residuals(clips, {clip.name: 0.0 for clip in clips}).unit.tolist())
    assert "pool" not in units and {"c0", "c20", "she"} <= units


@pytest.mark.slow
@pytest.mark.skipif(not face_model_path().is_file(), reason="the face detector's model is not here")
def test_faces_whose_truth_is_known_have_their_zero_where_it_is(tmp_path: Path) -> None:
    """The whole chain, from pictures and sound of rendered people to the zero; each early by its own amount."""
    clips, truth_ms = [], {}
    for seed, early_ms in ((3, 120.0), (4, -160.0)):
        name = f"face{seed}"
        render_clip(tmp_path / f"{name}.mkv", seed=seed, duration_s=9.0, fps=25.0, size=(240, 240),
                    offset_schedule=((0.0, early_ms),), script=BILABIAL)  # fmt: skip
        row = ClipRow(f"{name}.mkv", name, "train", "rendered")
        prepare_clip(tmp_path / f"{name}.mkv", row, tmp_path / f"{name}.npz")
        clips.append(load_clip(tmp_path / f"{name}.npz"))
        truth_ms[name] = early_ms
    zero = find_zero(residuals(clips, truth_ms), random())
    assert zero.zero_offset_ms == pytest.approx(0, abs=10)


# The command


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    folder = tmp_path / "shards"
    for k in range(4):
        write_shard(sayer(f"p{k}", early_ms=60.0, seed=k), folder)
    return folder


def test_a_table_of_clean_is_moved_to_physics(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, out = tmp_path / "offsets.json", tmp_path / "moved.json"
    table.write_text(json.dumps({f"p{k}": {"offset_ms": 100.0, "dropped": k == 3} for k in range(4)}))
    assert main(["zero", str(shards), "--offsets", str(table), "--out", str(out)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["zero_offset_ms"] == pytest.approx(40, abs=6)
    assert said["corpora"]["made"]["events"] > 20
    found = json.loads(out.read_text())
    assert found["p0"]["offset_ms"] == pytest.approx(60, abs=6)
    assert found["p3"]["dropped"] is True
    assert sorted(path.name for path in tmp_path.iterdir()) == ["moved.json", "offsets.json", "shards"]


def test_the_zero_of_towers_goes_into_the_calibration(shards: Path, tmp_path: Path) -> None:
    file = tmp_path / "calibration.json"
    file.write_text(json.dumps(Calibration(temperature=3.0).to_dict() | {"more": 1}))
    # Towers that read letters see none here, and trust themselves in nothing.
    with pytest.raises(InputFormatError, match="no peak"):
        zero_of_towers([shards], perfect_towers(), Calibration(), file, 0)
    assert json.loads(file.read_text())["zero_offset_ms"] == 0.0, "nothing is written where nothing was found"


def test_an_invalid_calibration_is_noticed_before_the_work(shards: Path, tmp_path: Path) -> None:
    file = tmp_path / "calibration.json"
    file.write_text("{}")
    with pytest.raises(InputFormatError, match="not a calibration"):
        zero_of_towers([shards], perfect_towers(), Calibration(), file, 0)


def test_shards_without_landmarks_or_none_at_all_are_named(tmp_path: Path) -> None:
    (tmp_path / "offsets.json").write_text('{"blind": {"offset_ms": 0}}')
    with pytest.raises(InputMissingError, match="no shards"):
        zero_of_table([tmp_path / "empty"], tmp_path / "offsets.json", None, 0)
    clip = sayer("blind", early_ms=0.0)
    write_shard(replace(clip, lip_points=np.full_like(clip.lip_points, np.nan)), tmp_path / "shards")
    with pytest.raises(InputFormatError, match="no clip has lip landmarks"):
        zero_of_table([tmp_path / "shards"], tmp_path / "offsets.json", None, 0)


@pytest.mark.parametrize("arguments", [["--out", "m.json"], ["--offsets", "o.json", "--calibration", "c.json"]])
def test_options_that_do_not_go_together_are_exit_code_2(
    arguments: list[str], shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["zero", str(shards), *arguments]) == 2
    assert "--calibration with towers" in capsys.readouterr().err
