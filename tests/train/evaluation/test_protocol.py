"""Known answers give known figures; blind encoders are at chance."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from device.bundles.calibration import Calibration
from device.errors import InputFormatError, InputMissingError
from tests.train.made import blind_towers, make_clip, perfect_towers, write_shard
from train.data.shards import load_split
from train.evaluation.metrics import Figures, figures, interval, median_interval
from train.evaluation.plots import save
from train.evaluation.protocol import Evaluation, evaluate, row, sliced
from train.evaluation.tables import as_markdown, as_text, tables
from train.evaluation.tracks import Window, own_offset, track
from train.offsets.table import read_offsets

CALIBRATION = Calibration(logit_scale=8.0, temperature=2.0, null_log_odds=2.0)
OFFSETS = {"a": 3, "b": -6, "c": 10}


@pytest.fixture(scope="module")
def perfect() -> Evaluation:
    clips = [
        make_clip(name, seconds=12, seed=k, offset_ticks=ticks, speaker=f"speaker {k}", corpus=f"corpus {k % 2}")
        for k, (name, ticks) in enumerate(OFFSETS.items())
    ]
    return evaluate(clips, perfect_towers(), CALIBRATION, model="perfect")


@pytest.fixture(scope="module")
def blind() -> Evaluation:
    clips = [make_clip(f"{k}", seconds=25, seed=k, speaker=f"speaker {k}") for k in range(2)]
    truth_ms = {"0": 0.0, "1": 0.0}
    return evaluate(clips, blind_towers(), CALIBRATION, model="blind", offsets_ms=truth_ms, offsets_name="x")


def test_perfect_towers_are_right_at_every_length_that_can_tell(perfect: Evaluation) -> None:
    told = [r for r in perfect.rows if r.window_s >= 1]
    assert len(perfect.rows) == 12
    assert [r.speech.within_frame for r in told] == [1.0] * 8
    assert all(r.speech.rmse_frames is not None and r.speech.rmse_frames < 0.2 for r in told)
    assert all(f.within_frame == 1.0 for f in perfect.corpora.values())
    assert set(perfect.corpora) == {"corpus 0", "corpus 1"}


def test_always_zero_scores_about_chance_and_no_better_at_longer_windows(perfect: Evaluation) -> None:
    share = {r.search_frames: r.zero.within_frame for r in perfect.rows if r.window_s == 0.2}
    assert share[15] == pytest.approx(80 / 800, abs=0.04)
    assert share[25] == pytest.approx(80 / 1600, abs=0.03)
    assert all((r.zero.within_frame or 0) < 0.3 for r in perfect.rows)


def test_perfect_encoders_get_numbers_and_unmeasurable_input_does_not(perfect: Evaluation) -> None:
    trusted = next(r.speech for r in perfect.rows if (r.window_s, r.search_frames) == (5, 25))
    assert (trusted.reported, trusted.right_of_reported) == (1.0, 1.0)
    assert trusted.rmse_of_reported_frames == trusted.rmse_frames
    assert {h.kind for h in perfect.unmeasurable} == {
        "another speaker's voice",
        "still picture",
        "silence",
        "empty room",
        "music",
    }
    assert all(h.windows and h.numbered == 0 for h in perfect.unmeasurable)


def test_shifting_ticks_and_slicing_for_real_agree(perfect: Evaluation) -> None:
    assert perfect.slicing_difference_ms is not None
    assert perfect.slicing_difference_ms < 10


@pytest.mark.parametrize("shift", [-60, -8, 0, 13, 60])
def test_a_really_sliced_clip_is_off_by_the_shift(shift: int) -> None:
    clip = make_clip(seconds=8, offset_ticks=4)
    before_ms, _ = own_offset(track(clip, perfect_towers()), CALIBRATION)
    cut = sliced(clip, shift)
    after_ms, _ = own_offset(track(cut, perfect_towers()), CALIBRATION)
    assert after_ms - before_ms == pytest.approx(10 * shift, abs=3)
    assert len(cut.samples) == len(clip.samples) - 160 * max(shift, 0)
    assert len(cut.crops) == len(clip.crops) + min(shift, 0) // 4


def test_embeddings_do_not_depend_on_where_the_cut_lies() -> None:
    clip = make_clip(seconds=6)
    whole, cut = track(clip, perfect_towers()), track(sliced(clip, 40), perfect_towers())
    same = (whole.audio[40:] == cut.audio).all(1)
    assert whole.audio_first == cut.audio_first
    assert same.mean() > 0.99  # the level tracker begins anew, which matters at the very start only


def test_pictures_can_be_cut_at_whole_lip_ticks_only() -> None:
    with pytest.raises(ValueError, match="whole lip ticks"):
        sliced(make_clip(seconds=1), -6)


def test_blind_towers_score_chance_and_get_no_number(blind: Evaluation) -> None:
    short = {r.search_frames: r.speech for r in blind.rows if r.window_s == 0.2}
    assert short[15].within_frame == pytest.approx(9 / 121, abs=0.03)
    assert short[25].within_frame == pytest.approx(9 / 201, abs=0.03)
    assert all((r.speech.within_frame or 0) < 0.6 and not r.speech.reported for r in blind.rows)


def test_truth_of_another_model_is_named_and_what_it_does_not_know_is_left_out() -> None:
    clips = [make_clip(name, seconds=5, seed=k, offset_ticks=5) for k, name in enumerate("ab")]
    found = evaluate(clips, perfect_towers(), CALIBRATION, model="m", offsets_ms={"a": 250.0}, offsets_name="o.json")
    assert "o.json" in found.truth
    assert (found.clips, found.left_out, found.unsure_truth) == (1, ("b",), ())
    assert all(not r.speech.within_frame for r in found.rows if r.window_s >= 1)  # 200 ms beside that truth
    with pytest.raises(InputFormatError, match=r"o\.json"):
        evaluate(clips, perfect_towers(), CALIBRATION, model="m", offsets_ms={"z": 0.0}, offsets_name="o.json")


def test_silent_windows_are_counted_apart() -> None:
    clip = make_clip(seconds=0.2)
    spoken = Window(clip, 10.0, 0.99, 1.0, 1.0, 200.0, False)
    silent = replace(spoken, error_ms=500.0, speech_ratio=0.2)
    found = row(1.0, 15, [spoken, silent, silent], 0)
    assert (found.speech.windows, found.speech.within_frame) == (1, 1.0)
    assert (found.silent.windows, found.silent.within_frame) == (2, 0.0)
    assert (found.zero.within_frame, found.zero.rmse_frames) == (0.0, 5.0)


def test_figures_by_hand() -> None:
    clip = make_clip(seconds=0.2)
    given = [
        Window(clip, 40.0, 0.96, 1.0, 1.0, 0.0, False),
        Window(clip, -80.0, 0.97, 1.0, 1.0, 0.0, True),
        Window(clip, 120.0, 0.95, 1.0, 1.0, 0.0, False),
        Window(clip, float("inf"), 0.0, 1.0, 0.0, -160.0, True),
    ]
    found = figures(given)
    assert (found.mae_frames, found.std_ratio) == pytest.approx((2.5, (3.25 / 3) ** 0.5))  # answers 1, -2, 3, 0
    assert found.rmse_of_reported_frames == pytest.approx(5**0.5)  # off by 1 and by 3
    assert found.brier_score == pytest.approx((0.04**2 + 0.97**2 + 0.95**2) / 4)
    assert found.calibration_error == pytest.approx(abs(0.96 + 0.97 + 0.95 - 1) / 4)
    found = replace(found, mae_frames=None, std_ratio=None, rmse_of_reported_frames=None)
    found = replace(found, brier_score=None, calibration_error=None, speakers=0)
    assert found == Figures(4, 0.25, None, None, pytest.approx(7.5**0.5), 100.0, 0.5, 0.5)  # type: ignore[arg-type]
    assert figures([]) == Figures(0)


def test_the_interval_of_a_median_is_over_speakers() -> None:
    speakers = np.repeat(["a", "b", "c"], 100).tolist()
    values = np.repeat([1.0, 2.0, 9.0], 100)
    assert median_interval(values, speakers, np.random.default_rng(0)) == (1.0, 9.0)
    steady = median_interval(np.full(300, 4.0), speakers, np.random.default_rng(0))
    assert steady == (4.0, 4.0)
    assert median_interval(values[:100], speakers[:100], np.random.default_rng(0)) == (None, None)


def test_the_interval_is_over_speakers_not_over_windows() -> None:
    speakers = [name for name in "abcd" for _ in range(100)]
    low, high = interval(np.array([name in "ab" for name in speakers]), speakers, np.random.default_rng(0))
    assert low is not None and high is not None
    assert low < 0.1 and high > 0.9
    low, high = interval(np.arange(400) % 2 == 0, speakers, np.random.default_rng(0))
    assert (low, high) == (0.5, 0.5)
    assert interval(np.ones(3, np.bool_), ["a"] * 3, np.random.default_rng(0)) == (None, None)


def test_every_table_is_in_text_and_markdown(perfect: Evaluation) -> None:
    text, markdown = as_text(perfect), as_markdown(perfect)
    titles = [title for title, _, _ in tables(perfect)]
    assert len(titles) == 7  # no table of silent windows, as there are none
    assert all(title in text and f"## {title}" in markdown for title in titles)
    assert "| 2 | " in markdown and "100.0" in text
    assert all(line.count("|") in (0, *range(5, 12)) for line in markdown.splitlines())
    assert len({len(line) for line in text.split("\n\n")[1].splitlines()[1:]}) == 1


def test_the_json_is_json_without_nan(perfect: Evaluation, blind: Evaluation) -> None:
    for found in (perfect, blind):
        again = json.loads(json.dumps(found.to_dict(), allow_nan=False))
        assert again["model"] == found.model
        assert again["rows"][0]["speech"]["windows"] == found.rows[0].speech.windows


def test_three_pictures_are_drawn(perfect: Evaluation, tmp_path: Path) -> None:
    paths = save(perfect, tmp_path)
    assert [path.name for path in paths] == ["accuracy.png", "errors.png", "reliability.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5000 for path in paths)


def test_pictures_of_hardly_anything_are_drawn_too(tmp_path: Path) -> None:
    found = evaluate([make_clip(seconds=0.4, speech=False)], perfect_towers(), CALIBRATION, model="short")
    assert len(save(found, tmp_path)) == 3
    assert as_text(found)


def test_one_split_is_loaded(tmp_path: Path) -> None:
    write_shard(make_clip("mine", seconds=1), tmp_path)
    write_shard(make_clip("other", seconds=1, split="train"), tmp_path)
    assert [clip.name for clip in load_split([tmp_path], "valid")] == ["mine"]
    with pytest.raises(InputMissingError, match="'test'"):
        load_split([tmp_path], "test")
    with pytest.raises(InputMissingError, match="prepare"):
        load_split([tmp_path / "nothing"], "valid")


def test_offsets_are_read_without_the_dropped(tmp_path: Path) -> None:
    path = tmp_path / "offsets.json"
    path.write_text('{"a": {"offset_ms": 12.5, "dropped": false}, "b": {"offset_ms": 0, "dropped": true}}')
    assert read_offsets(path) == {"a": 12.5}
    wrong_rows = ("3", '{"offset": 3}', '{"offset_ms": "x"}', '{"offset_ms": NaN}')
    for wrong in ("", "[1]", *(f'{{"a": {wrong_row}}}' for wrong_row in wrong_rows)):
        path.write_text(wrong)
        with pytest.raises(InputFormatError, match=r"offsets\.json"):
            read_offsets(path)
    with pytest.raises(InputMissingError):
        read_offsets(tmp_path / "none.json")
