"""Plans: where audio belongs, and invalid plans."""

from __future__ import annotations

import pytest

from device.fix.plan import Move, Plan


def test_early_sound_belongs_later() -> None:
    assert Move(0.0, 80.0).to_s(10.0) == pytest.approx(10.08)
    assert Move(0.0, -80.0).to_s(10.0) == pytest.approx(9.92)


def test_drift_counts_from_where_the_move_begins() -> None:
    move = Move(100.0, 20.0, 200.0)
    assert move.to_s(100.0) == pytest.approx(100.02)
    assert move.to_s(1100.0) == pytest.approx(1100.02 + 0.2)


def test_only_one_move_without_drift_is_a_shift() -> None:
    assert Plan((Move(0.0, 12.0),)).shift_ms == 12
    assert Plan((Move(0.0, 12.0, 50.0),)).shift_ms is None
    assert Plan((Move(0.0, 12.0), Move(5.0, 12.0))).shift_ms is None


@pytest.mark.parametrize(
    "moves",
    [
        (),
        (Move(5.0, 0.0), Move(5.0, 1.0)),
        (Move(5.0, 0.0), Move(1.0, 1.0)),
        (Move(0.0, 0.0, 5001.0),),
        (Move(0.0, float("nan")),),
        (Move(0.0, 0.0, float("nan")),),
    ],
)
def test_impossible_plans_are_refused(moves: tuple[Move, ...]) -> None:
    with pytest.raises(ValueError, match="plan"):
        Plan(moves)
