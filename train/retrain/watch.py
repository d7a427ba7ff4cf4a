"""The display while a stage works: its progress, and a page with the training so far."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from train.progress import LINE_EVERY_S, read
from train.retrain.report import write_report
from train.retrain.subprocesses import PROGRESS

_LOG = "log.jsonl"  # of a training; it grows after each epoch


class Watcher:
    """Watches the folder of the working stage. On a terminal it rewrites one line; elsewhere it adds one per minute.

    The page is written again after each epoch and each stage.
    """

    def __init__(
        self, work: Path, clips: Path, report: Callable[[str], None], *, terminal: bool,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._work, self._clips, self._tell, self._terminal, self._now_s = work, clips, report, terminal, now_s
        self._logged_s, self._epochs, self._width = now_s(), 0.0, 0

    def __call__(self, folder: Path) -> None:
        """Look at a stage's folder."""
        self._show(folder)
        logs = [path.stat().st_mtime for path in folder.glob(f"**/{_LOG}")]
        if (epochs := max(logs, default=0.0)) != self._epochs:
            self._epochs = epochs
            self.report()

    def report(self) -> None:
        """Write the page."""
        write_report(self._work, self._clips)

    def _show(self, folder: Path) -> None:
        found, now_s = read(folder / PROGRESS), self._now_s()
        if found is None or (not self._terminal and now_s - self._logged_s < LINE_EVERY_S):
            return
        self._logged_s = now_s
        if not self._terminal:
            self._tell(f"{found}\n{folder.name:14}")
            return
        words = f"{folder.name:14}{found}"
        self._tell(f"\r{words:{self._width}}\r{folder.name:14}")
        self._width = len(words)
