"""Worker processes, one file at a time each: a crash, a kill or a hang costs only that file.

Each worker has a standard library pool of its own, because a pool that loses a process fails all of its jobs and never
says which one was to blame. Only the parent process handles Ctrl-C; workers end with it, even if it is killed.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import cv2

from device.processes import end_with_parent

Job = TypeVar("Job")
Answer = TypeVar("Answer")

_PREFERRED_VICTIM = "500"  # when memory runs out, a worker is killed rather than something else
_START_S = 120.0
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Lost:
    """The answer for a job whose worker died or hung."""

    why: str


class _Worker(Generic[Job, Answer]):
    """One process, replaced when it dies. For one thread."""

    def __init__(self, work: Callable[[Job], Answer]) -> None:
        self._work = work
        self._pool: ProcessPoolExecutor | None = None
        self._pid: int | None = None

    def do(self, job: Job, limit_s: float) -> Answer | Lost:
        """The answer to a job. Raises what the work raises."""
        try:
            if self._pool is None:
                self._pool = ProcessPoolExecutor(
                    1, mp_context=multiprocessing.get_context("spawn"), initializer=_prepare_process
                )
                self._pid = self._pool.submit(os.getpid).result(_START_S)
            return self._pool.submit(self._work, job).result(limit_s)
        except BrokenExecutor:
            self.end()
            return Lost("its process died: out of memory, or an error in a library")
        except TimeoutError:
            self.end()
            return Lost(f"given up after {limit_s:.0f} s: it hangs, or is long (see --time-limit)")

    def end(self) -> None:
        """End the process at once, whatever it is doing."""
        if self._pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
        self._pid = None
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = None


def each(
    work: Callable[[Job], Answer], jobs: Iterable[Job], *, workers: int, limit_s: Callable[[Job], float]
) -> Generator[tuple[Job, Answer | Lost]]:
    """The jobs with their answers, in the order of completion. Raises what the work raises.

    `work` must be a function of a module, or a partial of one. `jobs` is read, by threads of its own, only as fast as
    they are begun, so that it may end early. Closing the iterator ends all workers at once.
    """
    todo, lock = iter(jobs), threading.Lock()
    done: queue.SimpleQueue[tuple[Job, Answer | Lost | BaseException] | None] = queue.SimpleQueue()  # None: no more
    stopped = threading.Event()

    def serve() -> None:
        worker: _Worker[Job, Answer] = _Worker(work)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited by the processes
        with suppress(StopIteration):
            while not stopped.is_set():
                with lock:
                    job = next(todo)
                try:
                    done.put((job, worker.do(job, limit_s(job))))
                except BaseException as error:  # raised to the caller below
                    done.put((job, error))
        worker.end()
        done.put(None)

    threads = [threading.Thread(target=serve, name="check", daemon=True) for _ in range(workers)]
    try:
        for thread in threads:
            thread.start()
        for _ in threads:
            for job, answer in iter(done.get, None):
                if isinstance(answer, BaseException):
                    raise answer
                yield job, answer
    finally:
        stopped.set()
        while any(thread.is_alive() for thread in threads):
            for process in multiprocessing.active_children():  # including one that has only just been started
                process.kill()
            threads[0].join(_POLL_S)
            threads.sort(key=threading.Thread.is_alive, reverse=True)


def _prepare_process() -> None:
    """Prepare a worker before its first job."""
    end_with_parent()
    cv2.setNumThreads(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # messages of libraries would disturb the progress bar
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_PREFERRED_VICTIM, encoding="ascii")
