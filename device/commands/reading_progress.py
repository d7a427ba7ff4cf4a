"""A progress bar for reading a recording, shared by all commands that do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from device.analysis.plot import short_name
from device.capture.container import open_recording
from device.progress import Progress


@contextmanager
def reading_progress(path: Path) -> Iterator[Callable[[float], None]]:
    """The callback for the seconds read so far. Raises CaptureError."""
    with open_recording(path) as container:
        length_s = max(container.duration or 0, 0) / 1e6
    with Progress(short_name(str(path)), length_s) as progress:
        yield progress.set
