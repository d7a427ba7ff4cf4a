"""Progress of long work: a bar on a terminal, a line a minute elsewhere, and a small file for the calling process."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

FILE_VARIABLE = "AVDRIFT_PROGRESS"  # names the file
LINE_EVERY_S = 60.0
_FILE_EVERY_S = 1.0

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of one piece of work."""

    what: str
    done: int
    total: int
    passed_s: float
    before: int = 0  # done before the time began

    def __str__(self) -> str:
        return f"{self.what}: {self.done} of {self.total}{self._left()}"

    def _left(self) -> str:
        if self.done <= self.before or self.done >= self.total:
            return ""
        return f", {duration(self.passed_s * (self.total - self.done) / (self.done - self.before))} left"


def duration(seconds: float) -> str:
    """For people: the two largest units."""
    minutes, rest = divmod(round(seconds), 60)
    hours, left = divmod(minutes, 60)
    return f"{hours} h {left} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def with_progress(
    items: Iterable[Item], what: str, total: int, unit: str, *, before: int = 0, quiet: bool = False
) -> Iterator[Item]:
    """Yield the items while showing the progress; `before` of the total were done by an earlier call.

    The time left is that of the pace after the first item, which may take far longer: graphs are built, models loaded.
    """
    if quiet:
        yield from items
        return
    if sys.stderr.isatty():
        yield from tqdm(items, desc=what, total=total, initial=before, unit=unit)
        return
    file = os.environ.get(FILE_VARIABLE)
    began_s = time.monotonic()
    lined_s = filed_s = began_s
    for done, item in enumerate(items, before + 1):
        yield item
        now_s = time.monotonic()
        if done == before + 1:
            began_s = now_s
        found = Progress(what, done, total, now_s - began_s, before + 1)
        if now_s - lined_s >= LINE_EVERY_S:
            lined_s = now_s
            print(found, file=sys.stderr, flush=True)
        if file and now_s - filed_s >= _FILE_EVERY_S:
            filed_s = now_s
            _write(Path(file), found)


def read(file: Path) -> Progress | None:
    """A command's progress; None if there is none, or it is just being written."""
    try:
        return Progress(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _write(file: Path, found: Progress) -> None:
    with suppress(OSError):  # nobody's work ends because progress cannot be shown
        partial = file.with_suffix(f".{os.getpid()}.part")
        partial.write_text(json.dumps(asdict(found)), encoding="utf-8")
        partial.replace(file)
