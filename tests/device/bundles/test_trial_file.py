"""Trials on disk: written atomically, by one process, and validated when read."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from device.bundles.trial import Trial, TrialState, fallen
from device.bundles.trial_file import LOCK, TRIALS, TrialFile
from tests.models.stores import FAILURES, FailingDisk, KilledHere, RecordingDisk

ONE = Trial("a" * 64, 7, "b" * 64, valid=3, speech_s=1.5, running=True)
TWO = fallen(Trial("b" * 64, 8, None), "it broke")


def by_digest(*trials: Trial) -> dict[str, Trial]:
    return {trial.digest: trial for trial in trials}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    assert TrialFile(tmp_path).read() == {} == TrialFile(tmp_path / "none").read()
    TrialFile(tmp_path).write(by_digest(ONE, TWO))
    assert TrialFile(tmp_path).read() == by_digest(ONE, TWO)
    assert [path.name for path in tmp_path.iterdir()] == [TRIALS]


def spoilt(**changes: Any) -> str:
    return json.dumps({"trials": [asdict(ONE) | changes]})


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", "null", '{"trials": 3}', '{"trials": [3]}', "[" * 100_000, '{"trials": [{}]}',
     spoilt(standing="king"), spoilt(standing=3), spoilt(digest=3), spoilt(running=1), spoilt(valid=True),
     spoilt(valid=1.5), spoilt(speech_s=float("nan")), spoilt(deaths=None), spoilt(more=1), spoilt(made_ns="1"),
     spoilt(speech_s=10**400), spoilt(valid=10**400), spoilt(made_ns=-10**30), spoilt().replace("1.5", "1e400")],
)  # fmt: skip
def test_what_is_damaged_is_none_and_is_reported(
    content: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / TRIALS).write_text(content)
    assert TrialFile(tmp_path).read() == {}
    assert TRIALS in caplog.text and "on trial again" in caplog.text
    TrialFile(tmp_path).write(by_digest(ONE))
    assert TrialFile(tmp_path).read() == by_digest(ONE)


def test_no_link_is_followed_and_no_pipe_waited_for(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text(spoilt())
    (tmp_path / TRIALS).symlink_to("elsewhere")
    assert TrialFile(tmp_path).read() == {}
    (tmp_path / TRIALS).unlink()
    os.mkfifo(tmp_path / TRIALS)
    assert TrialFile(tmp_path).read() == {}


@pytest.mark.parametrize("way", FAILURES)
def test_a_failure_at_any_step_leaves_the_old_or_the_new(way: str, tmp_path: Path) -> None:
    old, new = by_digest(ONE), by_digest(replace(ONE, standing=TrialState.PASSED), TWO)
    counted = RecordingDisk()
    TrialFile(tmp_path, counted).write(old)
    assert [method for method, _ in counted.steps] == ["write_file", "replace", "sync_folder"]
    for at in range(len(counted.steps)):
        TrialFile(tmp_path).write(old)
        try:
            TrialFile(tmp_path, FailingDisk(at, way)).write(new)
        except (OSError, KilledHere):
            assert TrialFile(tmp_path).read() in ((old,) if at == 0 else (old, new))
        TrialFile(tmp_path).write(new)
        assert TrialFile(tmp_path).read() == new


def test_one_at_a_time_keeps_the_trials(tmp_path: Path) -> None:
    first, second = TrialFile(tmp_path), TrialFile(tmp_path)
    assert not first.is_locked()
    assert first.acquire() and first.acquire() and not second.acquire()
    assert second.is_locked()
    first.release()
    assert not second.is_locked() and second.acquire()
    second.release()
    with pytest.raises(OSError, match="none"):
        TrialFile(tmp_path / "none").acquire()
    assert not TrialFile(tmp_path / "none").is_locked()


def test_a_lock_is_no_link(tmp_path: Path) -> None:
    (tmp_path / LOCK).symlink_to("elsewhere")
    with pytest.raises(OSError, match=LOCK):
        TrialFile(tmp_path).acquire()
    assert not (tmp_path / "elsewhere").exists() and not TrialFile(tmp_path).is_locked()
