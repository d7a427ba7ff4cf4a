"""`avdrift fix`: what a measurement leads to, what is refused, what is printed; and the real command on a recording."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from device.analysis.measure import Measured
from device.cli import main
from device.errors import UsageError
from device.fix.cli import plan_for
from device.fix.plan import Move
from device.records import State
from device.sync.timeline import Piece, Step, Timeline
from tests.device.fix.test_copy import delays_ms, recording
from tests.scenes import talking, tiny_bundle

ONE = Timeline((Piece(0.0, 600.0, 52.0, 1.0, 1.0, True),), (), (), 2.0, 3.0)
TOLD = {"file": "in.mkv", "state": State.MEASURING, "offset_ms": 50.0}
FOUND = Measured(TOLD, ONE, 1.4, None)
STEPPED = Timeline(
    (Piece(0.0, 300.0, 50.0, 1.0, 1.0, True), Piece(300.0, 600.0, -40.0, 1.0, 1.0, True)), (Step(300.0, -90.0),), (),
    None, None,
)  # fmt: skip


def test_a_standing_offset_is_what_measure_says_of_the_whole() -> None:
    assert plan_for(FOUND).moves == (Move(0.0, 50.0),)


def test_drift_counts_from_the_first_picture_on() -> None:
    (move,) = plan_for(replace(FOUND, timeline=replace(ONE, drift_ppm=100.0))).moves
    assert (move.from_s, move.drift_ppm) == (1.4, 100.0)
    assert move.offset_ms == pytest.approx(52 - 30), "in the middle it is 52"


def test_each_piece_moves_by_its_own() -> None:
    assert plan_for(replace(FOUND, timeline=STEPPED)).moves == (Move(1.4, 50.0), Move(301.4, -40.0))


def test_one_doubtful_piece_is_enough_to_refuse() -> None:
    doubtful = replace(STEPPED, pieces=(STEPPED.pieces[0], replace(STEPPED.pieces[1], sure=False)))
    with pytest.raises(UsageError, match=r"5:00 to 10:00.*--offset"):
        plan_for(replace(FOUND, timeline=doubtful))


@pytest.mark.parametrize("state", [State.UNCERTAIN, State.NO_FACE, State.NO_SPEECH])
def test_what_is_not_measured_is_refused(state: State) -> None:
    unsure = replace(ONE, pieces=(replace(ONE.pieces[0], sure=False),))
    with pytest.raises(UsageError, match=state.value):
        plan_for(Measured(TOLD | {"state": state, "offset_ms": None}, unsure, 0.0, None))
    with pytest.raises(UsageError, match="nothing was written"):
        plan_for(Measured(TOLD | {"state": state, "offset_ms": None}, Timeline((), (), (), None, None), 0.0, None))


def fix(*arguments: object) -> int:
    return main(["fix", *map(str, arguments)])


def test_given_numbers_need_no_measurement(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.mp4"
    assert fix(recording("mp4"), out, "--offset", "-120", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["moves"] == [{"from_s": 0.0, "offset_ms": -120.0, "drift_ppm": 0.0}]
    assert (result["sound"], result["left_out"], result["out"]) == ("shifted", [], str(out))
    assert delays_ms(out) == pytest.approx([-120.0] * 4, abs=1.5)


def test_what_was_done_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fix(recording("mkv"), tmp_path / "out.mkv", "--drift", "500") == 0
    said = capsys.readouterr().out
    assert "+500.0 ppm" in said and "re-encoded as flac" in said and "out.mkv" in said


@pytest.mark.parametrize("option", [("--offset", "nan"), ("--offset", "1e9"), ("--drift", "9000"), ("--drift", "nan")])
def test_impossible_numbers_are_refused(tmp_path: Path, option: tuple[str, str]) -> None:
    assert fix(recording("mkv"), tmp_path / "out.mkv", *option) == 2
    assert not list(tmp_path.iterdir())


def test_a_recording_that_nobody_can_be_sure_of_is_not_copied(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fix(talking(), tmp_path / "out.mkv", "--bundle", tiny_bundle()) == 2
    assert "not sure" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_what_is_no_recording_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "in.mkv").write_bytes(b"no")
    assert fix(tmp_path / "in.mkv", tmp_path / "out.mkv", "--offset", "5") == 3


def test_a_dry_run_says_what_would_be_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fix(recording("mkv"), tmp_path / "out.mp4", "--drift", "500", "--dry-run") == 0
    said = capsys.readouterr().out
    assert "would be corrected" in said and "re-encoded as flac" in said and "nothing was written" in said
    assert not list(tmp_path.iterdir())
    assert fix(recording("mkv"), tmp_path / "out.jpeg2", "--offset", "5", "--dry-run") == 2
    assert fix(recording("mkv"), tmp_path / "out.ts", "--offset", "5", "--dry-run") == 3


def test_taken_off_is_said_only_of_what_was_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fix(recording("mkv"), tmp_path / "a.mkv", "--offset", "-40") == 0
    said = capsys.readouterr().out
    assert "40.0 ms late: corrected" in said and "40 ms of audio were cut off" in said
    assert fix(recording("mkv"), tmp_path / "b.mkv", "--offset", "-40", "--no-verify") == 0
    assert "corrected" not in capsys.readouterr().out


def test_nothing_is_measured_where_the_copy_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out.mkv").write_bytes(b"dear")
    assert fix(recording("mkv"), tmp_path / "out.mkv", "--bundle", tmp_path / "none") == 2
    assert "exists already" in capsys.readouterr().err
