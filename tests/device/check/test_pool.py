"""Workers: a crash, a kill or a hang costs one job; an error of the work and an early end leave no process behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from contextlib import closing

import pytest

from device.check.pool import Lost, each


def work(job: str) -> str:
    match job:
        case "crash":
            os.abort()
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            os._exit(0)
        case "hang":
            time.sleep(600)
        case "raise":
            raise KeyError(job)
    return job.upper()


def limit_s(job: str) -> float:
    return 0.3 if job == "hang" else 60.0


def test_each_job_has_its_answer_whatever_happens_to_its_worker() -> None:
    jobs = ["a", "crash", "b", "killed", "exit", "hang", "c"]
    answers = dict(each(work, jobs, workers=2, limit_s=limit_s))
    assert sorted(answers) == sorted(jobs)
    assert [answers[job] for job in "abc"] == ["A", "B", "C"]
    for job in ("crash", "killed", "exit", "hang"):
        assert isinstance(answers[job], Lost), job
    assert "0 s" in str(answers["hang"]) and "died" in str(answers["crash"])
    assert multiprocessing.active_children() == []


def test_an_error_of_the_work_ends_it_and_so_does_whoever_has_seen_enough() -> None:
    with pytest.raises(KeyError):
        list(each(work, ["raise", "hang"], workers=2, limit_s=lambda _: 60.0))
    assert multiprocessing.active_children() == []
    began_s = time.monotonic()
    with closing(each(work, ["a", "hang", "hang"], workers=2, limit_s=lambda _: 60.0)) as answers:
        assert next(answers) == ("a", "A")
    assert time.monotonic() - began_s < 50 and multiprocessing.active_children() == []


def test_jobs_may_end_as_soon_as_somebody_has_seen_enough() -> None:
    seen: list[str] = []
    jobs = (job for job in ["a", "b", "c", "d"] if len(seen) < 2)
    for job, _ in each(work, jobs, workers=1, limit_s=lambda _: 60.0):
        seen.append(job)
    assert seen[:2] == ["a", "b"] and len(seen) <= 3 and multiprocessing.active_children() == []


def test_nothing_to_do() -> None:
    assert list(each(work, [], workers=2, limit_s=limit_s)) == []
