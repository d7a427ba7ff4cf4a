"""Drift over a restart: it continues if its times are still valid, and otherwise starts again."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from device.records import NS_PER_S, DriftClass
from device.reporting.drift_file import DRIFT_FILE, SAVE_EVERY_S, Circumstances, DriftFile
from device.sync.drift import Drift, DriftState, current_drift, update
from tests.models.stores import FAILURES, FailingDisk, KilledHere, RecordingDisk

NOW = Circumstances(boot_id="one", asleep_ns=5 * NS_PER_S, window_s=5.0)
END_S = 1500


def followed(state: DriftState, from_s: int, to_s: int, drift_ppm: float = 100.0) -> tuple[DriftState, Drift]:
    drift = Drift()
    for t_s in range(from_s, to_s):
        state, drift = update(state, float(t_s), 80 + drift_ppm / 1000 * t_s + t_s % 3, 4.0, window_s=5.0)
    return state, drift


STATE, DRIFT = followed(DriftState(), 1000, END_S)


def kept(folder: Path, state: DriftState = STATE) -> Path:
    DriftFile(folder).save(state, NOW, END_S * NS_PER_S, at_once=True)
    return folder


def restored(folder: Path, now: Circumstances = NOW, now_s: float = END_S + 20) -> DriftState:
    return DriftFile(folder).restore(now, round(now_s * NS_PER_S))


def test_drift_goes_on_as_if_there_had_been_no_restart(tmp_path: Path) -> None:
    assert DRIFT.kind is DriftClass.DRIFTING
    state = restored(kept(tmp_path / "state" / "avdrift"))
    assert state == STATE
    assert followed(state, END_S + 20, END_S + 60) == followed(STATE, END_S + 20, END_S + 60)


@pytest.mark.parametrize(
    "now",
    [
        replace(NOW, boot_id="two"),
        replace(NOW, asleep_ns=NOW.asleep_ns + 3600 * NS_PER_S),
        replace(NOW, asleep_ns=0),
        replace(NOW, window_s=2.0),
    ],
    ids=["another boot", "suspended", "woken less", "another window"],
)
def test_in_other_circumstances_it_starts_again(tmp_path: Path, now: Circumstances) -> None:
    assert restored(kept(tmp_path), now) == DriftState()


def test_a_boot_that_nobody_knows_is_never_the_same(tmp_path: Path) -> None:
    nobody = replace(NOW, boot_id="unknown")
    DriftFile(tmp_path).save(STATE, nobody, 0, at_once=True)
    assert restored(tmp_path, nobody) == DriftState()


def test_times_that_have_not_come_yet_are_of_another_clock(tmp_path: Path) -> None:
    assert restored(kept(tmp_path), now_s=END_S - 2) == DriftState()


@pytest.mark.parametrize("later_s", [301, 86_400])
def test_a_state_of_long_ago_fakes_no_drift_and_no_step(tmp_path: Path, later_s: int) -> None:
    """Meanwhile the offset went anywhere: that was neither this drift nor a step."""
    state = restored(kept(tmp_path), now_s=END_S + later_s)
    assert current_drift(state, END_S + later_s) == Drift()
    for k in range(60):
        state, drift = update(state, END_S + later_s + k, -300.0 + k % 3, 4.0, window_s=5.0)
        assert drift == Drift()


def test_a_step_while_avdrift_was_away_is_a_step(tmp_path: Path) -> None:
    state, told = restored(kept(tmp_path)), []
    for t_s in range(END_S + 20, END_S + 60):
        state, drift = update(state, float(t_s), 480.0 + t_s % 3, 4.0, window_s=5.0)
        told += [drift.step_ms] if drift.step_ms is not None else []
    assert told == [pytest.approx(480 - (80 + 0.1 * END_S), abs=8)]


# Damage


def changed(**values: Any) -> bytes:
    whole = json.loads(json.dumps({"boot_id": "one", "asleep_ns": NOW.asleep_ns, "window_s": 5.0}))
    return json.dumps(whole | {"state": STATE.to_dict() | values}).encode()


def test_the_test_writes_what_can_be_read(tmp_path: Path) -> None:
    (tmp_path / DRIFT_FILE).write_bytes(changed())
    assert restored(tmp_path) == STATE


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\0" * 100, b"\xff\xfe", b"null", b"[]", b"{}", b'"drift"', b"[" * 4000, b" " * (2 << 20), changed()[:-9],
        changed(recent=[[1.0, 2.0]]), changed(recent=[[1.0, 2.0, 3.0, "4"]]), changed(recent=[[1.0, None, 3.0, 4.0]]),
        changed(recent=7), changed(recent=[[2.0, 0.0, 1.0, 0.0], [1.0, 0.0, 1.0, 0.0]]), changed(blocks=None),
        changed(filling=[[float("nan"), 0.0, 1.0, 0.0]]), changed(slope_ms_per_s=float("inf")),
        changed(slope_ms_per_s=10**400), changed(recent=[[10**400, 0.0, 1.0, 0.0]]), changed(blocks=10**400),
        changed(slope_std_ms_per_s="large"), changed(slope_ms_per_s=None),
    ],
)  # fmt: skip
def test_a_damaged_file_is_reported_and_starts_again(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / DRIFT_FILE).write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert restored(tmp_path) == DriftState()
    (line,) = caplog.messages
    assert DRIFT_FILE in line and "starts again" in line


def test_no_file_is_no_damage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert restored(tmp_path) == restored(tmp_path / "nowhere") == DriftState()
    assert not caplog.records


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (kept(tmp_path) / DRIFT_FILE).rename(tmp_path / "elsewhere")
    (tmp_path / DRIFT_FILE).symlink_to("elsewhere")
    assert restored(tmp_path) == DriftState()


@pytest.mark.parametrize("way", FAILURES)
@pytest.mark.parametrize("at", range(3))
def test_a_power_cut_or_a_full_disk_leaves_the_old_one_or_the_new_one(tmp_path: Path, at: int, way: str) -> None:
    kept(tmp_path)
    newer, _ = followed(STATE, END_S, END_S + 10)
    try:
        DriftFile(tmp_path, FailingDisk(at, way)).save(newer, NOW, END_S * NS_PER_S, at_once=True)
    except KilledHere:
        assert way.startswith("killed")
    assert restored(tmp_path) in (STATE, newer)
    kept(tmp_path, newer)
    assert restored(tmp_path) == newer, "what was left lying about is in nobody's way"


# When it is written


class Written(RecordingDisk):
    """Counts the files."""

    @property
    def count(self) -> int:
        return sum(step[0] == "replace" for step in self.steps)


def test_it_is_written_every_two_minutes_and_only_what_is_new(tmp_path: Path) -> None:
    disk = Written()
    file = DriftFile(tmp_path, disk)
    state = DriftState()
    for t_s in range(1000, 1000 + 10 * round(SAVE_EVERY_S)):
        state, _ = update(state, float(t_s), 80.0, 4.0, window_s=5.0)
        for _ in range(3):
            file.save(state, NOW, t_s * NS_PER_S)
    assert disk.count == 9
    file.save(state, NOW, END_S * NS_PER_S, at_once=True)
    file.save(state, NOW, END_S * NS_PER_S, at_once=True)
    assert disk.count == 10
    assert (tmp_path / DRIFT_FILE).stat().st_size < 40_000


def test_what_was_forgotten_is_gone_at_once(tmp_path: Path) -> None:
    """A computer that was suspended, and crashes a second later."""
    file = DriftFile(tmp_path)
    file.save(STATE, NOW, 0, at_once=True)
    file.save(DriftState(), NOW, NS_PER_S)
    assert restored(tmp_path) == DriftState()


def test_a_disk_that_refuses_is_said_once_and_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = DriftFile(tmp_path / "file" / "state")
    (tmp_path / "file").touch()
    state = STATE
    for turn in range(3):
        state = replace(state)
        file.save(state, NOW, round(turn * SAVE_EVERY_S * NS_PER_S) + 1, at_once=True)
    (line,) = caplog.messages
    assert "cannot be written" in line
    (tmp_path / "file").unlink()
    file.save(state, NOW, round(9 * SAVE_EVERY_S * NS_PER_S), at_once=True)
    assert restored(tmp_path / "file" / "state") == STATE
