"""Set-up of all tests. No test and no hypothesis example has a time limit, because some machines are very slow."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("avdrift", settings(), deadline=None)
settings.load_profile("avdrift")

# Processes that test side by side must not each use every core. Set before numpy, OpenCV or TensorFlow is imported;
# the programs that tests start inherit it.
if "PYTEST_XDIST_WORKER" in os.environ:
    for threads in (
        "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM", "TF_NUM_INTRAOP_THREADS",
        "TF_NUM_INTEROP_THREADS",
    ):  # fmt: skip
        os.environ.setdefault(threads, "1")

# A shell ignores SIGINT in what it runs in the background, and the programs that tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Their files take longest, so they go first: no worker is left alone with them at the end.
_FIRST = ("tests/train/", "tests/convert/")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="run the tests marked soak too, which take many minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Here rather than by a default `-m`, which any other `-m` on the command line would replace."""
    if not config.getoption("soak"):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("soak")])
        items[:] = [item for item in items if not item.get_closest_marker("soak")]
    items.sort(key=lambda item: not item.nodeid.startswith(_FIRST))


@pytest.hookimpl(optionalhook=True)  # emulated machines have no xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file's tests stay on one worker, in their order, and so does tests/convert, which shares what it builds."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            return "tests/convert" if path.startswith("tests/convert/") else path

    return ByFile(config, log)
