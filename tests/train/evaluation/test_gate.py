"""The gate: worse models are called worse and refused, equal ones pass, and too little data is no pass."""

from __future__ import annotations

import json

import pytest

from device.bundles.calibration import Calibration
from tests.train.made import blind_towers, make_clip, perfect_towers
from train.data.shards import Clip
from train.evaluation.gate import BETTER, UNDECIDED, WORSE, Compared, Model, as_text, conclusion, judge
from train.evaluation.protocol import Unmeasurable

CALIBRATION = Calibration(logit_scale=8.0, temperature=2.0, null_log_odds=2.0)
PERFECT = Model("perfect", perfect_towers(), CALIBRATION)


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return [make_clip(f"{k}", seconds=8, seed=k, offset_ticks=3 * k, speaker=f"speaker {k}") for k in range(3)]


def test_the_same_models_pass_and_no_difference_is_claimed(clips: list[Clip]) -> None:
    gate = judge(clips, PERFECT, PERFECT)
    assert gate.passed and gate.verdict == UNDECIDED and "cannot be told" in gate.sentence
    assert (gate.clips, gate.speakers, gate.left_out, gate.zero_difference_ms) == (3, 3, 0, 0)
    assert all(row.new == row.old for row in gate.rows)
    assert {each.kind for each, _ in gate.unmeasurable} >= {"another speaker's voice", "still picture", "music"}
    text = as_text(gate)
    assert "right" in text and "number for music" in text and text.endswith(gate.sentence + "\n")
    json.dumps(gate.to_dict(), allow_nan=False)


def test_models_that_have_not_learnt_are_worse_however_sure_they_are(clips: list[Clip]) -> None:
    sure = Calibration(logit_scale=8.0, temperature=0.5, null_log_odds=-6.0)
    gate = judge(clips, Model("junk", blind_towers(), sure), PERFECT)
    assert not gate.passed and gate.verdict == WORSE and gate.sentence.startswith("Worse: ")


def test_models_that_learnt_more_are_better(clips: list[Clip]) -> None:
    rows = [
        Compared("right", 1.0, 200, 0.96, 0.90, 0.02, 0.1, BETTER),
        Compared("right", 2.0, 99, 1, 1, 0, 0, UNDECIDED),
    ]
    assert conclusion(rows, [], 5) == (BETTER, True, "Better: right 96.0% instead of 90.0% at 1 s.")


def test_without_clips_whose_truth_is_known_nothing_passes(clips: list[Clip]) -> None:
    junk = Model("junk", blind_towers(), CALIBRATION)
    gate = judge(clips, PERFECT, junk)
    assert not gate.passed and gate.left_out == 3 and gate.verdict == UNDECIDED and "too few clips" in gate.sentence
    assert not judge(clips[:1], PERFECT, PERFECT).passed, "one speaker says nothing of others"


@pytest.mark.parametrize(
    ("windows", "share", "old", "passed"),
    [(500, 0.021, 0.0, False), (500, 0.019, 0.0, True), (10, 0.1, 0.0, True), (400, 0.027, 0.022, True),
     (400, 0.2, 0.022, False)],
)  # fmt: skip
def test_numbers_on_unmeasurable_input_are_bounded(windows: int, share: float, old: float, passed: bool) -> None:
    rows = [Compared("right", 1.0, 200, 0.96, 0.96, -0.01, 0.01, UNDECIDED)]
    verdict, let_in, sentence = conclusion(rows, [(Unmeasurable("music", 1.0, windows, share), old)], 5)
    assert let_in == passed == (verdict != WORSE) == ("music" not in sentence)
