"""Reads the configuration again on request, applies what it can, and reports what needs a restart."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

from device.config.settings import Config
from device.errors import UsageError
from device.runtime.config_diff import plan_reload, taken_over

_log = logging.getLogger(__name__)


class Reloader:
    """Works in a thread of its own, because reading a file may take longer than measuring can wait."""

    def __init__(self, config: Config, load: Callable[[], Config], take: Callable[[Config, Config], None]) -> None:
        """`load` reads it and raises UsageError; `take` gets the old configuration and the one to use from now on."""
        self._config, self._load, self._take = config, load, take
        self._asked: queue.SimpleQueue[None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="reload", daemon=True).start()

    def ask(self) -> None:
        """Reload soon; safe in a signal handler."""
        self._asked.put(None)

    def reload(self) -> None:
        """Reload now, in the caller's thread. A configuration with any problem changes nothing."""
        try:
            new = self._load()
        except UsageError as error:
            _log.error("the settings stay as they are: %s", error, extra={"always": True})
            return
        taken, waiting = plan_reload(self._config, new)
        before, self._config = self._config, taken_over(self._config, new)
        for change in taken:
            _log.info("taken over: %s", change, extra={"always": True})
        for change in waiting:
            _log.warning("needs a restart: %s", change, extra={"always": True})
        if not taken and not waiting:
            _log.info("the configuration is what it was", extra={"always": True})
        if taken:  # only now, as it may silence the log
            self._take(before, self._config)

    def _work(self) -> None:
        while True:
            self._asked.get()
            try:
                self.reload()
            except Exception:  # measuring goes on, and the next reload may succeed
                _log.exception("reloading")
