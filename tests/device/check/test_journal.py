"""The journal: each row once, after any interruption, and never shared by two runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device.check.journal import Journal
from device.check.row import Result, Row, identity_of, unreadable
from device.errors import UsageError
from tests.device.check.test_row import RULES


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    for name in "abc":
        (tmp_path / f"{name}.mkv").write_text(name)
    return [str(tmp_path / f"{name}.mkv") for name in "abc"]


def lines_of(path: Path) -> list[str]:
    return [json.loads(line)["file"] for line in path.read_text(encoding="ascii").splitlines()]


def written(path: Path, rows: list[Row]) -> bytes:
    with Journal(path, RULES, resume=False) as journal:
        for row in rows:
            journal.add(row)
    return path.read_bytes()


def test_a_run_goes_on_with_what_is_new_or_has_changed(tmp_path: Path, files: list[str]) -> None:
    path = tmp_path / "j.jsonl"
    written(path, [unreadable(file, "why") for file in files[:2]])
    Path(files[1]).write_text("longer than before")
    with Journal(path, RULES, resume=True) as journal:
        assert [journal.done(file) is not None for file in files] == [True, False, False]
        for file in files[1:]:
            journal.add(unreadable(file, "why"))
    assert lines_of(path) == files


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(cut=st.integers(1, 2000))
def test_a_run_that_was_killed_in_the_middle_of_a_line_loses_that_line_only(
    cut: int, tmp_path: Path, files: list[str]
) -> None:
    path = tmp_path / "j.jsonl"
    path.unlink(missing_ok=True)
    content = written(path, [unreadable(file, "why") for file in files])
    path.write_bytes(content[: max(len(content) - cut, 0)])
    whole = path.read_bytes().count(b"\n")
    with Journal(path, RULES, resume=True) as journal:
        assert [journal.done(file) is not None for file in files] == [k < whole for k in range(3)]
        for file in files[whole:]:
            journal.add(unreadable(file, "why"))
    assert lines_of(path) == files


def test_without_resume_nothing_is_overwritten(tmp_path: Path, files: list[str]) -> None:
    path = tmp_path / "j.jsonl"
    content = written(path, [unreadable(files[0], "why")])
    with pytest.raises(UsageError, match="--resume"):
        Journal(path, RULES, resume=False)
    assert path.read_bytes() == content
    with Journal(tmp_path / "new.jsonl", RULES, resume=True) as journal:
        assert journal.rows == {}, "nothing to go on with: begins"


def test_other_limits_or_another_file_are_refused_and_left_as_they_are(tmp_path: Path, files: list[str]) -> None:
    path = tmp_path / "j.jsonl"
    content = written(path, [unreadable(files[0], "why")])
    with pytest.raises(UsageError, match="other limits"):
        Journal(path, replace(RULES, search_ms=500.0), resume=True)
    huge = json.dumps({**json.loads(content), "curve": [[10**400, 0, 0]]}) + "\n"
    for text in ("file,result\n", "{}\n", "[1]\n", "[" * 100_000 + "\n", '{"file": 1, "identity": 2}\n', huge):
        other = tmp_path / "other"
        other.write_text(text)
        with pytest.raises(UsageError, match="line 1"):
            Journal(other, RULES, resume=True)
        assert other.read_text() == text
    assert path.read_bytes() == content


def test_two_runs_never_write_one_journal(tmp_path: Path, files: list[str]) -> None:
    path = tmp_path / "j.jsonl"
    path.write_bytes(written(path, [unreadable(files[0], "why")]) + b"cut")
    with Journal(path, RULES, resume=True) as first:  # writes it anew, which must not lose the lock
        with pytest.raises(UsageError, match="another avdrift check"):
            Journal(path, RULES, resume=True)
        first.add(unreadable(files[1], "why"))
    assert lines_of(path) == files[:2]


def test_a_row_knows_its_file(tmp_path: Path, files: list[str]) -> None:
    row = unreadable(files[0], "why")
    assert row.result is Result.UNREADABLE and row.identity == identity_of(files[0])
    assert identity_of(str(tmp_path / "missing"))["size"] is None
