"""What a running daemon does on signals: SIGTERM and SIGINT end it cleanly, SIGHUP reloads the configuration."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from device.runtime.daemon import Daemon


@contextmanager
def signal_handlers(daemon: Daemon, reload: Callable[[], None] | None = None) -> Iterator[None]:
    """Install the handlers, and put the previous ones back at the end. Without `reload`, SIGHUP is left alone."""
    actions = dict.fromkeys((signal.SIGTERM, signal.SIGINT), daemon.stop)
    if reload is not None:
        actions[signal.SIGHUP] = reload
    previous = {number: signal.signal(number, lambda *_, act=act: act()) for number, act in actions.items()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
