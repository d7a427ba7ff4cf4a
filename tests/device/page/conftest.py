"""Pages for tests, closed afterwards."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.device.page.served import Served, Showing


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Makes pages, by default with their state in the test's folder."""
    made: list[Served] = []

    def make(state_dir: Path | None = None, **settings: Any) -> Served:
        made.append(Served(state_dir or tmp_path, **settings))
        return made[-1]

    yield make
    for one in made:
        one.page.close()


@pytest.fixture
def served(serve: Callable[..., Served]) -> Iterator[Served]:
    """One that is open, with one of each record, and shows something to whoever looks."""
    one = serve().opened().tell()
    showing = Showing(one.page)
    threading.Thread(target=showing, daemon=True).start()
    yield one
    showing.stop()
