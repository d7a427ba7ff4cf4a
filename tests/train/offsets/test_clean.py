"""Known offsets are found, clips that fit nothing are dropped, and the halves never share a speaker."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device.bundles.calibration import Calibration
from device.errors import InputFormatError
from tests.train.made import make_clip, perfect_towers
from train.data.shards import Clip
from train.evaluation.tracks import track

pytest.importorskip("keras")
clean = pytest.importorskip("train.offsets.clean")
fit_module = pytest.importorskip("train.fit.towers")

CALIBRATION = Calibration(logit_scale=8.0)


def clips_with_offsets(offsets_ticks: list[int], corpus: str = "corpus") -> list[Clip]:
    return [
        make_clip(f"{corpus} {k}", seconds=4, seed=k, offset_ticks=ticks, speaker=f"{corpus} {k}", corpus=corpus)
        for k, ticks in enumerate(offsets_ticks)
    ]


def curves_of(clips: list[Clip]) -> dict[str, Any]:
    found: dict[str, Any] = clean.curves([track(clip, perfect_towers()) for clip in clips])
    return found


def table_of(clips: list[Clip]) -> dict[str, Any]:
    table: dict[str, Any] = clean.offsets(clips, curves_of(clips), CALIBRATION)
    return table


def test_known_offsets_are_found_relative_to_the_middle_of_all() -> None:
    ticks = [-6, -2, 0, 0, 0, 3, 8]
    table = table_of(clips_with_offsets(ticks))
    assert [row["offset_ms"] for row in table.values()] == pytest.approx([10 * t for t in ticks], abs=6)
    assert not any(row["dropped"] for row in table.values())


def test_a_corpus_that_is_off_as_a_whole_is_shifted_as_a_whole() -> None:
    together, late = clips_with_offsets([0, 0, 1, -1, 0, 0, 0], "near"), clips_with_offsets([-15] * 5, "far")
    table = table_of(together + late)
    assert table["far 0"]["offset_ms"] - table["near 0"]["offset_ms"] == pytest.approx(-150, abs=8)


def test_what_fits_nothing_is_dropped() -> None:
    clips = clips_with_offsets([0, 1, -1, 2, 0, -2, 0])
    voice_over = replace(clips[2], samples=make_clip(seconds=4, seed=77).samples)
    silent = replace(clips[4], speech=np.zeros_like(clips[4].speech))
    table = table_of([*clips[:2], voice_over, clips[3], silent, *clips[5:]])
    assert [name for name, row in table.items() if row["dropped"]] == ["corpus 2", "corpus 4"]
    assert table["corpus 2"]["gain"] < 0.02 < table["corpus 0"]["gain"]


def test_only_speaking_windows_are_summed() -> None:
    clip = make_clip(seconds=4)
    clip.speech[200:] = False
    half = curves_of([clip])[clip.name]
    whole = curves_of([make_clip(seconds=4)])["made"]
    assert half[1] == 48 and whole[1] == 96
    assert half[0].max() == pytest.approx(whole[0].max() / 2, rel=0.2)
    silent = replace(clip, speech=np.zeros_like(clip.speech))
    curve, count = curves_of([silent])[clip.name]
    assert count == 0 and not curve.any()


def test_nothing_but_silence_is_dropped_without_a_number_that_is_not_one() -> None:
    silent = [make_clip("a", seconds=2, speech=False)]
    row = table_of(silent)["a"]
    assert row["dropped"] and row["offset_ms"] == 0.0
    json.dumps(row, allow_nan=False)


def test_a_speaker_is_in_one_half_and_a_pool_of_many_is_split_by_clip() -> None:
    clips = [replace(make_clip(seconds=0.2), name=f"clip {k}", speaker="one label") for k in range(60)]
    assert len({clean.fold_of(clip, 20) for clip in clips}) == 1
    assert 15 < sum(clean.fold_of(clip, 60) for clip in clips) < 45
    assert {clean.fold_of(replace(clip, speaker=clip.name), 1) for clip in clips} == {0, 1}


def test_the_confidence_is_fitted_on_what_was_kept_and_is_long_enough() -> None:
    clips = clips_with_offsets([0, 2, -2, 1, -1, 0])
    tracks = [track(clip, perfect_towers()) for clip in clips]
    table = clean.offsets(clips, clean.curves(tracks), CALIBRATION)
    dropped = {name: row | {"dropped": True} for name, row in table.items()}
    with pytest.raises(InputFormatError, match="fewer than 20 windows"):
        clean.confidence(tracks, dropped)
    long_enough = [track(replace(clip, name=f"{k}"), perfect_towers()) for k, clip in enumerate(long_clips(6))]
    found = clean.confidence(long_enough, {str(k): {"dropped": False} for k in range(6)})
    assert found.calibration.temperature > 0 and found.right_of_reported == 1.0


def long_clips(count: int) -> list[Clip]:
    return [make_clip(f"{k}", seconds=6, seed=k, speaker=f"speaker {k}") for k in range(count)]


@pytest.mark.slow
def test_both_halves_are_trained_and_measured_by_each_other(tmp_path: Path) -> None:
    clips = [make_clip(f"{k}", seconds=12, seed=k, speaker="s" * (k + 1), split="train") for k in range(4)]
    assert {clean.fold_of(clip, 1) for clip in clips} == {0, 1}
    config = fit_module.FitConfig(epochs=1, steps_per_epoch=1, frames_per_batch=60, warmup_steps=0, shape_steps=2)
    earlier = {
        "0": {"offset_ms": 7.0, "gain": 1.0, "dropped": False},
        "9": {"offset_ms": 0, "gain": 0, "dropped": True},
    }
    tracks = clean.tracks_by_halves(clips, [], config, tmp_path / "work")
    with pytest.raises(InputFormatError, match="have not learnt"):  # from one batch
        clean.clean(tracks, clean.Calibration(), tmp_path / "offsets.json", earlier=earlier)
    table = json.loads((tmp_path / "offsets.json").read_text())
    assert set(table) == {clip.name for clip in clips} | {"9"}
    assert table["9"]["dropped"] and table["0"] != earlier["0"], "what is measured again is replaced"
    assert all(set(row) == {"offset_ms", "gain", "dropped"} for row in table.values())
    assert all((tmp_path / "work" / f"half{half}" / "last.weights.h5").is_file() for half in (0, 1))


@pytest.mark.parametrize(("gain", "cause"), [(0.003, "have not learnt.*more batches"), (0.019, "fits their lips")])
def test_who_drops_nearly_all_clips_says_why(gain: float, cause: str, tmp_path: Path) -> None:
    table = {f"{k}": {"offset_ms": 0.0, "gain": gain, "dropped": k > 0} for k in range(24)}
    with pytest.raises(InputFormatError, match=f"clean dropped 23 of 24 clips because .*{cause}"):
        clean.require_kept(table, tmp_path / "offsets.json")
    some = {name: row | {"dropped": int(name) > 5} for name, row in table.items()}
    clean.require_kept(some, tmp_path / "offsets.json")
