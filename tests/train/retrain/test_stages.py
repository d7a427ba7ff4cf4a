"""Finished stages are skipped, changed ones are redone, and interrupted ones resume or start again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from device.errors import InputFormatError, InputMissingError, UsageError
from tests.scenes import ROOT
from train.progress import duration
from train.retrain.stages import LOG, MARK, Stage, fingerprints, run_stages

DRIVER = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs tests may ignore it, and hand that on
from pathlib import Path
from tests.train.retrain.test_stages import job
from train.retrain.stages import run_stages
work = Path(sys.argv[1])
run_stages([job(work, "one"), job(work, "two", what=sys.argv[2], resumes=True)], work, lambda words: None)
"""


def job(work: Path, name: str, *, what: str = "work", **more: Any) -> Stage:
    return Stage(name, ["tests.train.job", str(work / name), what], more.pop("settings", {}), **more)


def run(work: Path, *stages: Stage) -> str:
    said: list[str] = []
    run_stages(stages, work, said.append)
    return "".join(said)


def runs(work: Path, name: str) -> list[str]:
    """What the stage's command did since its folder was last emptied."""
    return (work / name / "ran").read_text().split()


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end, "took too long"
        time.sleep(0.05)


def test_a_stage_runs_once_and_says_how_long_it_took(tmp_path: Path) -> None:
    said = run(tmp_path, job(tmp_path, "one"), job(tmp_path, "two", after=["one"]))
    assert [line.split()[0] for line in said.splitlines()] == ["one", "two"]
    assert all(line.endswith(" s") for line in said.splitlines())
    mark = json.loads((tmp_path / "one" / MARK).read_text())
    assert mark["done"] is True and mark["seconds"] >= 0 and (tmp_path / "one" / LOG).is_file()
    said = run(tmp_path, job(tmp_path, "one"), job(tmp_path, "two", after=["one"]))
    assert all("done before (" in line for line in said.splitlines())
    assert runs(tmp_path, "one") == runs(tmp_path, "two") == ["work"]


def test_a_changed_setting_redoes_its_stage_and_those_that_read_from_it(tmp_path: Path) -> None:
    def three(**settings: int) -> list[Stage]:
        return [
            job(tmp_path, "one"), job(tmp_path, "two", settings=settings, after=["one"]),
            job(tmp_path, "three", after=["two"]), job(tmp_path, "apart", after=["one"]),
        ]  # fmt: skip

    run(tmp_path, *three(a=1))
    for name in ("one", "two", "three", "apart"):
        (tmp_path / name / "made").touch()
    run(tmp_path, *three(a=2))
    assert [(tmp_path / name / "made").exists() for name in ("one", "two", "three", "apart")] == [
        True, False, False, True,
    ]  # fmt: skip


def test_a_changed_input_file_redoes_its_stage(tmp_path: Path) -> None:
    given = tmp_path / "clips.csv"
    given.write_text("a")
    before = fingerprints([job(tmp_path, "one", inputs=[given])])
    assert before == fingerprints([job(tmp_path / "moved", "one", inputs=[given], what="other words")])
    given.write_text("b")
    assert before != fingerprints([job(tmp_path, "one", inputs=[given])])
    given.unlink()
    with pytest.raises(InputMissingError, match=r"clips\.csv"):
        run(tmp_path / "work", job(tmp_path, "one", inputs=[given]))
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(("resumes", "kept"), [(True, ["fail", "work"]), (False, ["work"])])
def test_a_failed_stage_resumes_if_it_can_and_otherwise_starts_again(
    resumes: bool, kept: list[str], tmp_path: Path
) -> None:
    with pytest.raises(InputFormatError) as caught:
        run(tmp_path, job(tmp_path, "one", what="fail", resumes=resumes), job(tmp_path, "two"))
    said = str(caught.value)
    assert str(tmp_path / "one" / LOG) in said and "stage one failed" in said and "give the same command again" in said
    assert "clips.csv: no such file. Write one:\n  with columns" in said and "some talk" not in said
    assert not (tmp_path / "two").exists()
    words = run(tmp_path, job(tmp_path, "one", resumes=resumes))
    assert runs(tmp_path, "one") == kept
    assert ("resumed" in words) == resumes


def test_a_command_that_crashes_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="RuntimeError: something broke"):
        run(tmp_path, job(tmp_path, "one", what="crash"))


def test_a_killed_command_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"stage one was ended by SIGKILL\. Check whether memory ran out, and give"):
        run(tmp_path, job(tmp_path, "one", what="kill"))


def test_what_comes_before_the_command_is_done_each_time(tmp_path: Path) -> None:
    def begin() -> None:
        (tmp_path / "one" / "ran").write_text("begun\n")

    run(tmp_path, job(tmp_path, "one", begin=begin))
    assert runs(tmp_path, "one") == ["begun", "work"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"fingerprint": 1}', '{"fingerprint": "x", "seconds": "long"}'])
def test_a_damaged_mark_is_no_mark(content: str, tmp_path: Path) -> None:
    run(tmp_path, job(tmp_path, "one"))
    (tmp_path / "one" / MARK).write_text(content)
    run(tmp_path, job(tmp_path, "one"))
    assert runs(tmp_path, "one") == ["work"] and json.loads((tmp_path / "one" / MARK).read_text())["done"]


def test_a_folder_of_another_program_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="left alone"):
        run(tmp_path, job(tmp_path, "one"))
    assert (tmp_path / "one" / "thesis.tex").read_text() == "years of work"
    (tmp_path / "two").write_text("a file")
    with pytest.raises(UsageError, match="left alone"):
        run(tmp_path, job(tmp_path, "two"))


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        run(tmp_path / "file" / "below", job(tmp_path, "one"))
    with pytest.raises(UsageError, match="cannot be written"):
        run(Path("/proc/nothing"), job(tmp_path, "one"))


def driver(work: Path, what: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", DRIVER, str(work), what], cwd=ROOT, start_new_session=True)


def alive(work: Path) -> list[int]:
    """Processes that were begun for this folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(str(work) in word for word in process.info["cmdline"] or []):
            found.append(process.pid)
    return found


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_command_too_and_the_next_call_goes_on(sign: signal.Signals, tmp_path: Path) -> None:
    first = driver(tmp_path, "hang")
    until((tmp_path / "two" / "hangs").exists)
    first.send_signal(sign)
    assert first.wait(90) != 0
    assert not alive(tmp_path)
    assert json.loads((tmp_path / "two" / MARK).read_text())["done"] is False
    assert driver(tmp_path, "work").wait(90) == 0
    assert runs(tmp_path, "one") == ["work"] and runs(tmp_path, "two") == ["hang", "work"]


def test_while_a_killed_one_leaves_a_command_behind_nobody_else_begins(tmp_path: Path) -> None:
    first = driver(tmp_path, "hang")
    until((tmp_path / "two" / "hangs").exists)
    first.kill()
    first.wait(90)
    left = alive(tmp_path)
    assert len(left) == 2
    with pytest.raises(UsageError, match="works here"):
        run(tmp_path, job(tmp_path, "one"))
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not alive(tmp_path))
    assert "resumed" in run(tmp_path, job(tmp_path, "one"), job(tmp_path, "two", resumes=True))


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "0 s"), (59.4, "59 s"), (61, "1 min 1 s"), (3600, "1 h 0 min"), (9000, "2 h 30 min")]
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words
