"""Perfect estimators are right, zero is not, and all see the same windows."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from device.errors import InputFormatError, InputMissingError, ModelError
from tests.train.made import make_clip, perfect_towers
from train.comparison.comparison import SHIFTS_PER_WINDOW, Report, compare
from train.comparison.estimators import Curve, EmbeddingEstimator, Floats, ZeroEstimator, peak_ticks
from train.comparison.load_estimators import estimator_of_bundle, estimator_of_run
from train.comparison.mouth_opening import MouthOpeningEstimator, aspect_ratio, correlation
from train.comparison.tables import as_markdown, as_text, save, tables, update_page
from train.data.shards import Clip

OFFSETS = {"a": 3, "b": -6, "c": 10}
TRUTH_MS = {name: 10.0 * ticks for name, ticks in OFFSETS.items()}
PERFECT = EmbeddingEstimator("perfect", 5e6, perfect_towers(), temperature=2.0)


@dataclass(frozen=True)
class Displaced:
    """Perfect, but its zero lies 70 ms off."""

    name: str = "displaced"
    macs_per_s: float | None = None

    def study(self, clip: Clip) -> Curve:
        return PERFECT.study(clip)

    def offset_ticks(self, curve: Floats) -> float | None:
        found = PERFECT.offset_ticks(curve)
        return None if found is None else found + 7


def clips() -> list[Clip]:
    return [
        make_clip(name, seconds=8, seed=k, offset_ticks=ticks, speaker=f"speaker {k}", corpus=f"corpus {k % 2}")
        for k, (name, ticks) in enumerate(OFFSETS.items())
    ]


@pytest.fixture(scope="module")
def report() -> Report:
    estimators = (PERFECT, Displaced(), MouthOpeningEstimator("loudness"), ZeroEstimator())
    return compare(clips(), estimators, TRUTH_MS, truth="built in", lengths_s=(0.2, 1.0, 2.0, 5.0))


def test_perfect_is_right_and_zero_is_at_chance(report: Report) -> None:
    perfect, zero = report.results[0], report.results[-1]
    for frames in (15, 25):
        assert [perfect.figures[frames][s].within_frame for s in (1.0, 2.0, 5.0)] == [1.0, 1.0, 1.0]
        assert (zero.figures[frames][0.2].within_frame or 0) < 0.2
        assert (zero.figures[frames][2.0].rmse_frames or 0) > 3


def test_another_zero_is_subtracted_by_the_clips_of_the_others(report: Report) -> None:
    assert report.results[1].zero_ms == pytest.approx(70, abs=3)
    assert report.results[1].figures[25][2.0].within_frame == 1.0
    assert report.results[-1].zero_ms == 0.0


def test_all_models_have_the_same_windows(report: Report) -> None:
    counts = {
        tuple(f.windows for by_length in result.figures.values() for f in by_length.values())
        for result in report.results
    }
    assert len(counts) == 1
    assert report.results[0].figures[15][5.0].windows == 3 * SHIFTS_PER_WINDOW


def test_clips_without_a_truth_are_left_out() -> None:
    found = compare(clips(), [ZeroEstimator()], {"a": 0.0}, truth="one", lengths_s=(2.0,))
    assert (found.clips, found.left_out) == (1, ("b", "c"))
    with pytest.raises(InputFormatError, match="nobody"):
        compare(clips(), [ZeroEstimator()], {}, truth="nobody")


def test_tables_and_pictures_name_every_model(report: Report, tmp_path: Path) -> None:
    text, markdown = as_text(report), as_markdown(report)
    for result in report.results:
        assert result.model in text and f"| {result.model} |" in markdown
    assert len(tables(report)) == 9
    assert all(path.stat().st_size > 5000 for path in save(report, tmp_path))
    again = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert again["results"][0]["times_cheaper_than_syncnet"] == pytest.approx(45_055 / 5)


def test_tables_go_between_the_marks_of_a_page(report: Report, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Before\n<!-- report -->\nold\n<!-- end of report -->\nafter\n")
    for _ in range(2):
        update_page(page, report)
        text = page.read_text()
        assert text.startswith("# Before\n") and text.endswith("\nafter\n") and "old" not in text
        assert text.count("| perfect |") == 9
    page.write_text("nothing")
    with pytest.raises(InputFormatError, match="end of report"):
        update_page(page, report)
    with pytest.raises(InputMissingError):
        update_page(tmp_path / "none.md", report)


def test_an_open_mouth_is_open_whatever_its_size() -> None:
    points = np.zeros((2, 40, 2), np.float32)
    points[:, 20:31, 0] = np.linspace(0, 10, 11)  # the upper lip from corner to corner, and back below it
    points[:, 31:, 0] = np.linspace(9, 1, 9)
    points[1, 31:, 1] = 5
    assert aspect_ratio(points).tolist() == pytest.approx([0, 0.5])
    assert aspect_ratio(3 * points + 7).tolist() == pytest.approx([0, 0.5])


def test_correlation_by_hand() -> None:
    x = np.array([1, 2, 3, 4], np.float32)
    y = np.stack([2 * x, -x, np.ones(4), [1, np.nan, 3, np.nan], [np.nan, np.nan, np.nan, 1]], axis=1)
    assert correlation(x, y.astype(np.float32)).tolist() == pytest.approx([1, -1, 0, 0, 0])


def test_a_mouth_that_opens_with_the_voice_is_found() -> None:
    clip = make_clip(seconds=6)
    loud = np.repeat(np.random.default_rng(1).random(150) > 0.5, 640)  # each 40 ms
    samples = np.where(loud, 8000, 0) * np.sin(np.arange(len(loud)) * 0.4)
    gap = np.where(loud.reshape(150, 640).mean(1) > 0.5, 8.0, 0.0)
    points = np.zeros((150, 40, 2), np.float32)
    points[:, 30, 0], points[:, 31:, 1] = 20.0, gap[:, None]
    clip = replace(clip, samples=samples.astype(np.int16), lip_points=points)
    clip = replace(clip, speech=np.repeat(loud.reshape(150, 640).mean(1) > 0.5, 4), speech_first_tick=0)
    for voice in ("loudness", "activity", "level while active"):
        estimator = MouthOpeningEstimator(voice)
        curve = estimator.study(clip)
        for shift_ticks in (0, 20, -20):
            found = estimator.offset_ticks(curve(slice(25, 100), 60, shift_ticks))
            assert found == pytest.approx(shift_ticks, abs=5)


def test_a_flat_curve_has_no_peak() -> None:
    assert peak_ticks(np.zeros(9, np.float32)) is None
    assert peak_ticks(np.array([0, 1, 2, 1, 0], np.float32)) == 0.0
    assert peak_ticks(np.array([0, 0, 1, 2, 2], np.float32)) == pytest.approx(1.5)


def test_what_is_no_run_and_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json"):
        estimator_of_run(tmp_path)
    with pytest.raises(ModelError, match=r"manifest\.json"):
        estimator_of_bundle(tmp_path)
    (tmp_path / "config.json").write_text('{"model": "syncnet", "colour": "blue"}')
    with pytest.raises(ModelError, match="colour"):
        estimator_of_run(tmp_path)
