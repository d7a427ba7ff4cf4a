"""Reads the configuration again on request, applies what it can, and reports what needs a restart."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

from device.config.settings import Config
from device.errors import UsageError
from device.records import Command, Verb
from device.runtime.config_diff import applied_config, plan_reload
from device.runtime.daemon import Daemon
from device.runtime.sinks import Sinks

_log = logging.getLogger(__name__)


class Reloader:
    """Works in a thread of its own, because reading a file may take longer than measuring can wait."""

    def __init__(self, config: Config, load: Callable[[], Config], apply: Callable[[Config, Config], None]) -> None:
        """`load` reads it and raises UsageError; `apply` gets the old configuration and the one to use from now on."""
        self._config, self._load, self._apply = config, load, apply
        self._requests: queue.SimpleQueue[None] = queue.SimpleQueue()
        threading.Thread(target=self._serve, name="reload", daemon=True).start()

    def request(self) -> None:
        """Reload soon; safe in a signal handler."""
        self._requests.put(None)

    def reload(self) -> None:
        """Reload now, in the caller's thread. A configuration with any problem changes nothing."""
        try:
            new = self._load()
        except UsageError as error:
            _log.error("the settings stay as they are: %s", error, extra={"always": True})
            return
        applied, waiting = plan_reload(self._config, new)
        before, self._config = self._config, applied_config(self._config, new)
        for change in applied:
            _log.info("applied: %s", change, extra={"always": True})
        for change in waiting:
            _log.warning("needs a restart: %s", change, extra={"always": True})
        if not applied and not waiting:
            _log.info("the configuration has not changed", extra={"always": True})
        if applied:  # only now, as it may silence the log
            self._apply(before, self._config)

    def _serve(self) -> None:
        while True:
            self._requests.get()
            try:
                self.reload()
            except Exception:  # measuring goes on, and the next reload may succeed
                _log.exception("reloading")


def reloader(config: Config, load: Callable[[], Config], daemon: Daemon, sinks: Sinks) -> Reloader:
    """The reloader of a running daemon and its sinks. systemd is told while the file is read."""

    def load_and_notify() -> Config:
        sinks.notifier.reloading()
        try:
            return load()
        finally:
            sinks.notifier.reloaded()

    def apply(before: Config, now: Config) -> None:
        sinks.apply_settings(now)
        if (now.measure.profile, now.limits) != (before.measure.profile, before.limits):
            args: dict[str, str | float | bool] = {"profile": now.measure.profile}
            args |= {"early_ms": now.limits.early_ms, "late_ms": now.limits.late_ms}
            daemon.submit(Command(Verb.SET_PROFILE, args, lambda _: None), limited=False)

    return Reloader(config, load_and_notify, apply)
