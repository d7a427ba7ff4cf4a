"""train/check/estimate.py: time and space grow with the work, and the batches are those of the recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from train.check.estimate import batches_of, estimate, line
from train.check.minimum import ADAPT, FROM_SCRATCH
from train.check.survey import Side, Survey
from train.retrain.check import vars_of
from train.retrain.recipe import FORM


@pytest.fixture
def values() -> dict[str, dict[str, Any]]:
    return {name: vars_of(section) for name, section in FORM.defaults().items()}


def survey(minutes: float) -> Survey:
    sides = {"train": Side(40, 20, minutes), "valid": Side(8, 4, minutes / 5)}
    return Survey(sides, {}, {}, {}, {}, None, (), 0, {}, 0.1)


def test_batches_are_those_of_all_trainings(values: dict[str, dict[str, Any]]) -> None:
    fit = 2600 + (600 + 600) / 2
    clean, student = 640 + 400 / 2, 600
    rooms = 0.15 * 2400
    assert batches_of(FROM_SCRATCH, values) == 2 * fit + 2 * clean + 1.5 * student + rooms
    values["student"]["teachers"] = 0
    values["clean"]["use"] = values["rooms"]["use"] = False
    assert batches_of(FROM_SCRATCH, values) == fit
    assert batches_of(ADAPT, values) < 150, "its encoders learn nothing, and its batches are small"


def test_more_clips_take_longer_and_more_room(values: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    work = tmp_path / "not" / "there"
    short, long = (estimate(survey(minutes), ADAPT, values, work, 0.3) for minutes in (5.0, 25.0))
    assert short.minutes < long.minutes and short.disk_bytes < long.disk_bytes
    whole = estimate(survey(25.0), FROM_SCRATCH, values, work, 0.3)
    assert whole.minutes > 3 * long.minutes
    assert 45 < estimate(survey(57.0), FROM_SCRATCH, values, work, 0.3).minutes < 90, "an hour was measured"
    assert "minutes on this machine" in line(short) and "GB are free" in line(short)
