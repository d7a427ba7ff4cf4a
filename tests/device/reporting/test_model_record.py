"""device/reporting/model_record.py: counts for each bundle that survive a restart and damaged files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from device.cli import build_parser
from device.commands.model import model_command
from device.records import NS_PER_S, Reason, State
from device.reporting.model_record import RECORD_FILE, ModelRecords, read_records
from tests.models.trials import report

OLD, NEW = "towers 1 0123456789ab", "towers 2 ba9876543210"


def watch(records: ModelRecords, model: str, *states: State, seq: int = 1, **values: Any) -> None:
    for number, state in enumerate(states, seq):
        made = report(state, seq=number, model=model, **values)
        for _ in range(2):  # a report is seen more than once
            records.add(made, number * NS_PER_S)


def test_the_share_with_a_number_is_of_the_time_with_a_face_and_speech(tmp_path: Path) -> None:
    records = ModelRecords(tmp_path)
    watch(records, OLD, *[State.MEASURING] * 3, confidence=0.97)
    watch(records, OLD, State.UNCERTAIN, seq=4, confidence=0.31, reason=Reason.AMBIGUOUS)
    watch(records, OLD, State.NO_FACE, State.NO_FACE, seq=5, reason=Reason.NO_FACE)
    watch(records, OLD, State.STARTING, seq=7)
    record = records.current
    assert record is not None and (record.reports, record.heard, record.numbers, record.coverage) == (6, 4, 3, 0.75)
    assert record.confidence == (0, 0, 0, 1, 0, 0, 0, 0, 0, 3)
    assert record.reasons == {"ambiguous": 1, "no_face": 2}
    assert record.to_dict()["digest"] == "0123456789ab"


def test_counts_go_on_after_a_restart_and_each_models_have_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seq in (1, 2):
        records = ModelRecords(tmp_path)
        watch(records, OLD, State.MEASURING, seq=10 * seq, confidence=1.0)
        watch(records, NEW, State.UNCERTAIN, seq=10 * seq + 1)
        records.save()
    assert [(each.model, each.numbers, each.heard) for each in read_records(tmp_path)] == [(OLD, 2, 2), (NEW, 0, 2)]
    assert model_command(build_parser().parse_args(["model", "report", "--json", "--store", str(tmp_path)])) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(each["digest"], each["coverage"]) for each in told] == [("ba9876543210", 0.0), ("0123456789ab", 1.0)]
    assert model_command(build_parser().parse_args(["model", "report", "--store", str(tmp_path)])) == 0
    assert "a number in 100.0 % of 2 reports" in capsys.readouterr().out


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"models": [{}]}',
        '{"models": [{"model": "a", "reports": 1}]}',
        "[" * 9999,
        '{"models": [{"model": "a", "reports": 1e999, "heard": 0, "numbers": 0}]}',
        "[" + "9" * 400 + "]",
        "7" * 2_000_000,
    ],
)
def test_a_damaged_file_starts_the_count_again(tmp_path: Path, content: str) -> None:
    (tmp_path / RECORD_FILE).write_text(content)
    records = ModelRecords(tmp_path)
    assert records.current is None
    watch(records, OLD, State.MEASURING)
    records.save()
    assert read_records(tmp_path)[0].numbers == 1


def test_without_a_state_folder_nothing_is_written(tmp_path: Path) -> None:
    records = ModelRecords(None)
    watch(records, OLD, State.MEASURING)
    records.save()
    assert records.current is not None and not list(tmp_path.iterdir())
