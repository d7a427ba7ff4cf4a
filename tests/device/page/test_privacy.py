"""No frame and no audio reaches the disk or the log, however long somebody watches."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.device.page.served import Served, Showing, events
from tests.device.telemetry.test_metrics import FULL

MINUTE_MS = 60_000
# A JPEG's beginning, the same in base64, and the sound that is shown, in the ways that sound is stored.
TRACES = [
    b"\xff\xd8\xff",
    b"/9j/",
    *(np.full(8, 0.5 * full).astype(kind).tobytes() for full, kind in ((1, "<f4"), (32767, "<i2"))),
]


def open_files() -> set[Path]:
    return {link.resolve() for link in Path("/proc/self/fd").iterdir()}


def files_since(before: set[Path], folder: Path) -> list[Path]:
    """What lies in a folder, and what this process has opened anywhere."""
    found = {*folder.rglob("*"), *(open_files() - before)}
    return [path for path in found if path.is_file() and path.stat().st_size < 10_000_000]


def test_neither_pictures_nor_sound_are_kept_after_an_hour(
    serve: Callable[..., Served], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = open_files()  # of other tests in this process
    page = serve().opened().tell()
    showing = Showing(page.page)
    threading.Thread(target=showing, daemon=True).start()
    with caplog.at_level(logging.DEBUG), page.stream() as stream:
        lives = (content for kind, content in events(stream) if kind == "live")
        for minute in range(60):
            page.page.report(replace(FULL, t_unix_ms=FULL.t_unix_ms + minute * MINUTE_MS))
        assert [bool(next(lives)["picture"]) for _ in range(5)].count(True) >= 4
        assert page.ask("/api/picture.jpg").body.startswith(TRACES[0])
    showing.stop()
    page.page.close()  # which writes the history
    assert (tmp_path / "page-history.json").is_file()
    kept = {path: path.read_bytes() for path in files_since(before, tmp_path)}
    assert kept and not [(path, trace) for path, content in kept.items() for trace in TRACES if trace in content]
    assert not [trace for trace in TRACES if trace in caplog.text.encode()]
